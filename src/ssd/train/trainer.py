"""Training one run with Lightning: one process, or one per device under torchrun."""

import dataclasses
import logging
import os
import resource
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from transformers import AutoConfig

from ssd.artifacts.files import explained
from ssd.artifacts.names import ADAPTER, BASE_TARGET, CORPUS, MODEL, STEP_OPTIMIZER
from ssd.artifacts.store import Artifact
from ssd.config.choices import Accelerator, AdapterType, Precision
from ssd.config.settings import HardwareConfig, RunConfig
from ssd.errors import ArtifactError, PreemptedError
from ssd.models.vocabulary import unnamed_ids
from ssd.models.weights import has_experts
from ssd.records.stored import StoredSamples
from ssd.run import Run, lineage
from ssd.run.lineage import step_folders
from ssd.run.rounds import begun_from, drawn_by
from ssd.run.tracking import Tracker
from ssd.runtime.precision import product_precision
from ssd.runtime.progress import silence_loading_bars
from ssd.train import checkpoints
from ssd.train.callbacks import Checkpoints, StepMetrics, kept_step
from ssd.train.continuing import take_over
from ssd.train.data import CorpusDataModule, Steps
from ssd.train.examples import make_examples
from ssd.train.export import export, gather_weights
from ssd.train.live import LiveDecomposition
from ssd.train.module import SelfDistillation
from ssd.train.rows import choose_rows

LIGHTNING_PRECISION = {Precision.fp32: "32-true", Precision.bf16: "bf16-mixed"}


def train(run: Run) -> None:
    """Train, export and check the run's model; returns at once where its checkpoint is finished.

    Raises:
        ArtifactError: the corpus is unfinished, the model that training begins with is not as it
            was exported, or a checkpoint belongs to another configuration.
        DataError: the corpus does not fit the model or the settings.
        PreemptedError: a signal asked to stop; a checkpoint was written.
    """
    checkpoint = lineage.checkpoint(run)
    leads = int(os.environ.get("RANK", "0")) == 0
    with checkpoint.writing() if leads else nullcontext(), explained(checkpoint.folder):
        if checkpoint.done:
            if leads:
                drop(unlisted(checkpoint))
            print(f"up to date: {checkpoint.folder}", flush=True)
            return
        corpora = lineage.corpora(run)
        for corpus in corpora:
            if not corpus.done:
                raise ArtifactError(
                    f"{corpus.folder} is unfinished: sample first, with ssd sample {run.folder}"
                )
            lineage.require_unchanged(corpus, run.config.train.corpus and "train.corpus")
        if leads:
            take_over(run, checkpoint)
        lineage.require_model(*begun_from(run))
        if run.config.objective.reads_base:
            lineage.require_model(*drawn_by(run))
        samples = StoredSamples(*(corpus.folder / CORPUS for corpus in corpora))
        _fit(run, checkpoint, samples, leads=leads)


def _fit(run: Run, checkpoint: Artifact, samples: StoredSamples, *, leads: bool) -> None:
    started = time.time()
    _quiet()
    run, note = with_rows(run)
    config = run.config
    steps, counts = plan_steps(run, samples)
    if note is not None and leads:
        print(f"training: {note}: {steps.padding():.0%} of what is computed", flush=True)
    attention_alone = config.adapter.type is not AdapterType.none and not config.adapter.experts
    if leads and attention_alone and has_experts(lineage.model_folder(run, "base")):
        print("training: adapters in attention alone (adapter.experts=false)", flush=True)
    seed_everything(config.seed, verbose=False)
    module = SelfDistillation(run)
    with (
        Tracker(run, "train", checkpoint.fingerprint, checkpoint.folder)
        if leads
        else nullcontext() as tracker
    ):
        live = LiveDecomposition(steps.examples, run, checkpoint.folder, tracker)
        metrics = [] if tracker is None else [StepMetrics(config.train.max_steps, tracker)]
        # Metrics first: a run that is killed between them and a checkpoint must not resume behind a
        # step that its metrics have not seen.
        saving = Checkpoints(checkpoint, config, steps, tracker)
        trainer = make_trainer(config, [live, *metrics, saving])
        trainer.fit(module, datamodule=CorpusDataModule(steps))
        counts |= parameter_counts(module.loss.network)
        preempted = module.step < config.train.max_steps
        # The moments, twice as large as the weights, are freed before the weights are gathered.
        trainer.strategy.optimizers = []
        weights = {} if preempted else gather_weights(module.loss)
        if trainer.world_size > 1:
            # A rank that exits with its group alive can abort in gloo's threads.
            torch.distributed.destroy_process_group()
        if preempted:
            raise PreemptedError(
                f"stopped by a signal after step {module.step} of {config.train.max_steps}, with a "
                "checkpoint: the same command goes on from there"
            )
        del module, trainer
        if leads:
            export_check = export(weights, run, checkpoint.folder)
            counts["peak_memory_gib"] = round(peak_memory_gib(config.hardware), 2)
            computed_in = product_precision(config.train.precision, config.hardware).value
            leftovers = states(checkpoint.folder, config)
            checkpoint.finish(
                leftovers, started=started, counts=counts, export_check=export_check,
                computed_in=computed_in,
            )  # fmt: skip
            # Only now: hashing takes minutes, and whoever is killed there goes on from these.
            drop(leftovers)
            for part in (MODEL, ADAPTER):
                folder = checkpoint.folder / part
                if tracker is not None and folder.is_dir():
                    tracker.reference(folder, f"{part}-{checkpoint.fingerprint}")


def with_rows(run: Run) -> tuple[Run, str | None]:
    """The run with rows that its architecture allows, and why they hold one document each where
    more were wanted. No fingerprint depends on it."""
    config = run.config
    rows = choose_rows(lineage.model_folder(run, "base"), config.train, config.hardware)
    train = dataclasses.replace(config.train, packing=rows.packed)
    return dataclasses.replace(run, config=dataclasses.replace(config, train=train)), rows.note


def plan_steps(run: Run, samples: StoredSamples) -> tuple[Steps, dict[str, Any]]:
    """The run's optimizer steps, and the facts about its samples.

    Raises:
        DataError: the corpus does not fit the model or the settings.
    """
    config, train = run.config, run.config.train
    folder = lineage.model_folder(run, "base")
    vocabulary = AutoConfig.from_pretrained(folder).get_text_config().vocab_size
    examples, counts = make_examples(
        samples, train.seq_len, train.long_samples, vocabulary, unnamed_ids(folder)
    )
    steps = Steps(
        examples,
        batch_size=train.global_batch_size,
        micro_batch_tokens=config.hardware.micro_batch_tokens or train.seq_len,
        packing=train.packing,
        norm=config.objective.norm,
        seed=config.seed,
        max_steps=train.max_steps,
    )
    facts: dict[str, Any] = {
        "num_steps": train.max_steps,
        "num_samples": len(examples),
        "epochs": round(train.max_steps * train.global_batch_size / len(examples), 3),
        "num_loss_tokens": int(examples.num_loss_tokens.sum(dtype=np.int64)),
    }
    return steps, counts | facts


def make_trainer(config: RunConfig, callbacks: list[Callback]) -> Trainer:
    """A Lightning trainer for the run's hardware; the steps end it, not a count."""
    hardware = config.hardware
    precision = product_precision(config.train.precision, hardware)
    if hardware.shards:
        precision = Precision.fp32  # FSDP2 casts itself
    return Trainer(
        accelerator=hardware.accelerator.value,
        devices=hardware.devices or 1,
        num_nodes=hardware.num_nodes,
        strategy=make_strategy(hardware),
        plugins=[TorchElasticEnvironment()] if hardware.num_processes > 1 else None,
        precision=LIGHTNING_PRECISION[precision],  # type: ignore[arg-type]
        max_epochs=1,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def make_strategy(hardware: HardwareConfig) -> Any:
    """FSDP2 or DDP over several processes; no strategy object where one process needs none."""
    backend = "gloo" if hardware.accelerator is Accelerator.cpu else "nccl"
    if hardware.cpu_offload:
        backend = "cpu:gloo,cuda:nccl"  # the norm of offloaded gradients is summed on the CPU
    if hardware.shards:
        # "auto" would mean tensor parallelism over all devices.
        strategy = Sharded if hardware.cpu_offload else ModelParallelStrategy
        return strategy(
            data_parallel_size=hardware.num_processes,
            tensor_parallel_size=1,
            process_group_backend=backend,
        )
    if hardware.num_processes > 1:
        return DDPStrategy(process_group_backend=backend, gradient_as_bucket_view=True)
    return "auto"


class Sharded(ModelParallelStrategy):
    """FSDP2 whose weights stay in main memory."""

    def model_to_device(self) -> None:
        """FSDP2 brings weights to the GPU layer by layer."""


def states(folder: Path, config: RunConfig) -> list[Path]:
    """Everything but what a finished training keeps: earlier checkpoints, weights only, and the
    state that a longer training goes on from."""
    train, earlier = config.train, step_folders(folder)
    target = [] if train.keep_optimizer else [folder / BASE_TARGET]
    earlier.pop(kept_step(train), None)
    exported = [earlier.pop(train.max_steps)] if train.max_steps in earlier else []
    keep = None if train.keep_checkpoints is None else train.keep_checkpoints - 1
    return [*target, *exported, *checkpoints.superfluous(earlier, keep, 0)]


def unlisted(checkpoint: Artifact) -> list[Path]:
    """The same of a finished training that was killed while it deleted them: what its manifest does
    not list."""
    folder, files = checkpoint.folder, checkpoint.manifest()["files"]
    steps = step_folders(folder).values()
    candidates = [folder / BASE_TARGET, *steps, *(step / STEP_OPTIMIZER for step in steps)]

    def is_listed(path: Path) -> bool:
        return any(folder / name == path or path in (folder / name).parents for name in files)

    return [path for path in candidates if not is_listed(path)]


def drop(paths: list[Path]) -> None:
    """Delete files, checkpoints, and parts of checkpoints, as far as they are there."""
    for path in paths:
        path.unlink(missing_ok=True) if path.is_file() else checkpoints.remove(path)


def peak_memory_gib(hardware: HardwareConfig) -> float:
    """The most memory that this process has held: on a GPU what PyTorch's allocator has given to
    tensors, without CUDA's own; on a CPU all of the process."""
    if hardware.accelerator is Accelerator.gpu:
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def parameter_counts(network: torch.nn.Module) -> dict[str, int]:
    """Parameters in all and trained; those in 4 bits lie packed, two to a byte."""

    def size(parameter: Any) -> int:
        return int(getattr(parameter, "quant_state", parameter).shape.numel())

    parameters = list(network.parameters())
    return {
        "num_parameters": sum(map(size, parameters)),
        "num_trainable": sum(size(p) for p in parameters if p.requires_grad),
    }


def _quiet() -> None:
    silence_loading_bars()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
