"""A transformers network in two parts: a body that gives hidden states, a head that maps them to
logits."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssd.errors import ModelError
from ssd.models.weights import quantisation


def load(folder: Path, dtype: torch.dtype, **settings: Any) -> Any:
    """The checkpoint in `folder` in `dtype`; MXFP4 weights, as GPT-OSS has them, dequantised."""
    from transformers import AutoModelForCausalLM, Mxfp4Config

    if quantisation(folder) != "mxfp4":
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **settings)
    settings["quantization_config"] = Mxfp4Config(dequantize=True)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **settings)
    # transformers 5.19 dequantises to bf16 whatever `dtype` says, and saves such a network with the
    # experts of all layers under one name.
    network._weight_conversions = []
    for parameter in network.parameters():  # not the buffers, rotary frequencies stay fp32
        parameter.data = parameter.data.to(dtype)
    return network


def inner_model(network: Any) -> Any:
    """The transformers model, inside its adapter where there is one."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def body(network: Any) -> Any:
    """The model without its head, and without what reads images where there is such a part."""
    return inner_model(network).get_decoder()


def decoder_layers(network: Any) -> Any:
    """The layers of the body.

    Raises:
        ModelError: it keeps them elsewhere, as GPT-2 does.
    """
    layers = getattr(body(network), "layers", None)
    if layers is None:
        raise ModelError(
            f"model.name: {type(inner_model(network)).__name__} keeps its layers elsewhere than in "
            "`layers`: this architecture is not supported, use another model"
        )
    return layers


def head(network: Any) -> Any:
    """Maps hidden states to logits."""
    return inner_model(network).get_output_embeddings()


def unread(network: Any) -> list[nn.Parameter]:
    """Weights that no text goes through, such as those that read images."""
    read = {id(p) for part in (body(network), head(network)) for p in part.parameters()}
    return [p for p in inner_model(network).parameters() if id(p) not in read]


@torch.no_grad()
def check_head(network: Any) -> None:
    """Raise `ModelError` where the network's logits are not its head applied to its body."""
    model = inner_model(network)
    if not isinstance(head(network), nn.Linear):
        raise ModelError(
            f"model.name: the head of {type(model).__name__} is a "
            f"{type(head(network)).__name__}, not a linear layer: it is not supported"
        )
    ids = torch.arange(1, 9, device=model.get_input_embeddings().weight.device)[None]  # (1, 8)
    logits = model(input_ids=ids, use_cache=False).logits
    hidden = body(network)(input_ids=ids, use_cache=False).last_hidden_state
    if not torch.allclose(head(network)(hidden), logits, atol=1e-4, rtol=1e-4):
        raise ModelError(
            f"model.name: {type(model).__name__} scales or caps its logits, "
            "which this project would miss: this architecture is not supported"
        )
