"""The LightningModule: one call of `training_step` is one optimizer step."""

import functools
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import instantiate
from lightning import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from ssd.artifacts.fingerprints import plain
from ssd.config.choices import Attention, Schedule
from ssd.config.settings import OptimizerConfig, TrainConfig
from ssd.errors import SSDError
from ssd.models.network import check_head
from ssd.run import Run, lineage
from ssd.train.attention import check_isolation
from ssd.train.data import Step
from ssd.train.flash import use_flash_3
from ssd.train.network import CompletionLoss
from ssd.train.network import build as build_network
from ssd.train.recurrent import recurrent_modules
from ssd.train.sharding import fill, shard

if TYPE_CHECKING:
    from ssd.train.compiled import CompiledLayers

NAMED_SAMPLES = 8
"""Sample ids that an error about a step names."""


def learning_rate_factor(step: int, train: TrainConfig, floor: float) -> float:
    """Share of the peak learning rate at `step` (from 0): linear warm-up, then by the schedule, to
    `floor` at the last step. Warm-up, stable, decay is Hu et al. 2024 (arXiv:2404.06395,
    section 4), here with a straight decay."""
    if step < train.warmup_steps:
        return (step + 1) / train.warmup_steps
    if train.schedule is Schedule.constant:
        return 1.0
    last = train.max_steps - 1
    # The last step at the peak: of wsd the one before its decay, else the first after the warm-up.
    peak = last - train.num_decay_steps if train.schedule is Schedule.wsd else train.warmup_steps
    progress = min(max(step - peak, 0) / max(last - peak, 1), 1.0)
    if train.schedule is Schedule.cosine:
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - (1 - floor) * progress


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices; none on norms, which are vectors, and on biases, which
    mixture-of-experts models stack to matrices."""
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]

    def decays(name: str, parameter: Tensor) -> bool:
        return parameter.ndim >= 2 and not name.endswith("bias")

    return [
        {"params": [p for n, p in trainable if decays(n, p)], "weight_decay": weight_decay},
        {"params": [p for n, p in trainable if not decays(n, p)], "weight_decay": 0.0},
    ]


def make_optimizer(
    config: OptimizerConfig, model: nn.Module, *, compiles: bool = False
) -> torch.optim.Optimizer:
    """The configured optimizer; in 8 bits, embeddings keep 32-bit moments, whose rare and large
    gradients need them (Dettmers et al. 2021, arXiv:2110.02861, section 2.3).

    Args:
        compiles: whether 8-bit moments that shard are updated by a compiled step.
    """
    settings = plain(config)
    groups = parameter_groups(model, settings.pop("weight_decay"))
    embeddings = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    if config.is_8bit and config.may_shard:
        settings |= {"whole": embeddings, "compiles": compiles}
    elif config.is_8bit:
        from bitsandbytes.optim import GlobalOptimManager

        manager = GlobalOptimManager.get_instance()
        manager.initialize()  # it knows weights by id(), also those of an earlier optimizer
        manager.override_config(embeddings, "optim_bits", 32)
    if config._target_ == "torch.optim.AdamW":
        settings["fused"] = True  # the default makes a temporary as large as the weights
    optimizer = instantiate(settings, params=groups, _convert_="all")
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def clip_gradients(parameters: list[nn.Parameter], max_norm: float) -> float:
    """Scale gradients down to a norm of `max_norm`, as PyTorch's `clip_grad_norm_` does, and return
    the norm that they had, over all shards."""
    norm: Any = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    # Well below the limit PyTorch's function multiplies all gradients by 1.
    if value > 0.99 * max_norm:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return value


class SelfDistillation(LightningModule):
    """Fine-tuning on the model's own samples.

    Optimization is manual, because the number of micro-batches differs from step to step and each
    carries its tokens' weights: their losses are added up, never averaged.
    """

    loss: CompletionLoss
    """Set by `configure_model`."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.run = run
        self.step = 0
        """Optimizer steps taken."""
        self.compiled: CompiledLayers | None = None
        """None where layers are not compiled, or no longer."""
        self.metrics: dict[str, float] = {}
        """Of the last step, over all processes."""
        self.stop_requested = False
        """Whether this process was asked to stop, which can happen at any time."""
        self.stops = False
        """Whether any process was asked to stop when the last step was summed; equal in all."""
        self.started = time.monotonic()
        """Start time of the current step."""

    def configure_model(self) -> None:
        """Load the weights; under FSDP2 build without memory, shard, then fill."""
        if hasattr(self, "loss"):
            return
        config, folder = self.run.config, lineage.start_folder(self.run)
        device = self.trainer.strategy.root_device
        objective = lineage.objective(self.run)
        settings = (folder, config.adapter, config.train, objective, config.hardware)
        build = functools.partial(build_network, teacher=lineage.teacher_folder(self.run))
        if config.hardware.attention is Attention.flash_attention_3:
            use_flash_3(device)
        if not config.hardware.shards:
            self.loss = build(*settings, device=device)
            check_head(self.loss.network)
            self._compile_layers()
            return
        torch.manual_seed(config.seed)
        source = build(*settings, device=device) if self.global_rank == 0 else None
        if source is not None:
            check_head(source.network)
        self.loss = build(*settings, device=device, empty=True)
        self._compile_layers()  # before sharding, whose hooks then stay outside
        assert self.device_mesh is not None
        shard(self.loss, self.device_mesh["data_parallel"], config.train, config.hardware)
        fill(self.loss, source, torch.device("cpu") if config.hardware.cpu_offload else device)

    def _compile_layers(self) -> None:
        if not self.run.config.hardware.compile_training:
            return
        from ssd.train.compiled import CompiledLayers  # imports the compiler

        # Gated delta nets loop over a row's chunks, which would be compiled anew for every length.
        layers = [layer for layer in self.loss.body.layers if not recurrent_modules(layer)]
        self.compiled = CompiledLayers(layers)

    def _require_compiled(self, failures: float) -> None:
        """Go on without compiled layers in all processes if the compiler failed in any."""
        if self.compiled is None or not failures:
            return
        if self.global_rank == 0:
            print(
                "training: layers are not compiled "
                f"({self.compiled.failure or 'the compiler failed in another process'}); "
                "hardware.compile_training=false silences this",
                flush=True,
            )
        self.compiled.give_up()
        self.compiled = None

    @property
    def _compiler_failed(self) -> float:
        return float(self.compiled is not None and self.compiled.failure is not None)

    def on_train_start(self) -> None:
        """Check that packed documents do not see each other, which compiles the layers."""
        train = self.run.config.train
        if train.packing and train.isolation_check:
            with self.trainer.precision_plugin.train_step_context():
                config = self.loss.model.config
                vocabulary = config.get_text_config().vocab_size
                check_isolation(self.loss, config._attn_implementation, vocabulary, self.device)
            self._require_compiled(*self._sum_over_processes([self._compiler_failed]))
        self.started = time.monotonic()

    def training_step(self, step: Step, index: int) -> None:
        """Add up the gradients of the step's micro-batches, clip, and update the weights."""
        torch.manual_seed(self.run.config.seed * 1_000_003 + step.index)  # adapters may drop out
        total = torch.zeros((), device=self.device)
        for micro_batch, synchronising in self._micro_batches(step):
            with synchronising:
                loss: Tensor = self.loss(micro_batch.to(self.device))
                # Both strategies average gradients over processes; the weights already sum to 1.
                self.manual_backward(loss * self.trainer.world_size)
            total += loss.detach()
        self._update(step, total)

    def _micro_batches(self, step: Step) -> Iterator[tuple[Any, AbstractContextManager[Any]]]:
        """Micro-batches, and what surrounds their backward pass: DDP exchanges gradients once per
        step, FSDP2 after each, which keeps them sharded."""
        strategy = self.trainer.strategy
        for position, micro_batch in enumerate(step.micro_batches, start=1):
            waits = isinstance(strategy, DDPStrategy) and position < len(step.micro_batches)
            yield micro_batch, strategy.block_backward_sync() if waits else nullcontext()  # type: ignore[union-attr]

    def _update(self, step: Step, loss: Tensor) -> None:
        train, optimizer = self.run.config.train, self.optimizers()
        assert not isinstance(optimizer, list)
        # Queued before the loss is read, so that the process waits for the device only once.
        norm = clip_gradients([p for p in self.parameters() if p.requires_grad], train.grad_clip)
        loss_value, stops, failures = self._sum_over_processes(
            [float(loss), float(self.stop_requested), self._compiler_failed]
        )
        self._require_compiled(failures)
        self._require_finite("loss", loss_value, step)
        self._require_finite("gradient norm", norm, step)
        rate = self.learning_rate(step.index)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        self.step = step.index + 1
        self.stops = stops > 0
        now = time.monotonic()
        self.metrics = {
            "train/loss": loss_value,
            "train/lr": rate,
            "train/grad_norm": norm,
            "train/num_loss_tokens": step.num_loss_tokens,
            "train/num_tokens": step.num_tokens,
            "train/tokens_per_second": step.num_tokens / (now - self.started),
            "train/fill": step.fill,
        }
        if self.device.type == "cuda":
            self.metrics["train/peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.started = now

    def learning_rate(self, index: int) -> float:
        """Of step `index` (from 0), by `train.schedule`."""
        train, peak = self.run.config.train, self.run.config.optimizer.lr
        return peak * learning_rate_factor(index, train, floor=train.min_lr / peak)

    def _require_finite(self, what: str, value: float, step: Step) -> None:
        if math.isfinite(value):
            return
        names, more = ", ".join(step.prompt_ids(NAMED_SAMPLES)), ""
        if len(step.members) > NAMED_SAMPLES:
            more = f" and {len(step.members) - NAMED_SAMPLES} more"
        raise SSDError(
            f"step {step.index + 1}: the {what} is {value}, on samples {names}{more}; "
            "lower optimizer.lr, or set train.precision=fp32. The last checkpoint is kept"
        )

    def _sum_over_processes(self, values: list[float]) -> list[float]:
        if self.trainer.world_size == 1:
            return values
        tensor = torch.tensor(values, device=self.device)
        torch.distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The configured optimizer; its learning rate is set at every step."""
        config = self.run.config
        compiles = bool(config.hardware.compile_training)
        return make_optimizer(config.optimizer, self.loss, compiles=compiles)
