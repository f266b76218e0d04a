"""The tuned model as an ordinary checkpoint folder, checked by loading it again."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from ssd.config import Dtype
from ssd.errors import ModelError
from ssd.models.weights import TOKENIZER_FILES


def gather_weights(network: Any) -> dict[str, Tensor]:
    """The whole state on the CPU of rank 0, adapters merged; empty on other ranks.
    Every rank must call it."""
    if hasattr(network, "merge_and_unload"):
        network = network.merge_and_unload()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(network, options=options)
    return state


def export(state: dict[str, Tensor], base: Path, folder: Path, dtype: Dtype) -> dict[str, Any]:
    """Save `state` in the layout of the checkpoint in `base`,
    and check that it loads and computes the same.

    Returns:
        `max_logit_difference` between the saved and the reloaded model on a fixed probe,
        and `num_tensors`.

    Raises:
        ModelError: keys are missing or unknown, or the reloaded model computes something else.
    """
    from transformers import AutoModelForCausalLM

    type_ = getattr(torch, dtype.value)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=type_)
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = set(model.all_tied_weights_keys)
    if set(missing) - tied or unexpected:
        raise ModelError(
            f"export: missing {sorted(set(missing) - tied)[:3]}, "
            f"unexpected {unexpected[:3]} weights"
        )
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copy2(base / name, folder / name)
    reloaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=type_)
    difference = _logit_difference(model, reloaded)
    if difference != 0:
        raise ModelError(
            f"export: {folder} computes other logits than the trained model (by {difference:.3g})"
        )
    return {"max_logit_difference": difference, "num_tensors": len(state)}


@torch.no_grad()
def _logit_difference(one: nn.Module, other: nn.Module) -> float:
    vocabulary = one.get_input_embeddings().num_embeddings  # type: ignore[operator]
    ids = torch.randint(vocabulary, (1, 32), generator=torch.Generator().manual_seed(0))
    return float(
        (one.eval()(input_ids=ids).logits - other.eval()(input_ids=ids).logits).abs().max()
    )
