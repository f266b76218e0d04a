"""Steps, tokens, floating-point operations, time and disk of a training."""

import math
from dataclasses import dataclass

from ssd.config.choices import Accelerator, AdapterType, Dtype, Recompute
from ssd.config.settings import AdapterConfig, HardwareConfig, RunConfig, TrainConfig
from ssd.plan.activations import input_bytes, widths
from ssd.plan.architecture import Architecture
from ssd.plan.memory import FP32, moment_bytes, num_trained
from ssd.plan.workload import Workload
from ssd.run.lineage import RESUMABLE
from ssd.runtime.devices import peak_tflops
from ssd.runtime.precision import product_precision

UTILIZATION = {
    Recompute.full: (0.248, 0.341),
    Recompute.selective: (0.275, 0.341),
    Recompute.none: (0.289, 0.418),
}
"""Share of an H200's 989 TFLOP/s that full fine-tuning of Qwen3-4B's shape reached on one card, by
recomputation in all layers: eager (9,450, 10,470 and 11,010 tokens per second of 26 GFLOP), and
with compiled layers (12,980 and 15,910). Selective recomputation has not been run compiled: the
share of full recomputation, which does more again. Several GPUs have not been measured."""
EXPERTS_UTILIZATION = 0.18
"""The same of mixtures of experts: of prime-rl's 30B-A3B on 8 x H200 (docs/training.md)."""
BUS = 25e9
"""Bytes per second between a GPU and pinned main memory, in each direction: of the 32 GB/s of PCIe
4.0 with 16 lanes; an assumption, on the safe side of an H100's PCIe 5.0."""
CPU_UTILIZATION = 0.75
"""The same of the rate of fp32 products on a CPU: 200 tokens per second of SmolLM2-135M, in bf16,
where numpy's products ran at 0.205 TFLOP/s, on two cores one of which was busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of a training."""

    num_steps: int
    num_tokens: float
    tokens_per_step: float
    epochs: float | None
    """None where the number of samples is not known."""
    flop_per_token: float
    attention_share: float
    """Of `flop_per_token`."""
    tokens_per_second: float
    """Of one process."""
    speed_source: str
    seconds: float


def longest_row(config: RunConfig, longest_sample: int) -> int:
    """Tokens of the longest micro-batch that training can meet: a full one, or a sample that is
    longer, but no more than a process's samples of one step."""
    capacity = config.hardware.micro_batch_tokens or config.train.seq_len
    samples = math.ceil(config.train.global_batch_size / config.hardware.num_processes)
    return min(max(capacity, longest_sample), samples * longest_sample)


def mean_row(config: RunConfig, mean_sample: float) -> float:
    """Tokens of a micro-batch when a step's samples, all of mean length, fill rows evenly."""
    capacity = config.hardware.micro_batch_tokens or config.train.seq_len
    processes = config.hardware.num_processes
    tokens = config.train.global_batch_size * mean_sample
    return tokens / (math.ceil(tokens / capacity / processes) * processes)


def flop_per_token(
    model: Architecture, adapter: AdapterConfig, context: float, *, reads_base: bool = False
) -> tuple[float, float]:
    """Floating-point operations per trained token, in all and of attention; recomputation is not
    counted.

    6 per active parameter: 2 forward, 2 for the gradients of activations and 2 for those of
    weights, which frozen ones do not need (experts with adapters do). Attention: 12 Q per layer and
    token looked back at, with Q the width of all query heads (Chowdhery et al. 2022,
    arXiv:2204.02311, appendix B): half of the sample's `context` tokens on average, fewer where a
    window is shorter. Where the objective
    reads the base model, its forward pass comes on top: 2 per active parameter, 4 Q.
    """
    matrices = 6.0 * model.num_active
    if adapter.type is not AdapterType.none:
        matrices = 4.0 * model.num_active
        matrices += 6.0 * (model.num_adapter - model.num_expert_adapter)
        matrices += 2.0 * model.num_active_experts * bool(model.num_expert_adapter)
    attention = 0.0
    for window in model.windows:
        visible = context / 2
        if window is not None and window < context:
            visible = window - window**2 / (2 * context)
        attention += (16 if reads_base else 12) * model.query_size * visible
    if reads_base:
        matrices += 2.0 * model.num_active
    return matrices + attention, attention


def estimate(model: Architecture, config: RunConfig, workload: Workload) -> Work:
    """The work of `config`'s training, and its time at a stated speed."""
    train, samples = config.train, workload.num_samples
    per_step = train.global_batch_size * workload.mean_tokens
    num_tokens = train.max_steps * per_step
    total, attention = flop_per_token(
        model,
        config.adapter,
        workload.context_tokens,
        reads_base=config.objective.reads_base,
    )
    speed, source = _speed(model, config, workload.context_tokens)
    return Work(
        num_steps=train.max_steps,
        num_tokens=num_tokens,
        tokens_per_step=per_step,
        epochs=train.max_steps * train.global_batch_size / samples if samples else None,
        flop_per_token=total,
        attention_share=attention / total,
        tokens_per_second=speed,
        speed_source=source,
        seconds=num_tokens / (speed * config.hardware.num_processes),
    )


def _speed(model: Architecture, config: RunConfig, context: float) -> tuple[float, str]:
    """Tokens per second of one process. Adapters are taken to be as fast as full fine-tuning: on
    one H200 they ran 9,580 tokens per second (LoRA) against 9,450."""
    plan, hardware = config.plan, config.hardware
    if plan.tokens_per_second is not None:
        return plan.tokens_per_second, "plan.tokens_per_second"
    peak, whose = (plan.peak_tflops, "") if plan.peak_tflops else peak_tflops(hardware)
    share = plan.utilization or utilization(model, config)
    words = (
        f"assumed: {share:.0%} of {whose}{peak:.3g} TFLOP/s (plan.utilization, plan.peak_tflops)"
    )
    full, _ = flop_per_token(
        model, AdapterConfig(), context, reads_base=config.objective.reads_base
    )
    speed = peak * 1e12 * share / full
    if moved := bus_bytes(model, config):
        words += f", and {moved / 2**20:.2f} MiB of a token over a bus of {BUS / 1e9:.0f} GB/s"
    return 1 / (1 / speed + moved / BUS), words


def bus_bytes(model: Architecture, config: RunConfig) -> int:
    """Bytes of a token that cross a GPU's bus under `hardware.offload_activations`, there and back.
    Nothing is taken to be computed meanwhile."""
    hardware = config.hardware
    if not hardware.offload_activations:
        return 0
    precision = product_precision(config.train.precision, hardware)
    width = widths(precision, config.adapter.type, shards=hardware.shards)
    return 2 * hardware.num_recomputed(model.num_layers) * input_bytes(model, width, 1)


def utilization(model: Architecture, config: RunConfig) -> float:
    """Share of the matrix peak that training is assumed to reach."""
    if config.hardware.accelerator is Accelerator.cpu:
        return CPU_UTILIZATION
    if model.num_experts:
        return EXPERTS_UTILIZATION
    return dense_utilization(config.hardware, model.num_layers)


def dense_utilization(hardware: HardwareConfig, num_layers: int) -> float:
    """The same of a model without experts: layers that recompute take the time of their kind, the
    others that of none, which is arithmetic between what was measured."""
    recomputed = hardware.num_recomputed(num_layers) / num_layers
    which = 1 if hardware.compile_training else 0
    slow = 1 / UTILIZATION[hardware.activation_checkpointing][which]
    fast = 1 / UTILIZATION[Recompute.none][which]
    return 1 / (recomputed * slow + (1 - recomputed) * fast)


def disk_bytes(model: Architecture, config: RunConfig, num_trainings: int = 1) -> dict[str, float]:
    """Disk space of a training: two checkpoints to resume from, and a third while it is written;
    earlier checkpoints that are kept, weights only; what `train.keep_optimizer` keeps; the exported
    model; and the kept files of earlier trainings."""
    trained = FP32 * num_trained(model, config.adapter)
    resume = trained + moment_bytes(model, config)
    others = num_checkpoints(config.train) - 1
    kept = config.train.keep_checkpoints or others
    sizes = {
        "checkpoints to resume from": resume * max(1, min(RESUMABLE, others)),
        "the next one while it is written": resume * (others > 0),
        "earlier checkpoints": trained * max(0, min(kept, others) - RESUMABLE),
        "exported model": 0.0,
    }
    if config.train.keep_optimizer:
        sizes["state to go on from"] = resume
    if config.adapter.type is not AdapterType.none:
        sizes["exported adapter"] = trained
    if config.adapter.type is AdapterType.none or config.adapter.merge:
        dtype = FP32 if config.model.dtype is Dtype.float32 else 2
        sizes["exported model"] = float(dtype * model.num_parameters)
    exports = sum(size for name, size in sizes.items() if name.startswith("exported"))
    stays = trained * num_earlier(config.train) + exports
    which = "the control t1" if config.rounds.count == 1 else "the other trainings"
    sizes[f"the same of {which}"] = stays * (num_trainings - 1)
    return {name: size for name, size in sizes.items() if size}


def num_checkpoints(train: TrainConfig) -> int:
    """Checkpoints that an undisturbed training writes, the last step's counted."""
    return math.ceil(train.max_steps / train.checkpoint_every)


def num_earlier(train: TrainConfig) -> int:
    """Checkpoints that stay beside the exported model."""
    written = num_checkpoints(train)
    return min(written, train.keep_checkpoints or written) - 1
