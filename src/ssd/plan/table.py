"""The plan as text: tables of a label, a value and where the value comes from."""

from ssd.config.choices import Accelerator, AdapterType, Recompute
from ssd.config.settings import HardwareConfig
from ssd.plan.enforcement import OPEN
from ssd.plan.hours import Part, time_text
from ssd.plan.memory import num_trained
from ssd.plan.plan import Plan
from ssd.report.render.formats import duration
from ssd.runtime.devices import GIB

Rows = list[tuple[str, str, str]]
"""Label, value, note."""
WIDTH = 38
"""Of labels."""
TUNING = {
    AdapterType.none: "full fine-tuning",
    AdapterType.lora: "LoRA of rank {rank}",
    AdapterType.qlora: "QLoRA of rank {rank}",
}


def plan_text(plan: Plan) -> str:
    """Everything a reader needs for a decision, and the warnings last."""
    config, model = plan.config, plan.model
    tuning = TUNING[config.adapter.type].format(rank=config.adapter.rank)
    parameters = [
        ("all", _count(model.num_parameters), f"sizes from {model.source}"),
        ("trained", _count(num_trained(model, config.adapter)), ""),
        ("used for one token", _count(model.num_active), ""),
    ]
    parts = [
        f"plan of {config.model.name}: {tuning}, {config.train.precision.value}, "
        f"{processes(config.hardware)}",
        section("parameters", parameters),
        section(f"memory of each {_device(config.hardware)}, GiB", _memory(plan)),
        section("hardware settings", _settings(plan)),
        section("main memory of the first machine, GiB", _gib(plan.host)),
        section("training", _training(plan)),
        section(f"the whole run on {processes(config.hardware).split(',')[0]}", _run(plan)),
        section("disk for training, GiB", _gib(plan.disk)),
        *(f"warning: {warning}" for warning in (*plan.misfits.values(), plan.tight) if warning),
    ]
    return "\n\n".join(parts)


def section(title: str, rows: Rows) -> str:
    """A title and aligned rows."""
    values = max(len(value) for _, value, _ in rows)
    lines = [f"  {label:{WIDTH}} {value:>{values}}  {note}".rstrip() for label, value, note in rows]
    return "\n".join([title, *lines])


def processes(hardware: HardwareConfig) -> str:
    """`8 GPUs, sharded (FSDP2)`."""
    count = hardware.num_processes
    nodes = f" on {hardware.num_nodes} machines" if hardware.num_nodes > 1 else ""
    how = "" if count == 1 else ", sharded (FSDP2)" if hardware.shards else ", each a copy (DDP)"
    return f"{count} {_device(hardware)}{'s' if count > 1 else ''}{nodes}{how}"


def _device(hardware: HardwareConfig) -> str:
    return "GPU" if hardware.accelerator is Accelerator.gpu else "CPU process"


def _memory(plan: Plan) -> Rows:
    needed = plan.memory.needed
    fits = "fits" if needed <= plan.capacity else "does not fit"
    attention = plan.model.attention.removeprefix("ssd_")
    hardware, layers = plan.config.hardware, plan.model.num_layers
    recomputed = "none recomputed"
    if number := hardware.num_recomputed(layers):
        kind = hardware.activation_checkpointing.value
        recomputed = f"recomputed: {kind}, {number} of {layers} layers"
    row = f"a row of {plan.row_tokens:,} tokens; attention {attention}; {recomputed}"
    mean = f"{plan.mean_row_tokens:,} tokens"
    engine = f"of {_in_gib(plan.engine_capacity)}; weights, and the cache of its longest sequence"
    items = [
        (i.name, _in_gib(i.num_bytes), "in main memory" * i.on_host) for i in plan.memory.items
    ]
    return [
        *items,
        ("with the longest row", _in_gib(needed), row),
        ("with a row of mean length", _in_gib(plan.mean_memory.needed), mean),
        ("device", _in_gib(plan.capacity), f"{fits} ({plan.capacity_source})"),
        ("engine, at least", _in_gib(plan.engine), engine),
    ]


def _settings(plan: Plan) -> Rows:
    """What memory decides about hardware, and whether it was typed."""
    open_hardware, hardware = plan.open_config.hardware, plan.config.hardware
    on_gpu = hardware.accelerator is Accelerator.gpu
    rows: Rows = []
    for name in OPEN:
        before, value = getattr(open_hardware, name), getattr(hardware, name)
        is_open = before != value and (before is None or before is Recompute.auto)
        written = str(getattr(value, "value", value)).lower()
        if name == "recompute_layers":
            written = f"{hardware.num_recomputed(plan.model.num_layers)}"
        elif name == "micro_batch_tokens" and value is None:
            written = f"{plan.config.train.seq_len}"
        note = "chosen by memory" if is_open and on_gpu and name != "compile_engine" else ""
        if name == "replicas" and value is None:
            note = "as many as the Ray cluster holds; the hours below are those of one"
        rows.append((f"hardware.{name}", written, note))
    return rows


def _training(plan: Plan) -> Rows:
    work, workload = plan.work, plan.workload
    samples, mean = workload.num_samples, workload.mean_tokens
    bound = "at most " if workload.is_upper_bound else ""
    batch = plan.config.train.global_batch_size
    hours = work.seconds * plan.config.hardware.num_processes / 3600
    operations = "4 per frozen active parameter, 6 per other one"
    if plan.config.adapter.type is AdapterType.none:
        operations = "6 per active parameter"
    return [
        ("samples", f"{samples:,}" if samples is not None else "unknown", workload.samples_source),
        ("tokens of a sample", f"{bound}{mean:,.0f}", f"from {workload.tokens_source}"),
        ("tokens of the corpus", f"{bound}{samples * mean:,.0f}" if samples else "unknown", ""),
        ("optimizer steps", f"{work.num_steps:,}", f"of {batch} samples"),
        ("epochs", f"{work.epochs:.2f}" if work.epochs else "unknown", ""),
        ("tokens of a step", f"{bound}{work.tokens_per_step:,.0f}", ""),
        ("tokens in all", f"{bound}{work.num_tokens:,.0f}", ""),
        (
            "GFLOP per token",
            f"{work.flop_per_token / 1e9:,.1f}",
            f"{operations}, and attention ({work.attention_share:.0%})",
        ),
        ("tokens per second and device", f"{work.tokens_per_second:,.0f}", work.speed_source),
        ("time", f"{bound}{duration(work.seconds)}", f"{hours:,.1f} device hours"),
    ]


def _run(plan: Plan) -> Rows:
    hours, devices = plan.hours, plan.config.hardware.num_processes
    rows: Rows = [(part.name, time_text(part), _work(part)) for part in hours.parts]
    total = hours.seconds
    counted = "" if total is None else f"{total * devices / 3600:,.1f} device hours; "
    note = f"{counted}grading and analysis are not counted"
    return [*rows, ("together", time_text(hours), note), ("generation", "", hours.speed_source)]


def _work(part: Part) -> str:
    words = part.work
    if part.num_tokens is not None:
        words += f", {part.num_tokens:,.0f} tokens"
    if part.tokens_per_second is not None:
        words += f", {part.tokens_per_second:,.0f} a second"
    return words


def _gib(sizes: dict[str, float]) -> Rows:
    return [(name, _in_gib(size), "") for name, size in sizes.items()]


def _in_gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:,.2f}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:,.3f} B" if parameters >= 1e9 else f"{parameters / 1e6:,.2f} M"
