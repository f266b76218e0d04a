"""The model that is trained: built, adapted, and its loss."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssd.config.choices import AdapterType, Precision, Recompute
from ssd.config.settings import AdapterConfig, HardwareConfig, ObjectiveConfig, TrainConfig
from ssd.errors import ModelError
from ssd.models.network import body, head, inner_model, load, unread
from ssd.runtime.precision import product_precision
from ssd.train.attention import attention_kwargs, choose_attention, packed_mask
from ssd.train.base_losses import BaseStates
from ssd.train.batches import MicroBatch
from ssd.train.experts import balance_loss, register_experts
from ssd.train.loss import weighted_cross_entropy
from ssd.train.objective import OBJECTIVES, Kernel
from ssd.train.recurrent import document_numbers, separate_documents


class CompletionLoss(nn.Module):
    """A causal language model and the loss of its completions; the root that sharding wraps, so
    that one forward call gathers body and head together."""

    def __init__(
        self,
        network: nn.Module,
        kernel: Kernel = weighted_cross_entropy,
        aux_coef: float = 0.0,
        *,
        reads_base: bool = False,
        base: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.reads_base = reads_base
        """Whether the kernel compares with the base model."""
        self.base: Any = base
        """A frozen copy of the weights before training, or of the model that drew the samples; None
        where none is needed: an adapted network without its adapter is its own base."""
        self.kernel = kernel
        self.aux_coef = aux_coef
        self.is_recurrent = separate_documents(network)
        """Whether layers carry a state along the row, as those of a gated delta net do."""
        if base is not None:
            separate_documents(base)

    def forward(self, batch: MicroBatch, measure: Kernel | None = None) -> Tensor:
        """Weighted sum of cross-entropies over the micro-batch's loss tokens; or, in its place,
        what `measure` makes of the hidden states and the head, which outside are sharded."""
        config, device = self.model.config, batch.input_ids.device
        settings = attention_kwargs(config._attn_implementation, batch.lengths, device)
        if batch.lengths is not None:
            dtype = self.model.get_input_embeddings().weight.dtype
            settings["attention_mask"] = packed_mask(config, batch.position_ids, dtype)
            if self.is_recurrent:
                settings["seq_idx"] = document_numbers(batch.lengths, device)
        settings |= {
            "input_ids": batch.input_ids, "position_ids": batch.position_ids, "use_cache": False,
        }  # fmt: skip
        compared = [self._base_states(settings)] if self.reads_base and measure is None else []
        if self.aux_coef:
            settings["output_router_logits"] = True
        output = self.body(**settings)
        kernel = self.kernel if measure is None else measure
        loss = kernel(output.last_hidden_state, self.head, batch.labels, batch.weights, *compared)
        if self.aux_coef and measure is None:
            top_k = config.get_text_config().num_experts_per_tok
            loss = loss + self.aux_coef * balance_loss(output.router_logits, batch, top_k)
        return loss

    @torch.no_grad()
    def _base_states(self, settings: dict[str, Any]) -> BaseStates:
        base = self.network if self.base is None else self.base
        with without_adapter(base), without_dropout(base):
            output = body(base)(**settings)
        return BaseStates(output.last_hidden_state, head(base))

    @property
    def model(self) -> Any:
        """The transformers model, inside its adapter where there is one."""
        return inner_model(self.network)

    @property
    def body(self) -> Any:
        """The model without its head."""
        return body(self.network)

    @property
    def head(self) -> Any:
        """Maps hidden states to logits."""
        return head(self.network)


def num_experts(config: Any) -> int:
    """Routed experts per layer of a text configuration; 0 for dense models."""
    for name in ("num_experts", "num_local_experts"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return 0


def build(
    folder: Path,
    adapter: AdapterConfig,
    train: TrainConfig,
    objective: ObjectiveConfig,
    hardware: HardwareConfig,
    *,
    device: torch.device,
    empty: bool = False,
    teacher: Path | None = None,
) -> CompletionLoss:
    """The checkpoint in `folder` ready to train: fp32 where weights are trained (bf16 loses small
    updates), bf16 where they are frozen under an adapter and `train.precision=bf16`.

    With `empty` its parameters are on the meta device, to be sharded before they take memory.
    `objective` has its target's temperature and truncation, as `lineage.target` knows them.

    Args:
        teacher: checkpoint of the base model that the objective reads, where it is not `folder`.

    Raises:
        ModelError: the architecture does not take the attention, the router setting or the loss.
    """
    network = load_network(folder, adapter, train, hardware, device=device, empty=empty)
    set_recompute(
        network,
        hardware.activation_checkpointing,
        hardware.recompute_layers,
        offload=hardware.offload_activations,
    )
    set_router(network, train)
    for parameter in unread(network):
        parameter.requires_grad_(False)
    if adapter.type is not AdapterType.none:
        network = adapt(network, adapter, empty=empty)
    entry = OBJECTIVES[objective.type]
    kernel = entry.kernels[hardware.head](objective, folder)
    base = None
    # Sharded weights are filled from one whole network, as which both begin where they are alike.
    copied = adapter.type is AdapterType.none and (empty or not hardware.shards)
    if entry.reads_base and (copied or teacher is not None):
        # In the type of what is trained: both compute the same before the first step.
        source = folder if teacher is None else teacher
        base = load_network(source, adapter, train, hardware, device=device, empty=empty)
        base = base.requires_grad_(False).eval()
    return CompletionLoss(
        network.train(), kernel, train.router_aux_coef, reads_base=entry.reads_base, base=base
    )


def load_network(
    folder: Path,
    adapter: AdapterConfig,
    train: TrainConfig,
    hardware: HardwareConfig,
    *,
    device: torch.device,
    empty: bool,
) -> Any:
    """The network of a checkpoint as `build` begins with it."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config: Any = AutoConfig.from_pretrained(folder)
    config.__dict__.pop("quantization_config", None)  # `load` undoes it
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    dtype = weight_dtype(adapter, train, hardware)
    if hardware.shards and not empty:  # only read from, to fill fp32 shards
        dtype = config.dtype or dtype
    settings: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": choose_attention(hardware.attention, model_class),
    }
    if num_experts(config.get_text_config()):
        settings["experts_implementation"] = register_experts()
    if empty:
        from accelerate import init_empty_weights

        with init_empty_weights(include_buffers=False):
            network = AutoModelForCausalLM.from_config(config, **settings)
        network.tie_weights()  # emptied one by one, tied weights are no longer one
        return network
    if adapter.type is AdapterType.qlora:
        nf4 = four_bits(settings["dtype"])
        settings |= {"quantization_config": nf4, "device_map": {"": device}}
    return load(folder, **settings)


@contextmanager
def without_adapter(network: nn.Module) -> Iterator[None]:
    """The network as it was before its adapters, where it has any.

    Not by peft's own `disable_adapter`, which switches `requires_grad` off and on again: FSDP2 and
    DDP look at that once, and it may be while it is off.
    """
    adapted = [module for module in network.modules() if hasattr(module, "_disable_adapters")]
    for module in adapted:
        module._disable_adapters = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in adapted:
            module._disable_adapters = False  # type: ignore[assignment]


@contextmanager
def without_dropout(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, for all modules but those in 4 bits: bitsandbytes 0.50 on a CPU with bf16
    instructions repacks their weights there, for good, into a form that has no gradient."""
    changed = [
        module
        for module in network.modules()
        if module.training and not hasattr(getattr(module, "weight", None), "quant_state")
    ]
    for module in changed:
        module.training = False
    try:
        yield
    finally:
        for module in changed:
            module.training = True


def weight_dtype(
    adapter: AdapterConfig, train: TrainConfig, hardware: HardwareConfig
) -> torch.dtype:
    """Type of the weights in memory. FSDP2 wants one type in each group it shards, so there frozen
    weights are fp32 beside their fp32 adapters."""
    frozen = adapter.type is not AdapterType.none and not hardware.shards
    halved = product_precision(train.precision, hardware) is Precision.bf16
    return torch.bfloat16 if frozen and halved else torch.float32


def four_bits(dtype: torch.dtype) -> Any:
    """bitsandbytes' nf4 with double quantisation (Dettmers et al. 2023, arXiv:2305.14314), for
    matrix products in `dtype`. Embeddings, norms and the head stay whole, and so do the experts of
    a mixture, which are stacked parameters: in Qwen3-30B-A3B nearly all weights."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def adapt(network: Any, adapter: AdapterConfig, *, empty: bool) -> Any:
    """Low-rank adapters on every linear layer that text goes through but the head; all other
    weights frozen.

    A mixture of experts is adapted in its attention, and with `adapter.experts` in its experts,
    each with a rank of its own. They are stacked parameters, not linear layers: peft adds the
    product of the adapters to a whole layer's experts in every forward pass, a copy of them that
    the backward pass keeps unless layers are recomputed. Routers stay frozen. (Of itself peft's
    "all-linear" adapts attention, experts and routers in Qwen3-MoE, attention alone in GPT-OSS.)

    Raises:
        ModelError: `adapter.experts` is set for a model without routed experts.
    """
    from peft import LoraConfig, get_peft_model

    stacked = stacked_experts(network)
    if adapter.experts and not stacked:
        raise ModelError(
            f"adapter.experts=true: {type(network).__name__} has no routed experts, leave it false"
        )
    lora = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=attention_layers(network) if routers(network) else "all-linear",
        exclude_modules=_unread_layers(network) or None,
        target_parameters=stacked if adapter.experts else None,
        task_type="CAUSAL_LM",
    )
    network.enable_input_require_grads()
    return get_peft_model(network, lora, low_cpu_mem_usage=empty)


def _unread_layers(network: nn.Module) -> list[str]:
    """Names of the linear layers outside the body, such as those that read images: no gradient
    reaches an adapter there."""
    read = {id(module) for module in body(network).modules()}
    linear = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    return [name for name, m in linear if id(m) not in read and m is not head(network)]


def attention_layers(network: nn.Module) -> list[str]:
    """Last names of the linear layers in attention."""
    linear = [name for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    return sorted({name.rsplit(".", 1)[-1] for name in linear if "attn" in name})


def stacked_experts(network: nn.Module) -> list[str]:
    """Last two names of the matrices that hold all experts of a layer; none in dense models."""
    stacked = [name for name, p in network.named_parameters() if p.ndim == 3]
    return sorted({".".join(name.rsplit(".", 2)[-2:]) for name in stacked if ".experts." in name})


def set_router(network: Any, train: TrainConfig) -> None:
    """Freeze the routers unless they are trained.

    Raises:
        ModelError: a router setting is given for a model without routed experts.
    """
    modules = routers(network)
    if not modules and (train.router_aux_coef or not train.train_router):
        raise ModelError(
            "train.router_aux_coef and train.train_router are for mixture-of-experts models, and "
            f"{type(network).__name__} has no router: leave them as they are"
        )
    if not train.train_router:
        for router in modules:
            router.requires_grad_(False)


def routers(network: Any) -> list[nn.Module]:
    """The modules that send tokens to experts; none in dense models."""
    recorder = (getattr(network, "_can_record_outputs", None) or {}).get("router_logits")
    kind = getattr(recorder, "target_class", recorder)
    return [module for module in network.modules() if kind and isinstance(module, kind)]


EXPENSIVE = (
    "aten.mm", "aten.addmm", "aten.bmm", "aten._grouped_mm",
    "aten._scaled_dot_product_flash_attention", "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention", "torch_attn._varlen_attn",
    "aten._scaled_dot_product_flash_attention_for_cpu", "ssd.document_attention",
)  # fmt: skip
"""Operations whose results selective recomputation keeps."""


def set_recompute(
    network: Any, recompute: Recompute, num_layers: int | None = None, *, offload: bool = False
) -> None:
    """Choose what the backward pass computes again in the first `num_layers` decoder layers, or in
    all. The first ones, because theirs are kept longest; the last layers run backward first.

    Args:
        offload: keep these layers' inputs in main memory meanwhile.
    """
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    def policy(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        name = str(getattr(operation, "_overloadpacket", operation))
        keep = name in EXPENSIVE
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    settings: dict[str, Any] = {"use_reentrant": False}
    # A run's is resolved before it starts.
    if recompute in (Recompute.none, Recompute.auto) or num_layers == 0:
        return
    if recompute is Recompute.selective:
        settings["context_fn"] = functools.partial(create_selective_checkpoint_contexts, policy)
    network.gradient_checkpointing_enable(settings)
    for number, layer in enumerate(body(network).layers):
        if num_layers is not None and number >= num_layers:
            layer.gradient_checkpointing = False
        elif offload:
            checkpoint = layer._gradient_checkpointing_func
            layer._gradient_checkpointing_func = functools.partial(offloaded, checkpoint)


def offloaded(checkpoint: Callable[..., Any], *args: Any) -> Any:
    """A layer under torch's `checkpoint`, which keeps the layer's input, a hidden state of every
    position: there in main memory. It goes and comes on the GPU's own queue, so nothing waits but
    the GPU, for its bus."""
    with torch.autograd.graph.save_on_cpu(pin_memory=True):
        return checkpoint(*args)
