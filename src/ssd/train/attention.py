"""Attention that stays within each document of a packed row, and the check that it does.

B rows, H heads, T tokens, D width of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssd.config.choices import Attention
from ssd.errors import ModelError
from ssd.train.batches import Example, collate

CPU = torch.device("cpu")
VARLEN = "ssd_varlen"
UNKNOWN_TO_VARLEN = ("s_aux", "softcap", "position_bias")
"""Arguments by which some architectures change attention: sinks, caps and biases."""
DOCUMENT_TOKENS = 32
TOLERANCE = 1e-3
"""Relative change of a neighbour's hidden states that counts as a leak. Leaks change them by 0.18
in SmolLM2-135M and 0.005 in a random GPT-OSS (its mean loss by 6e-6, too little to see). Rounding
changes nothing while shapes are identical, except 1e-7 where experts get other tokens besides a
document's."""


def attention_kwargs(
    attention: str, lengths: list[int] | None, device: torch.device = CPU
) -> dict[str, Any]:
    """Arguments that the attention function needs for a packed row on `device`, besides positions.
    They are a tensor and a number: a list of lengths differs in every row and would be compiled
    anew for each.
    """
    if lengths is None or attention not in (VARLEN, Attention.flash_attention_2.value):
        return {}
    # 0 and where each document ends, (documents + 1,)
    ends = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    longest = max(lengths)
    if attention == VARLEN:
        return {"document_ends": ends, "longest_document": longest}
    return {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def packed_mask(config: Any, positions: Tensor, dtype: torch.dtype) -> Any:
    """The mask, or one per kind of layer, that keeps apart documents whose positions restart; None
    where attention takes none. Most architectures would make it themselves; GPT-OSS does not tell
    its masks the positions (transformers 5.19).

    Args:
        positions: (B, T).
        dtype: what attention is computed in.
    """
    from transformers.masking_utils import create_masks_for_generate

    shape = torch.empty(*positions.shape, 1, dtype=dtype, device=positions.device)
    return create_masks_for_generate(config, shape, None, None, positions)


def varlen_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, document_ends: Tensor | None = None,
    longest_document: int | None = None, sliding_window: int | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention within each document; transformers calls this in every layer.

    Args:
        query: (B, H, T, D); `key` and `value` may have fewer heads (grouped queries).
        document_ends: 0 and where each document of a single packed row ends, (documents + 1,),
            int32; None where every row is one document.
        longest_document: tokens of the longest of them.

    Returns:
        (B, T, H, D), and None in place of attention weights.
    """
    for name in UNKNOWN_TO_VARLEN:
        if kwargs.get(name) is not None:
            raise ModelError(
                f"hardware.attention=varlen does not know this model's {name}: "
                "set hardware.attention=eager"
            )
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary embeddings are fp32
    if query.is_cuda and len(query) == 1 and value.dtype in (torch.bfloat16, torch.float16):
        if document_ends is None or longest_document is None:
            longest_document = query.shape[2]
            document_ends = torch.tensor(
                [0, longest_document], device=query.device, dtype=torch.int32
            )
        settings = (document_ends, longest_document, scaling, sliding_window)
        return _flash(query, key, value, *settings), None
    if document_ends is None:
        return _causal(query, key, value, scaling, sliding_window).transpose(1, 2), None
    # Documents differ in number and length, so compiled code sees one operation, not a loop. That
    # operation computes attention again in its backward pass, so eager code keeps the loop.
    looped = document_attention if torch.compiler.is_compiling() else _each_document
    output: Tensor = looped(query, key, value, document_ends, scaling, sliding_window)
    return output.transpose(1, 2), None


def _each_document(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, scaling: float | None,
    window: int | None,
) -> Tensor:  # fmt: skip
    if len(ends) == 2:
        return _causal(query, key, value, scaling, window)
    lengths = ends.diff().tolist()
    parts = [
        _causal(q, k, v, scaling, window)
        for q, k, v in zip(
            query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True
        )
    ]
    return torch.cat(parts, 2)


def _causal(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    length = query.shape[2]
    banded = None
    if window is not None and window < length:
        banded = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        banded = banded.triu(1 - window)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=banded, is_causal=banded is None, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip


@torch.library.custom_op("ssd::document_attention", mutates_args=())
def document_attention(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, scaling: float | None,
    window: int | None,
) -> Tensor:  # fmt: skip
    """`_each_document` as one operation of a compiled graph."""
    # Dense whatever the number of documents, as its fake says.
    return _each_document(query, key, value, ends, scaling, window).contiguous()


@torch.library.custom_op("ssd::document_attention_backward", mutates_args=())
def document_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, ends: Tensor, scaling: float | None,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value."""
    # An operation runs below autograd, which this one needs.
    key_set = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._SetExcludeDispatchKeyGuard(key_set, False), torch.enable_grad():
        inputs = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
        output = _each_document(inputs[0], inputs[1], inputs[2], ends, scaling, window)
    grads = torch.autograd.grad(output, inputs, grad)
    return tuple(g.contiguous() for g in grads)  # type: ignore[return-value]


@document_attention.register_fake
def _(query: Tensor, *_: Any) -> Tensor:
    return query.new_empty(query.shape)


@document_attention_backward.register_fake
def _(_: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:3])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.settings = inputs[4:]


def _gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    grads = document_attention_backward(grad, *ctx.saved_tensors, *ctx.settings)
    return (*grads, None, None, None)


document_attention.register_autograd(_gradients, setup_context=_remember)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int,
    scaling: float | None, window: int | None,
) -> Tensor:  # fmt: skip
    from torch.nn.attention.varlen import varlen_attn

    output = varlen_attn(
        query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1),
        ends, ends, longest, longest, scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    assert isinstance(output, Tensor)
    return output[None]


def choose_attention(attention: Attention, model_class: type) -> str:
    """The name that transformers knows the attention by.

    Raises:
        ModelError: the model's architecture does not take it.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(VARLEN, varlen_attention)
    sdpa = bool(getattr(model_class, "_supports_sdpa", False))
    # Hybrids leave the flag off because of their other layers; their attention is called alike.
    flags = ("_supports_attention_backend", "_is_stateful")
    varlen = sdpa and any(getattr(model_class, flag, False) for flag in flags)
    if attention is Attention.auto:
        return VARLEN if varlen else "sdpa" if sdpa else "eager"
    by_document = (Attention.varlen, Attention.flash_attention_3)
    offers = {Attention.sdpa: sdpa, **dict.fromkeys(by_document, varlen)}
    if not offers.get(attention, True):
        raise ModelError(
            f"hardware.attention={attention.value} is not offered by {model_class.__name__}: "
            "use hardware.attention=auto"
        )
    return VARLEN if attention in by_document else attention.value


def check_isolation(loss: Any, attention: str, vocab_size: int, device: torch.device) -> None:
    """Change the first of two packed documents and require that the second's last hidden states
    stay; `loss` is a `CompletionLoss`, and computes as it does when it is differentiated.

    Raises:
        ModelError: they moved, so documents of a packed row see each other.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size, (3, DOCUMENT_TOKENS), generator=generator).numpy()
    states: list[Tensor] = []
    compared: list[Tensor] = []

    def watch(_: nn.Module, __: Any, output: Any) -> None:
        states.append(output.last_hidden_state[0, DOCUMENT_TOKENS:].detach().float())

    watching = loss.body.register_forward_hook(watch)
    for first in ids[:2]:
        documents = [
            Example(prompt_id="changed", token_ids=first, num_prompt=DOCUMENT_TOKENS),
            Example(prompt_id="watched", token_ids=ids[2], num_prompt=1),
        ]
        torch.manual_seed(0)  # adapters drop out the same both times; every step seeds anew
        loss(collate(documents, [0.0, 1.0], packing=True).to(device))
        compared.append(states[-1])  # an adapted network may first be read as its own base
    watching.remove()
    before, after = compared
    moved = float((before - after).norm() / before.norm())
    if not moved <= TOLERANCE:
        raise ModelError(
            f"documents of a packed row see each other under attention '{attention}': changing one "
            f"moved its neighbour's hidden states by {moved:.2g} of their size. Set "
            "hardware.attention to another backend, or train.packing=false"
        )
