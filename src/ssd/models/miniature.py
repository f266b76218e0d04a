"""An architecture in small: its own code with a few narrow layers and random weights, to try on a
CPU in seconds what holds for the large one."""

import copy
from typing import Any

SIZES = {
    "vocab_size": 128, "intermediate_size": 64, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
    "vocab_size_per_layer_input": 128, "num_kv_shared_layers": 0,
}  # fmt: skip
"""What these fields of a configuration are set to where they are larger."""
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
HEADS = 2


def miniature(config: Any) -> Any:
    """A random fp32 network of the text part of `config`, one layer for each kind of layer.

    The width of a head stays: rotary tables and their factors are written for it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(small_config(config), dtype=torch.float32).eval()


def layer_kinds(text: Any) -> list[str]:
    """The kind of every layer, by transformers' names, of the text part of a configuration."""
    kinds = getattr(text, "layer_types", None)
    if kinds is None:  # as Mistral's, whose layers are all alike
        windows = getattr(text, "sliding_window", None)
        kinds = ["sliding_attention" if windows else "full_attention"] * text.num_hidden_layers
    return list(kinds)


def small_config(config: Any) -> Any:
    """The text part of a configuration with its sizes cut down."""
    small = copy.deepcopy(config.get_text_config())
    small.__dict__.pop("quantization_config", None)
    heads, shared = small.num_attention_heads, getattr(small, "num_key_value_heads", None)
    # Not getattr: layers of Gemma 4 differ in it, and it refuses to be asked for all.
    width = small.__dict__.get("head_dim") or small.hidden_size // heads
    small.hidden_size, small.num_attention_heads = HEADS * width, HEADS
    if shared is not None:
        small.num_key_value_heads = HEADS if shared == heads else 1
    for name, size in SIZES.items():
        if (getattr(small, name, None) or 0) > size:
            setattr(small, name, size)
    for name in TOKENS:
        setattr(small, name, None)
    _cut_layers(small)
    return small


def _cut_layers(small: Any) -> None:
    """Keep the first layer of every kind, and at least two."""
    kinds = getattr(small, "layer_types", None)
    if kinds is None:
        small.num_hidden_layers = min(2, small.num_hidden_layers)
        return
    kept = list(dict.fromkeys(kinds))
    if isinstance(getattr(type(small), "layer_types", None), property):  # Jamba counts them out
        small.num_hidden_layers = max(2, *(kinds.index(kind) + 1 for kind in kept))
        return
    small.layer_types = kept if len(kept) > 1 else kept * 2
    small.num_hidden_layers = len(small.layer_types)
