"""What a row of training holds: several documents end to end, or one."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ssd.config.choices import Attention
from ssd.config.settings import HardwareConfig, TrainConfig
from ssd.errors import ModelError, one_line
from ssd.models.miniature import miniature
from ssd.train.attention import check_isolation, choose_attention
from ssd.train.network import CompletionLoss

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How a model's documents are laid out."""

    packed: bool
    """Whether documents share a row; otherwise each has one, padded on the right."""
    tried: bool
    """Whether that was tried on a small copy of the architecture."""
    note: str | None = None
    """Why documents share no row though `train.packing` is true, in one line."""
    fault: str | None = None
    """What the architecture's own code raised on the small copy, where it could not be tried."""


def choose_rows(folder: Path, train: TrainConfig, hardware: HardwareConfig) -> Rows:
    """Try `train.packing` on a few narrow, random layers of the architecture of the checkpoint in
    `folder`: seconds on a CPU, without its weights.

    Raises:
        ModelError: the architecture does not take `hardware.attention`.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if not train.packing:
        return Rows(packed=False, tried=False)
    config = AutoConfig.from_pretrained(folder)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config.get_text_config())]
    # flash-attn needs a GPU. What a layer sees depends on other arguments, the same here.
    wanted = hardware.attention
    tried = Attention.sdpa if wanted is Attention.flash_attention_2 else wanted
    attention = choose_attention(tried, model_class)
    try:
        network = miniature(config)
        network.set_attn_implementation(attention)
        check_isolation(CompletionLoss(network), attention, network.config.vocab_size, CPU)
    except ModelError:
        note = (
            f"layers of {model_class.__name__} let documents of a packed row see each other, so "
            "each has a row of its own, padded"
        )
        return Rows(packed=False, tried=True, note=note)
    except Exception as error:  # the architecture's own, of any kind: it cannot be made small
        # Training tries it on the model itself.
        fault = f"{type(error).__name__}: {one_line(error)[:80]}"
        return Rows(packed=True, tried=False, fault=fault)
    return Rows(packed=True, tried=True)
