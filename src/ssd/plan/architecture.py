"""The sizes of a model, read from its configuration alone: no weights, no network for known models.

The model is built on PyTorch's meta device, where parameters have shapes and take no memory, so
what is counted is what transformers would train.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_json
from ssd.config.choices import Attention, WeightSource
from ssd.config.settings import AdapterConfig, ModelConfig, TrainConfig
from ssd.errors import ModelError, did_you_mean, one_line
from ssd.models.miniature import layer_kinds
from ssd.models.names import MODEL_CONFIG
from ssd.models.random_init import RANDOM_MODELS, random_fields
from ssd.models.weights import locate
from ssd.plan.delta_net import DeltaNet, find_delta_net
from ssd.problems.problem import DATA
from ssd.runtime.progress import silence_imports

KNOWN = DATA / "architectures" / "models.json"
"""Configuration fields that decide sizes, by hub id: facts of the published `config.json` files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes that memory, work and disk depend on; `num_` fields without another unit count
    parameters, tied ones once."""

    source: str
    """Where the configuration was found, in words."""
    num_parameters: int
    num_trainable: int
    """Under full fine-tuning; fewer than all where `train.train_router=false` freezes routers."""
    num_active: int
    """Used for one token: all of a dense model, `experts_per_token` of each layer's experts."""
    num_experts: int
    """Parameters of all routed experts."""
    num_active_experts: int
    """Those of them that are used for one token."""
    num_cast: int
    """In matrices that autocast copies in lower precision and keeps: all but experts, which are
    copied layer by layer, and an input embedding that is not also the head."""
    num_linear: int
    """In linear layers except the head, which QLoRA quantises; routed experts are not counted."""
    num_adapter: int
    """Of low-rank adapters of `adapter.rank`, as peft makes them."""
    num_expert_adapter: int
    """Of these, on experts (`adapter.experts`)."""
    num_layers: int
    layer_parameters: int
    """Of the largest decoder layer."""
    root_parameters: int
    """Outside the decoder layers: embeddings, head and final norm."""
    vocab_size: int
    hidden_size: int
    query_size: int
    """Width of all query heads together, of the widest layer."""
    key_size: int
    """Width of all key heads together, of the same layer."""
    num_heads: int
    norms_queries: bool
    """Whether queries and keys are normalised per head."""
    mlp_size: int
    """Intermediate width that one token uses: of all its experts together."""
    experts_per_token: int
    """0 for dense models."""
    windows: tuple[int | None, ...]
    """Per layer, tokens that attention looks back; None for all, 0 where there is none."""
    cached: tuple[int, ...]
    """Per layer, width of the keys that a token leaves in an engine's cache: 0 without attention,
    and where a layer takes another's."""
    delta_net: DeltaNet | None
    """Of the layers that look back nowhere; None where all attend."""
    max_length: int | None
    """Longest sequence that the configuration states, in tokens."""
    attention: str
    """The attention that this model gets under `hardware.attention`."""


def find_architecture(
    model: ModelConfig, train: TrainConfig, attention: Attention, adapter: AdapterConfig
) -> Architecture:
    """The architecture of a run's model.

    Raises:
        ModelError: no configuration is found, or transformers or the trainer does not support it.
    """
    return measure(*find_fields(model), train, attention, adapter)


def find_fields(model: ModelConfig) -> tuple[dict[str, Any], str]:
    """The model's configuration as a dictionary, and where it was found: the checkpoint folder on
    this disk, the table shipped with the project, or the hub, from which only `config.json` comes.

    Raises:
        ModelError: none of these places has it.
    """
    if model.path is not None:
        # Not through `locate`, which would hash all weights.
        path = Path(model.path) / MODEL_CONFIG
        if not path.is_file():
            raise ModelError(
                f"model.path={model.path} holds no config.json: name a checkpoint folder"
            )
        return read_json(path), str(path)
    weights = locate(model)
    if weights is not None:
        return read_json(Path(weights.path) / MODEL_CONFIG), weights.source
    shipped = read_json(KNOWN)
    if model.name in shipped:
        return shipped[model.name], "the table shipped with this project"
    if model.source is WeightSource.random and model.name in RANDOM_MODELS:
        return random_fields(model.name), "the random model's own"
    return _download(model, list(shipped)), f"hub {model.name}, config.json"


def measure(
    fields: dict[str, Any],
    source: str,
    train: TrainConfig,
    attention: Attention,
    adapter: AdapterConfig,
) -> Architecture:
    """Build the model that `fields` describe on the meta device, and count: once a process.

    Raises:
        ModelError: transformers or the trainer does not support the architecture.
    """
    read = repr((fields, source, train.train_router, train.router_aux_coef, attention, adapter))
    if read not in _MEASURED:
        _MEASURED[read] = _measure(fields, source, train, attention, adapter)
    return _MEASURED[read]


_MEASURED: dict[str, Architecture] = {}
"""By all that is read: the jobs of a sweep, and plans made in a notebook, share their models."""


def _measure(
    fields: dict[str, Any],
    source: str,
    train: TrainConfig,
    attention: Attention,
    adapter: AdapterConfig,
) -> Architecture:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from ssd.train.attention import choose_attention
    from ssd.train.network import num_experts, set_router

    # A published quantisation is undone where the weights are loaded for training.
    settings = {name: value for name, value in fields.items() if name != "quantization_config"}
    try:
        config: Any = CONFIG_MAPPING[fields["model_type"]].from_dict(settings)
        with torch.device("meta"):
            network: Any = AutoModelForCausalLM.from_config(config)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model.name: transformers makes no causal language model of the configuration from "
            f"{source} ({one_line(error)[:120]}): choose another model"
        ) from error
    set_router(network, train)
    text = config.get_text_config()
    attention_kind = choose_attention(attention, type(network))
    norms_queries = any(name.endswith("q_norm.weight") for name, _ in network.named_parameters())
    counted = _count(network) | _count_adapters(network, adapter)
    routed = num_experts(text)
    per_token = int(text.num_experts_per_tok) if routed else 0
    heads, delta_net = _heads(text), find_delta_net(text)
    windows = _windows(text, delta_net)
    query_size, key_size = max(heads)
    own_keys = len(heads) - (getattr(text, "num_kv_shared_layers", None) or 0)
    width = getattr(text, "moe_intermediate_size", None) if routed else None
    active_experts = counted["num_experts"] * per_token // routed if routed else 0
    return Architecture(
        source=source,
        num_active=counted["num_parameters"] - counted["num_experts"] + active_experts,
        num_active_experts=active_experts,
        vocab_size=int(text.vocab_size),
        hidden_size=int(text.hidden_size),
        query_size=query_size,
        key_size=key_size,
        num_heads=int(text.num_attention_heads),
        mlp_size=int(width or text.intermediate_size) * (per_token or 1),
        experts_per_token=per_token,
        windows=windows,
        cached=tuple(
            keys if window != 0 and layer < own_keys else 0
            for layer, ((_, keys), window) in enumerate(zip(heads, windows, strict=True))
        ),
        delta_net=delta_net,
        max_length=getattr(text, "max_position_embeddings", None),
        attention=attention_kind,
        norms_queries=norms_queries,
        **counted,
    )


def _count(network: Any) -> dict[str, int]:
    from torch import nn

    from ssd.models.network import decoder_layers

    def total(module: Any) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    parameters = dict(network.named_parameters())  # tied ones once
    experts = sum(p.numel() for name, p in parameters.items() if ".experts." in name)
    matrices = sum(p.numel() for p in parameters.values() if p.ndim >= 2)
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    lookup = 0 if head.weight is embedding.weight else embedding.weight.numel()
    linear = [m for m in network.modules() if isinstance(m, nn.Linear) and m is not head]
    decoder = network.get_decoder()
    layers = [total(layer) for layer in decoder_layers(network)]
    # What reads images is not trained.
    read = {id(p) for part in (decoder, head) for p in part.parameters()}
    trainable = [p for p in parameters.values() if p.requires_grad and id(p) in read]
    return {
        "num_parameters": total(network),
        "num_trainable": sum(p.numel() for p in trainable),
        "num_experts": experts,
        "num_cast": matrices - experts - lookup,
        "num_linear": sum(m.weight.numel() for m in linear),
        "num_layers": len(layers),
        "layer_parameters": max(layers),
        "root_parameters": total(network) - sum(layers),
    }


def _count_adapters(network: Any, adapter: AdapterConfig) -> dict[str, int]:
    """Put adapters onto `network`, as training would, and count them."""
    import torch

    from ssd.train.network import adapt

    silence_imports()
    with torch.device("meta"):
        adapted = adapt(network, adapter, empty=True)
    trained = {n: p.numel() for n, p in adapted.named_parameters() if p.requires_grad}
    experts = sum(size for name, size in trained.items() if ".experts." in name)
    return {"num_adapter": sum(trained.values()), "num_expert_adapter": experts}


def _heads(text: Any) -> list[tuple[int, int]]:
    """Per layer, the widths of all query heads and of all key heads together."""
    sizes = []
    for layer in text.per_layer_config:  # layers of Gemma 4 differ
        heads = int(layer.num_attention_heads)
        head_dim = int(getattr(layer, "head_dim", None) or layer.hidden_size // heads)
        keys = int(getattr(layer, "num_key_value_heads", None) or heads)
        sizes.append((heads * head_dim, keys * head_dim))
    return sizes


def _windows(text: Any, delta_net: DeltaNet | None) -> tuple[int | None, ...]:
    seen = {"sliding_attention": getattr(text, "sliding_window", None)}
    if delta_net is not None:  # of others nothing is known: counted as attention
        seen["linear_attention"] = 0
    return tuple(seen.get(kind) for kind in layer_kinds(text))


def _download(model: ModelConfig, shipped: list[str]) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(model.name, MODEL_CONFIG, revision=model.revision)
    except Exception as error:  # the hub client's own, the HTTP library's, the system's
        raise ModelError(
            f"model.name={model.name}: its config.json is neither on this disk nor in the shipped "
            f"table, and the hub did not give it ({one_line(error)[:120]}): connect, or set "
            f"model.path to a folder with config.json; {did_you_mean(model.name, shipped)}"
        ) from error
    fields: dict[str, Any] = read_json(Path(path))
    return fields
