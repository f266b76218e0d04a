"""What a row of training holds: several documents end to end, or one."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ssd.config.choices import Attention
from ssd.config.settings import HardwareConfig, TrainConfig
from ssd.errors import ModelError
from ssd.models.miniature import miniature
from ssd.train.attention import check_isolation, choose_attention
from ssd.train.network import CompletionLoss

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Rows:
    """How a model's documents are laid out."""

    packed: bool
    """Whether documents share a row; otherwise each has one, padded on the right."""
    note: str | None = None
    """Why they do not though `train.packing` is true, in one line."""


def choose_rows(folder: Path, train: TrainConfig, hardware: HardwareConfig) -> Rows:
    """Try `train.packing` on a few narrow, random layers of the architecture of the checkpoint in
    `folder`: seconds on a CPU, without its weights.

    Raises:
        ModelError: the architecture does not take `hardware.attention`.
    """
    if not train.packing:
        return Rows(packed=False)
    from transformers import AutoConfig

    network = miniature(AutoConfig.from_pretrained(folder))
    # Its package needs a GPU; which documents a layer sees depends on the arguments, the same here.
    wanted = hardware.attention
    tried = Attention.sdpa if wanted is Attention.flash_attention_2 else wanted
    attention = choose_attention(tried, type(network))
    network.set_attn_implementation(attention)
    loss = CompletionLoss(network)
    try:
        check_isolation(loss, attention, network.config.vocab_size, CPU)
    except ModelError:
        name = type(network).__name__
        return Rows(
            packed=False,
            note=f"layers of {name} let documents of a packed row see each other, so each has a "
            "row of its own, padded",
        )
    return Rows(packed=True)
