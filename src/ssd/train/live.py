"""The loss's decomposition during training, on a few positions that are always the same.

N positions, D hidden width, V vocabulary, K tokens of the largest support.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ssd.arms import BASE
from ssd.artifacts.files import replacing
from ssd.artifacts.fingerprints import fingerprint
from ssd.artifacts.names import BASE_TARGET
from ssd.config.settings import AnalyseConfig
from ssd.method.decomposition import Decomposition, Target, decompose, has_target, target
from ssd.models.vocabulary import unnamed_ids
from ssd.run import Run, lineage
from ssd.run.rounds import accumulated, begun_from, drawn_by
from ssd.run.tracking import Tracker
from ssd.train.batches import Example, collate
from ssd.train.examples import Examples
from ssd.train.loss import loss_tokens
from ssd.train.module import SelfDistillation
from ssd.train.network import without_dropout

PART_ELEMENTS = 2**22
"""Logits that are decomposed at once: some ten float64 tensors of 34 MB each."""
PREFIX = "decomposition/"


def choose(examples: Examples, settings: AnalyseConfig) -> list[Example]:
    """The first tokens of `live_samples` completions, one per prompt, chosen by the hash of their
    prompts' ids; prompts are whole."""
    chosen: dict[bytes, int] = {}  # the first example of each prompt, by the prompt's hash
    names = zip(examples.prompt_ids(), examples.num_loss_tokens, strict=True)
    for index, (name, num_loss_tokens) in enumerate(names):
        if num_loss_tokens > 0:
            chosen.setdefault(hashlib.sha256(f"live\0{name}".encode()).digest(), index)
        if len(chosen) > settings.live_samples:
            del chosen[max(chosen)]
    return [
        replace(example, token_ids=example.token_ids[: example.num_prompt + settings.live_tokens])
        for example in (examples[chosen[digest]] for digest in sorted(chosen))
    ]


def in_rows(examples: Sequence[Example], capacity: int) -> list[list[Example]]:
    """Rows of neighbouring examples, of up to `capacity` tokens, none empty. Unlike training's rows
    these keep the order, so a stored target fits whatever the capacity is."""
    rows: list[list[Example]] = []
    filled = 0
    for example in examples:
        filled += len(example.token_ids)
        if not rows or filled > capacity:
            rows.append([])
            filled = len(example.token_ids)
        rows[-1].append(example)
    return rows


class LiveDecomposition(Callback):
    """Measures the terms before the first step and at evenly spread steps, the last one included.

    The base model's target is computed once, from the network before its first step in training's
    own precision, and kept in a file, so that a resumed training is compared with the same base.
    Every process takes part in the forward passes, which gather sharded weights; the first one
    measures. Nothing here draws a random number or touches a gradient: the trained weights are the
    same without it.

    Stands before `StepMetrics` in the trainer's list, whose line of the step then holds the terms.
    """

    def __init__(self, examples: Examples, run: Run, folder: Path, tracker: Tracker | None) -> None:
        settings = run.config.analyse
        self.sampling = lineage.target(run)
        self.examples = choose(examples, settings)
        train, hardware = run.config.train, run.config.hardware
        self.packing = train.packing
        self.rows = in_rows(
            self.examples, (hardware.micro_batch_tokens or train.seq_len) if train.packing else 0
        )
        self.max_steps = train.max_steps
        self.every = max(1, math.ceil(self.max_steps / max(settings.live_points, 1)))
        # The loss parts by the target that it is against, which is the network's own before the
        # first step: in a later round only where that has drawn all samples.
        fits_start = begun_from(run) == drawn_by(run) and len(accumulated(run)) == 1
        self.active = bool(
            settings.live_points
            and self.examples
            and self.sampling is not None
            and has_target(self.sampling.temp)
            and fits_start
        )
        unnamed = unnamed_ids(lineage.model_folder(run, BASE))
        self.unnamed = torch.tensor(unnamed) if unnamed else None
        self.path = folder / BASE_TARGET
        self.tracker = tracker
        """Of the first process; None in the others."""
        self.target: Target | None = None
        """At all positions, on the CPU of the first process."""

    @property
    def identity(self) -> str:
        """What a stored target belongs to."""
        shown = [[example.token_ids.tolist(), example.num_prompt] for example in self.examples]
        return fingerprint({"examples": shown, "sampling": self.sampling})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the base model's target, and measure before the first step."""
        assert isinstance(pl_module, SelfDistillation)
        if not self.active:
            return
        if pl_module.step:
            # All processes go on measuring, or none: they wait for each other in every pass.
            self.active = trainer.strategy.broadcast(self.tracker is None or self._read())
            return
        metrics = self._measure(trainer, pl_module)
        if self.tracker is not None:
            self.tracker.log(metrics, step=0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Measure if the step is due."""
        assert isinstance(pl_module, SelfDistillation)
        due = pl_module.step % self.every == 0 or pl_module.step == self.max_steps
        if self.active and due:
            began = time.monotonic()
            pl_module.metrics |= self._measure(trainer, pl_module)
            pl_module.started += time.monotonic() - began  # no part of the next step

    def _measure(self, trainer: Trainer, module: SelfDistillation) -> dict[str, float]:
        """Means over the positions, by the metric's name; nothing in all processes but the first.
        The first measurement is of the base model, which gives the target."""
        how = self.sampling
        assert how is not None  # else nothing is active
        targets: list[Target] = []
        measures: list[Decomposition] = []
        start = 0

        def visit(logits: Tensor) -> None:
            nonlocal start
            if self.target is None:
                part = target(logits, how.temp, how.top_k, how.top_p, self.unnamed)
                targets.append(part.to(torch.device("cpu")))
            else:
                part = self.target[start : start + len(logits)].to(logits.device)
            measures.append(decompose(part, logits))
            start += len(logits)

        self._visit_logits(trainer, module, visit)
        if not measures:
            return {}
        if targets:
            self.target = joined(targets)
            write_target(self.path, self.target, self.identity)
        return {
            PREFIX + field.name: float(
                torch.cat([getattr(measure, field.name) for measure in measures]).mean()
            )
            for field in fields(Decomposition)
        }

    @torch.no_grad()
    def _visit_logits(
        self, trainer: Trainer, module: SelfDistillation, visit: Callable[[Tensor], None]
    ) -> None:
        """Hand `visit` the logits (n, V) of all positions, in order and some at a time, in the
        first process."""
        loss = module.loss

        def measure(hidden: Tensor, head: nn.Linear, labels: Tensor, weights: Tensor) -> Tensor:
            if self.tracker is not None:
                for logits in logit_parts(hidden, head, labels, weights):
                    visit(logits)
            return hidden.new_zeros(())

        with without_dropout(loss), trainer.precision_plugin.train_step_context():
            for row in self.rows:
                batch = collate(row, [0.0] * len(row), packing=self.packing)
                loss(batch.to(module.device), measure)
        if isinstance(loss, FSDPModule):
            loss.reshard()  # a backward pass would have done it

    def _read(self) -> bool:
        """Whether the target of the base model was found."""
        self.target = read_target(self.path, self.identity)
        if self.target is None:
            print(
                f"training: no {BASE_TARGET} of this base model: "
                "the decomposition of the loss is not logged",
                flush=True,
            )
        return self.target is not None


def logit_parts(
    hidden: Tensor, head: nn.Linear, labels: Tensor, weights: Tensor
) -> Iterator[Tensor]:
    """Logits (n, V) of the loss tokens in fp32, `PART_ELEMENTS` at a time, computed as the loss
    computes them."""
    chosen, _, _ = loss_tokens(hidden, head, labels, weights)  # (N, D)
    with torch.autocast(hidden.device.type, enabled=False):
        matrix = head.weight.to(chosen.dtype)
        for rows in chosen.split(max(1, PART_ELEMENTS // len(matrix))):
            logits = (rows @ matrix.T).float()
            yield logits if head.bias is None else logits + head.bias


def joined(parts: Sequence[Target]) -> Target:
    """Targets of one sampling, one after the other."""

    def cat(tensors: Sequence[Tensor]) -> Tensor:
        widest = max(tensor.shape[1] for tensor in tensors)
        return torch.cat([F.pad(tensor, (0, widest - tensor.shape[1])) for tensor in tensors])

    token_ids = [part.token_ids for part in parts if part.token_ids is not None]
    return Target(
        cat(token_ids) if token_ids else None,
        cat([part.probs for part in parts]),
        parts[0].temp,
        parts[0].unnamed,
    )


def write_target(path: Path, target: Target, identity: str) -> None:
    """Store a target and what it belongs to, atomically."""
    tensors = {"probs": target.probs.contiguous()}
    if target.token_ids is not None:
        tensors["token_ids"] = target.token_ids.contiguous()
    if target.unnamed is not None:
        tensors["unnamed"] = target.unnamed
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"identity": identity, "temp": repr(target.temp)})


def read_target(path: Path, identity: str) -> Target | None:
    """The stored target; None if there is none for these examples and this sampling."""
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        if facts["identity"] != identity:
            return None
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Target(
        tensors.get("token_ids"), tensors["probs"], float(facts["temp"]), tensors.get("unnamed")
    )
