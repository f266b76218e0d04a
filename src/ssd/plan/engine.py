"""The memory that one vLLM engine needs on its GPUs, and its speed: estimates, unless measured.

A decoding step reads the weights and the key-value cache of all sequences in flight, which takes
memory bandwidth, and spends time on each sequence for scheduling and sampling.
"""

from ssd.config.choices import Accelerator, EngineName
from ssd.config.settings import HardwareConfig, RunConfig
from ssd.plan.architecture import Architecture
from ssd.runtime.devices import ASSUMED, GIB, UTILIZATION, cpu_tflops, find_card
from ssd.runtime.installation import local_engine
from ssd.runtime.precision import compute_dtype

BF16, FP32 = 2, 4
REACHED = 0.7
"""Share of a card's memory bandwidth that decoding reaches."""
SEQUENCE_SECONDS = 30e-6
"""Seconds of each step, for each sequence in flight. Qwen3-4B's shape on one H200, 512 sequences of
534 tokens: 20,100 tokens per second by this formula; the bare engine had 26,400, and `train.py`
16,820 while it still asked for log-probabilities."""
CPU_SHARE = 0.45
"""Of the rate of fp32 products, at 2 per active parameter and token: 344 tokens per second of
SmolLM2-135M, 48 sequences at once, where that rate was 0.205 TFLOP/s."""
RESERVE = {Accelerator.gpu: 2 * GIB, Accelerator.cpu: GIB}
"""Bytes that the engine takes besides weights and cache: a prefill's activations, logits, CUDA
graphs, or Python and its libraries; an assumption."""
SEQUENCES = 512
"""Most sequences at once: beyond this a step's time grows with their number."""


def engine_speed(
    model: Architecture, config: RunConfig, capacity: float, context: float
) -> tuple[float | None, str]:
    """Tokens per second of all engines together, and how that is known; None where the weights
    leave no room.

    Args:
        capacity: bytes of one GPU.
        context: mean tokens of a sequence in flight.
    """
    plan, hardware = config.plan, config.hardware
    if plan.engine_tokens_per_second is not None:
        words = "from plan.engine_tokens_per_second" + _each(hardware)
        return plan.engine_tokens_per_second * hardware.num_replicas, words
    if hardware.accelerator is Accelerator.cpu:
        peak = cpu_tflops()
        words = f"assumed: {CPU_SHARE:.0%} of this machine's {peak:.3g} TFLOP/s"
        speed = CPU_SHARE * peak * 1e12 / (2 * model.num_active)
        return speed, f"{words}; plan.engine_tokens_per_second"
    gpus = hardware.engine_devices
    num_sequences = sequences_in_flight(model, config, capacity, context)
    if num_sequences < 1:
        return None, (
            f"the weights leave no room for a sequence on {gpus} GPU(s) of "
            f"{capacity / GIB:.0f} GiB: raise hardware.tensor_parallel_size"
        )
    cache = num_sequences * sequence_bytes(model, gpus, context)
    bandwidth = REACHED * (find_card(hardware) or ASSUMED).bandwidth * 1e12
    step = (BF16 * model.num_parameters / gpus + cache) / bandwidth
    speed = hardware.num_replicas * num_sequences / (step + num_sequences * SEQUENCE_SECONDS)
    devices, used = hardware.devices or 1, gpus * hardware.num_replicas
    words = f"assumed, {num_sequences:,.0f} sequences in flight{_each(hardware)}"
    words += "; plan.engine_tokens_per_second"
    if used < devices:
        words += f"; uses {used} of {devices} GPUs: leave hardware.replicas null"
    return speed, words


def _each(hardware: HardwareConfig) -> str:
    """Of how many engines side by side, where there are several."""
    number, gpus = hardware.num_replicas, hardware.engine_devices
    over = f" over {gpus} GPUs" if gpus > 1 else ""
    return f" in each of {number} engines{over}" if number > 1 else ""


def sequences_in_flight(
    model: Architecture, config: RunConfig, capacity: float, context: float
) -> float:
    """How many sequences of `context` tokens the engine decodes at once: as many as the memory
    beside the weights holds, and at most `hardware.max_num_seqs`."""
    hardware = config.hardware
    room = cache_room(model, config, capacity)
    fitting = room / sequence_bytes(model, hardware.engine_devices, context)
    return min(hardware.max_num_seqs or SEQUENCES, fitting)


def cache_room(model: Architecture, config: RunConfig, capacity: float) -> float:
    """Bytes of the key-value cache on one device of `capacity` bytes: on GPUs the rest of the
    engine's share, on a CPU `hardware.kv_cache_gib`."""
    hardware = config.hardware
    if hardware.accelerator is Accelerator.cpu:
        return float(max(1, hardware.kv_cache_gib // hardware.num_replicas) * GIB)
    claimed = (hardware.memory_utilization or UTILIZATION) * capacity
    return claimed - engine_weights(model, config) - RESERVE[Accelerator.gpu]


def engine_weights(model: Architecture, config: RunConfig) -> float:
    """Bytes of the weights on one of the engine's devices, in the type it computes in here."""
    hardware = config.hardware
    dtype = compute_dtype(config.model.dtype, hardware)
    width = FP32 if dtype.value == "float32" else BF16
    return width * model.num_parameters / _shares(hardware)


def engine_bytes(model: Architecture, config: RunConfig) -> float:
    """Bytes that a device needs for an engine that can answer at all: the weights, the cache of one
    sequence of the longest `max_model_len`, and what the engine takes beside them. On a CPU all
    replicas share the memory, and the whole of `hardware.kv_cache_gib` is claimed."""
    hardware = config.hardware
    on_cpu = hardware.accelerator is Accelerator.cpu
    cache = sequence_bytes(model, _shares(hardware), longest_context(model, config))
    if on_cpu and local_engine(config.sampler.engine) is EngineName.vllm:
        cache = max(cache, cache_room(model, config, 0.0))
    engines = hardware.num_replicas if on_cpu else 1
    return engines * (engine_weights(model, config) + cache + RESERVE[hardware.accelerator])


def engine_capacity(config: RunConfig, capacity: float) -> float:
    """Bytes of a device of `capacity` bytes that the engine may take."""
    hardware = config.hardware
    if hardware.accelerator is Accelerator.cpu:
        return capacity * (hardware.devices or 1)  # one engine, whatever trains
    return (hardware.memory_utilization or UTILIZATION) * capacity


def longest_context(model: Architecture, config: RunConfig) -> int:
    """The longest sequence that a stage of the run lets the engine plan for."""
    stages = {"sample": config.sampler.max_model_len, "evaluate": config.eval.max_model_len}
    lengths = [length for stage, length in stages.items() if stage in config.stages]
    return max(length or model.max_length or 0 for length in lengths or stages.values())


def sequence_bytes(model: Architecture, gpus: int, tokens: float) -> float:
    """Bytes that a sequence of `tokens` tokens keeps on each of `gpus` GPUs: keys and values, of no
    more tokens than a layer's window, and the state of linear attention, in fp32 at most.
    The GPUs share the heads as far as there are enough."""
    num_heads = model.key_size * model.num_heads // model.query_size
    cached = sum(
        keys * (tokens if window is None else min(window, tokens))
        for keys, window in zip(model.cached, model.windows, strict=True)
    )
    net = model.delta_net
    states = 0 if net is None else model.windows.count(0) * net.state_size
    return (2 * BF16 * cached + FP32 * states) / min(gpus, num_heads)


def _shares(hardware: HardwareConfig) -> int:
    return hardware.engine_devices if hardware.accelerator is Accelerator.gpu else 1
