"""How fast one vLLM engine generates on GPUs: an estimate where nothing has been measured.

A decoding step reads the weights and the key-value cache of all sequences in flight, which takes
memory bandwidth, and spends time on each sequence for scheduling and sampling. With the two
constants below the formula lies between 15 % under and 40 % over the published speeds that
docs/training.md lists, which they were chosen by.
"""

from ssd.config import Accelerator, RunConfig
from ssd.plan.architecture import Architecture
from ssd.plan.devices import GIB

BF16 = 2
BANDWIDTH = 0.7 * 3.35e12
"""Bytes per second and GPU: the share of an H100 SXM's memory bandwidth that decoding reaches."""
SEQUENCE_SECONDS = 50e-6
"""Of each step, for each sequence in flight."""
UTILIZATION = 0.9
"""Share of GPU memory that the engine claims where `hardware.memory_utilization` is null."""


def engine_speed(
    model: Architecture, config: RunConfig, capacity: float, context: float
) -> tuple[float | None, str]:
    """Tokens per second of one engine over all its GPUs, and how that is known; None on a CPU, and
    where the weights leave no room.

    Args:
        capacity: bytes of one GPU.
        context: mean tokens of a sequence in flight.
    """
    plan, hardware = config.plan, config.hardware
    if plan.engine_tokens_per_second is not None:
        return plan.engine_tokens_per_second, "from plan.engine_tokens_per_second"
    if hardware.accelerator is Accelerator.cpu:
        return None, "no speed is assumed for a CPU: set plan.engine_tokens_per_second"
    gpus = hardware.tensor_parallel_size
    num_sequences = sequences_in_flight(model, config, capacity, context)
    if num_sequences < 1:
        return None, (
            f"the weights leave no room for a sequence on {gpus} GPU(s) of "
            f"{capacity / GIB:.0f} GiB: raise hardware.tensor_parallel_size"
        )
    cache = num_sequences * context * cache_bytes(model, gpus)
    step = (BF16 * model.num_parameters / gpus + cache) / BANDWIDTH
    speed = num_sequences / (step + num_sequences * SEQUENCE_SECONDS)
    devices = hardware.devices or 1
    words = f"assumed, {num_sequences:,.0f} sequences in flight; plan.engine_tokens_per_second"
    if gpus < devices:
        words += f"; uses {gpus} of {devices} GPUs: raise hardware.tensor_parallel_size"
    return speed, words


def sequences_in_flight(
    model: Architecture, config: RunConfig, capacity: float, context: float
) -> float:
    """How many sequences of `context` tokens the engine decodes at once: as many as the memory
    beside the weights holds, and at most `hardware.max_num_seqs`."""
    hardware = config.hardware
    gpus = hardware.tensor_parallel_size
    room = (hardware.memory_utilization or UTILIZATION) * capacity
    room -= BF16 * model.num_parameters / gpus
    return min(hardware.max_num_seqs, room / (context * cache_bytes(model, gpus)))


def cache_bytes(model: Architecture, gpus: int) -> float:
    """Bytes of keys and values of one token on each of `gpus` GPUs, which share the heads as far as
    there are enough."""
    num_heads = model.key_size * model.num_heads // model.query_size
    return 2 * BF16 * model.key_size * model.num_layers / min(gpus, num_heads)
