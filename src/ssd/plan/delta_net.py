"""Layers of a gated delta net, as Qwen3.5 and Qwen3-Next have beside their attention.

C tokens of a chunk; c bytes of a product's operand; H value heads; widths K (all key heads), R (the
same, repeated for every value head), V (all value heads).
"""

from dataclasses import dataclass
from typing import Any

CHUNK, FP32 = 64, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaNet:
    """Sizes of one layer."""

    num_heads: int
    """H."""
    key_size: int
    """K."""
    head_keys: int
    head_values: int
    kernel: int
    """Tokens that the convolution sees."""

    @property
    def channels(self) -> int:
        """Width of the convolution: queries, keys and values."""
        return 2 * self.key_size + self.num_heads * self.head_values

    @property
    def state_size(self) -> int:
        """Numbers that the layer keeps of a sequence, whatever its length."""
        state = self.num_heads * self.head_keys * self.head_values
        return state + self.channels * (self.kernel - 1)

    def kept_per_token(self, c: int) -> int:
        """Bytes per token that the layer keeps for its backward pass, as transformers computes it
        where no kernels of other packages do, which keep less: copies in fp32 of all that enters a
        chunk, and a state for each chunk.

        Convolution: 8 c K. Heads: (16 + 5 c) R and (24 + 5 c) V. Five matrices of C by C in each
        chunk, 20 C H, and its state, 4 R V / (H C). The coefficients were fitted to what autograd
        keeps of 36 shapes in three precisions.
        """
        repeated, values = self.num_heads * self.head_keys, self.num_heads * self.head_values
        heads = (16 + 5 * c) * repeated + (24 + 5 * c) * values
        return 8 * c * self.key_size + heads + 5 * FP32 * CHUNK * self.num_heads + self._states

    def products_per_token(self, c: int) -> int:
        """The same where only results of matrix products are kept: of the projections, two matrices
        of C by C and three of values in each chunk, and its state."""
        values = self.num_heads * self.head_values
        chunks = FP32 * (2 * CHUNK * self.num_heads + 3 * values) + self._states
        return c * (self.channels + values + 2 * self.num_heads) + chunks

    @property
    def _states(self) -> int:
        return FP32 * self.num_heads * self.head_keys * self.head_values // CHUNK


def find_delta_net(text: Any) -> DeltaNet | None:
    """The sizes of an architecture's gated delta nets; None where it has none."""
    heads = getattr(text, "linear_num_value_heads", None)
    if heads is None:
        return None
    return DeltaNet(
        num_heads=int(heads),
        key_size=int(text.linear_num_key_heads * text.linear_key_head_dim),
        head_keys=int(text.linear_key_head_dim),
        head_values=int(text.linear_value_head_dim),
        kernel=int(text.linear_conv_kernel_dim),
    )
