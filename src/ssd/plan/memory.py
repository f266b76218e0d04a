"""Memory of one training process by item, and of the machine it runs on.

N parameters, of which Nt are trained; P processes. Weights that are trained, their gradients and
AdamW's two moments are fp32: 4 + 4 + 8 bytes, divided by P where FSDP2 shards them.
"""

from dataclasses import dataclass

from ssd.config.choices import Accelerator, AdapterType, Dtype, ObjectiveType, Precision
from ssd.config.settings import AdapterConfig, RunConfig
from ssd.plan.activations import Widths, activation_bytes, input_bytes, widths
from ssd.plan.architecture import Architecture
from ssd.runtime.devices import GIB
from ssd.runtime.precision import product_precision
from ssd.train.chunks import MOMENT_BLOCK, chunk_size

FP32 = 4
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes per weight under nf4 with double quantisation: four bits, a byte of scale per 64 weights,
and an fp32 scale of 256 such scales (Dettmers et al. 2023, arXiv:2305.14314, section 3)."""
EIGHT_BIT = 1 + FP32 / 256
"""Bytes per weight of one 8-bit moment: with an fp32 scale per block of 256
(Dettmers et al. 2021, arXiv:2110.02861)."""
SHARDED_EIGHT_BIT = 1 + FP32 / MOMENT_BLOCK
"""The same of moments that shard, whose blocks are smaller."""
COMPILED = 0.75
"""Share of the copies and activations of eager autocast that remains with compiled layers. By the
peaks measured on one H200 (4B): 0.55 under full recomputation, 0.71 under none; a bound on both."""
RESERVE = {Accelerator.gpu: 2 * GIB, Accelerator.cpu: GIB}
"""Bytes that a process takes besides tensors: CUDA context and communication, or Python and its
libraries; an assumption."""
INPUTS = "inputs of layers"
"""The item that `hardware.offload_activations` moves to main memory."""


@dataclass(frozen=True, slots=True)
class Item:
    """One use of memory."""

    name: str
    num_bytes: float
    on_host: bool = False
    """In main memory instead of the device's, by an `offload` setting of hardware."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one process needs; `items` in the order of the table."""

    items: tuple[Item, ...]

    @property
    def needed(self) -> float:
        """Bytes on the device while a micro-batch is computed; the optimizer's step takes less."""
        return sum(item.num_bytes for item in self.items if not item.on_host)

    @property
    def on_host(self) -> float:
        """Bytes in main memory."""
        return sum(item.num_bytes for item in self.items if item.on_host)


def num_trained(model: Architecture, adapter: AdapterConfig) -> int:
    """Parameters that the optimizer updates."""
    return model.num_trainable if adapter.type is AdapterType.none else model.num_adapter


def memory(model: Architecture, config: RunConfig, tokens: int) -> Memory:
    """What each training process of `config` needs with micro-batches of `tokens` tokens."""
    hardware, offload = config.hardware, config.hardware.cpu_offload
    shared = hardware.num_processes if hardware.shards else 1
    trained = num_trained(model, config.adapter) / shared
    precision = product_precision(config.train.precision, hardware)
    width = widths(precision, config.adapter.type, shards=hardware.shards)
    # Compiling fuses autocast's casts; where nothing is cast no saving has been measured.
    cast = width.compute < width.residual
    share = COMPILED if cast and hardware.compile_training else 1.0
    recompute, layers = hardware.activation_checkpointing, hardware.num_recomputed(model.num_layers)
    activations = activation_bytes(
        model,
        recompute,
        layers,
        width,
        tokens,
        packing=config.train.packing,
        offload=hardware.offload_activations,
    )
    state = "optimizer state, in pages" if config.optimizer.is_paged else "optimizer state"
    items = [
        Item("weights", weight_bytes(model, config, precision) / shared, on_host=offload),
        *_frozen_copy(model, config, shared),
        Item("gradients", FP32 * trained, on_host=offload),
        Item(state, moment_bytes(model, config) / shared, on_host=offload),
        *_copies(model, config, width, share),
        Item("activations", share * activations),
        *_offloaded(config, layers * pinned(input_bytes(model, width, tokens))),
        Item("head and loss", head_bytes(model, config, width, tokens)),
        Item("reserve", RESERVE[hardware.accelerator]),
    ]
    return Memory(tuple(items))


def _offloaded(config: RunConfig, num_bytes: int) -> list[Item]:
    moves = config.hardware.offload_activations
    return [Item(INPUTS, num_bytes, on_host=True)] if moves else []


def pinned(num_bytes: int) -> int:
    """Bytes that PyTorch takes for a tensor in pinned memory: the next power of two."""
    return 1 << (num_bytes - 1).bit_length()


def weight_bytes(model: Architecture, config: RunConfig, precision: Precision) -> float:
    """Bytes of all weights, before sharding: fp32 where they are trained or sharded; frozen ones
    in bf16 where that is the products' `precision`; linear layers in nf4 under QLoRA."""
    if config.adapter.type is AdapterType.none:
        return FP32 * model.num_parameters
    frozen = 2 if precision is Precision.bf16 and not config.hardware.shards else FP32
    quantised = model.num_linear if config.adapter.type is AdapterType.qlora else 0
    base = NF4 * quantised + frozen * (model.num_parameters - quantised)
    return base + FP32 * model.num_adapter


def moment_bytes(model: Architecture, config: RunConfig) -> float:
    """Bytes of AdamW's two moments, before sharding; in 8 bits for all but embeddings."""
    trained = num_trained(model, config.adapter)
    if not config.optimizer.is_8bit:
        return 2 * FP32 * trained
    width = SHARDED_EIGHT_BIT if config.optimizer.may_shard else EIGHT_BIT
    full = config.adapter.type is AdapterType.none
    embedding = model.vocab_size * model.hidden_size if full else 0
    return 2 * width * (trained - embedding) + 2 * FP32 * embedding


def head_bytes(model: Architecture, config: RunConfig, width: Widths, tokens: int) -> float:
    """Bytes of the loss: the last hidden states and their gradient, with those of the base model
    where the objective reads it; one chunk of logits, twice in fp32, or as often as `soft` has it;
    and the sum of the head's weight gradient in fp32 where the head is trained."""
    objective = config.objective
    states = (4 if objective.reads_base else 2) * width.compute * tokens * model.hidden_size
    copies = _soft_logits(config) if objective.type is ObjectiveType.soft else 2
    logits = copies * FP32 * min(tokens, chunk_size(model.vocab_size)) * model.vocab_size
    trains = config.adapter.type is AdapterType.none
    return states + logits + (FP32 * model.vocab_size * model.hidden_size if trains else 0)


def _soft_logits(config: RunConfig) -> int:
    """How often a chunk of logits exists at once under `objective=soft`: the network's, the base's,
    q and what it is made from; and where top-p sorts the whole vocabulary, the sorted logits, their
    places in 64 bits, and three tensors more."""
    cut = config.objective.truncation or config.truncation
    return 6 + (6 if cut.top_k is None and cut.top_p < 1 else 0)


def _frozen_copy(model: Architecture, config: RunConfig, shared: int) -> list[Item]:
    """The weights of the model that drew the samples beside those that are trained, in their type.
    An adapted network holds them itself, as long as it is the base model that draws."""
    adapted = config.adapter.type is not AdapterType.none
    if not config.objective.reads_base or (adapted and not config.rounds.draws_with_another):
        return []
    precision = product_precision(config.train.precision, config.hardware)
    size = weight_bytes(model, config, precision) - FP32 * model.num_adapter * adapted
    return [Item("frozen copy of the base", size / shared, on_host=config.hardware.cpu_offload)]


def _copies(model: Architecture, config: RunConfig, width: Widths, share: float) -> list[Item]:
    """Weights in the precision of the products. FSDP2 gathers the layer at work, the next one and
    the root, and holds a layer's whole gradient, then in fp32, until it is reduced; autocast keeps
    a copy of each matrix that is not bf16 already. Of experts there is a copy in the layer at work
    and in every one that does not recompute: cast under autocast, or with adapters added, which
    also has a gradient of its size. Of autocast's copies, `share` remains."""
    full = config.adapter.type is AdapterType.none
    layer_experts = model.num_experts / model.num_layers
    keeping = model.num_layers - config.hardware.num_recomputed(model.num_layers)
    copied_experts = layer_experts * max(keeping, 1)
    items = []
    if not full and model.num_expert_adapter:
        summed = copied_experts + layer_experts
        items.append(Item("experts with their adapters", width.compute * summed))
    if config.hardware.shards:
        roots = 1 + len(_frozen_copy(model, config, 1))
        gathered = 2 * model.layer_parameters + roots * model.root_parameters
        items.append(Item("gathered weights", width.compute * gathered))
        if full:
            whole = (width.compute + FP32) * model.layer_parameters
            items.append(Item("a layer's gradient before reduction", whole))
        return items
    if width.compute < FP32:
        cast = model.num_cast + copied_experts if full else model.num_adapter
        items.append(Item("bf16 copies of weights", share * width.compute * cast))
    return items


def host_bytes(model: Architecture, config: RunConfig, needed: Memory) -> dict[str, float]:
    """Main memory of the first machine: what its processes offload; the whole model, as it is
    stored, which its first process loads and spreads; trained weights beside the exported model."""
    trained = num_trained(model, config.adapter)
    stored = FP32 if config.model.dtype is Dtype.float32 else 2
    export = stored if config.adapter.type is AdapterType.none else FP32  # adapters merge in fp32
    wholes = 2 if config.objective.reads_base and config.rounds.draws_with_another else 1
    loaded = wholes * stored * model.num_parameters if config.hardware.shards else 0
    devices = config.hardware.devices or 1
    inputs = sum(item.num_bytes for item in needed.items if item.name == INPUTS)
    sizes = {
        "loading the weights": float(loaded),
        "offloaded state": (needed.on_host - inputs) * devices,
        INPUTS: inputs * devices,
        "exporting": float(FP32 * trained + export * model.num_parameters),
    }
    return {name: size for name, size in sizes.items() if size}
