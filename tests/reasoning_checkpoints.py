"""Copies of the tiny checkpoint whose tokenizers and chat templates know reasoning."""

import shutil
from pathlib import Path

import torch
from transformers import AddedToken, AutoModelForCausalLM

from ssd.models import Weights
from ssd.models.chat import load_tokenizer

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENS = CHAT.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
"""As Qwen3-Thinking's; the end of reasoning stands nowhere."""
HYBRID = CHAT.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
"""As Qwen3's first generation."""


def reasoning_checkpoint(
    weights: Weights,
    folder: Path,
    template: str = CHAT,
    special: tuple[str, ...] = (),
    ordinary: tuple[str, ...] = (),
) -> Path:
    """A checkpoint with another chat template and added tokens, which have rows of their own."""
    shutil.copytree(weights.path, folder)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = template
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
        + [AddedToken(token, special=False, normalized=False) for token in ordinary]
    )
    tokenizer.save_pretrained(folder)
    if special or ordinary:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        torch.manual_seed(0)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model.save_pretrained(folder)
    return folder
