"""The memory that a forward pass keeps for its backward pass, in bytes per token and layer.

A formula of widths, for layers of the Llama family as transformers writes them: two norms that
compute in fp32, separate query, key and value projections, a gated feed-forward network, dense or
of routed experts. Its tests compare it with what autograd really keeps.

R tokens of a row; c bytes of a product's operand, r of the residual stream; widths D (hidden), Q
and K (all query heads, all key heads), F (feed-forward, of all experts that one token uses); E
experts per token.
"""

from dataclasses import dataclass

from ssd.config.choices import AdapterType, Precision, Recompute
from ssd.plan.architecture import Architecture

NORM = 4
"""Bytes per element that a norm computes in: fp32."""
EAGER, SDPA = "eager", "sdpa"
IN_TRANSIT = 2
"""Layers' inputs that are on a device although they are kept in main memory."""


@dataclass(frozen=True, slots=True)
class Widths:
    """Bytes of one element."""

    compute: int
    """c, of the operands of matrix products."""
    residual: int
    """r, of the residual stream: fp32 under autocast, where embeddings are fp32."""


def widths(precision: Precision, adapter: AdapterType, *, shards: bool) -> Widths:
    """Autocast leaves the residual stream in the embedding's fp32; FSDP2's bf16 weights, and frozen
    bf16 weights under an adapter, make it bf16."""
    if precision is Precision.fp32:
        return Widths(compute=4, residual=4)
    return Widths(compute=2, residual=2 if shards or adapter is not AdapterType.none else 4)


def kept_per_token(model: Architecture, width: Widths, *, attends: bool = True) -> int:
    """Bytes per token that one layer, with attention or a gated delta net, keeps when nothing is
    recomputed.

    Norms: 2 (4 + r) D for the fp32 input and the normalised state, and the operands of the products
    that follow, 2 c D, which autocast copies anew for each of five products (5 c D). Attention:
    2 c (Q + K) for queries, keys, values and output, 4 bytes of log-sum-exp per head, and
    (4 + c) (Q + K) where queries and keys have norms. Feed-forward: 4 c F for gate, its activation,
    up and their product, and 2 c E D for what is sent to experts and comes back.
    """
    c, r, hidden = width.compute, width.residual, model.hidden_size
    heads = model.query_size + model.key_size
    operands = 2 if c == r else 5
    norms = 2 * (NORM + r) * hidden + operands * c * hidden
    mixing = 2 * c * heads + NORM * model.num_heads
    if model.norms_queries:
        mixing += (NORM + c) * heads
    if model.delta_net is not None and not attends:
        mixing = model.delta_net.kept_per_token(c)
    routed = 2 * model.experts_per_token * hidden
    return norms + mixing + c * (4 * model.mlp_size + routed)


def products_per_token(model: Architecture, width: Widths, *, attends: bool = True) -> int:
    """Bytes per token that one layer keeps when all but matrix products and attention is computed
    again: its input, r D; results of the projections, c (Q + 2 K + D), and of attention, c Q and 4
    bytes per head; and of the feed-forward network, c (2 F + D), with D once per expert."""
    c, hidden = width.compute, model.hidden_size
    mixing = c * (2 * model.query_size + 2 * model.key_size) + NORM * model.num_heads
    if model.delta_net is not None and not attends:
        mixing = model.delta_net.products_per_token(c)
    feed_forward = 2 * model.mlp_size + hidden * (model.experts_per_token or 1)
    return width.residual * hidden + mixing + c * (hidden + feed_forward)


def backward_per_token(model: Architecture, width: Widths) -> int:
    """Bytes per token of the gradients that exist at once in the layer whose backward pass runs:
    of gate, up and their product, 3 c F, of what experts read and wrote, 2 c E D, and of the
    residual stream, 2 r D."""
    routed = 2 * model.experts_per_token * model.hidden_size
    feed_forward = width.compute * (3 * model.mlp_size + routed)
    return feed_forward + 2 * width.residual * model.hidden_size


def attention_scores(model: Architecture, tokens: int) -> int:
    """Elements of the attention scores that one layer keeps, for every head and pair of tokens;
    only `eager` keeps any."""
    return model.num_heads * tokens**2 if model.attention == EAGER else 0


def attention_mask(model: Architecture, width: Widths, tokens: int) -> int:
    """Bytes of the mask that keeps packed documents apart, R^2 truth values and as many additive
    ones; `varlen` and `flash_attention_2` need none."""
    return (1 + width.compute) * tokens**2 if model.attention in (EAGER, SDPA) else 0


def input_bytes(model: Architecture, width: Widths, tokens: int) -> int:
    """Bytes of a layer's input, all that full recomputation keeps of it."""
    return width.residual * model.hidden_size * tokens


def activation_bytes(
    model: Architecture,
    recompute: Recompute,
    recomputed: int,
    width: Widths,
    tokens: int,
    *,
    packing: bool,
    offload: bool = False,
) -> int:
    """Bytes of activations at the worst moment of a micro-batch of `tokens` tokens; with `offload`,
    without the inputs that lie in main memory, but with the two on their way there or back.

    Of the first `recomputed` layers their products' (`selective`) or their input (`full`) are kept,
    of the others everything, while one layer runs backward. That layer has everything in either
    case, so recomputing the last layer, too, saves nothing.
    """
    scores = attention_scores(model, tokens)
    layers = [window != 0 for window in model.windows]
    whole = {
        # Probabilities in fp32 and in the operands' type; as a product's result only the latter.
        True: kept_per_token(model, width) * tokens + (NORM + width.compute) * scores,
        False: kept_per_token(model, width, attends=False) * tokens,
    }
    products = {
        True: products_per_token(model, width) * tokens + width.compute * scores,
        False: products_per_token(model, width, attends=False) * tokens,
    }
    inputs = dict.fromkeys((True, False), input_bytes(model, width, tokens))
    stored = {
        Recompute.none: whole, Recompute.selective: products, Recompute.full: inputs,
    }[recompute]  # fmt: skip
    again = layers[: min(recomputed, model.num_layers - 1)]
    rest = sum(whole[attends] for attends in layers[len(again) :])
    # A layer that is computed again comes when those behind it are done.
    largest = max((whole[attends] for attends in again), default=0)
    held = again[:IN_TRANSIT] if offload else again
    kept = sum(stored[attends] for attends in held) + max(rest, largest)
    running = backward_per_token(model, width) * tokens
    ends = (NORM + width.residual + width.compute) * model.hidden_size * tokens  # the final norm
    mask = attention_mask(model, width, tokens) if packing else 0
    return kept + running + ends + mask
