"""Chat templates of the kinds that people's models have, in a few lines each."""

import shutil
from pathlib import Path

from ssd.models import Weights

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM_ROLE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + CHAT
)
"""As Gemma 2's."""
DROPS_SYSTEM = CHAT.replace("messages %}", "messages if message.role != 'system' %}")
DATED = "<|im_start|>system\nToday: {{ strftime_now('%d %b %Y') }}<|im_end|>\n" + CHAT
"""As gpt-oss's and SmolLM3's."""
DATE_BY_DEFAULT = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = 'long ago' %}"
    "{% endif %}{% endif %}{% set first = messages[0] %}Today: {{ date_string }}\n" + CHAT
)
"""As Llama 3.2's."""
HYBRID = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
"""As Qwen3's first generation."""
OPENS_THINK = CHAT.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
MARKED = (
    "{% macro effort() %}{% if reasoning_effort is not defined %}"
    "{% set reasoning_effort = 'medium' %}{% endif %}{{ reasoning_effort }}"
    "{% endmacro %}{{ effort() }}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>\n"
    "{% endgeneration %}"
    "{% else %}{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""An argument inside a macro, as gpt-oss has it, and transformers' tag around answers."""
CHANNELS = CHAT.replace(
    "{{ message.role }}\n",
    "{{ message.role }}\n{% if message.role == 'assistant' %}<|endoftext|>{% endif %}",
)
"""A special token between the prompt and its answer, as gpt-oss's channels."""
IN_PARTS = CHAT.replace(
    "{{ message.content }}", "{% for part in message.content %}{{ part.text }}{% endfor %}"
)
"""For models that also see: content is a list, and of text alone nothing is written."""
ENDLESS = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def checkpoint_with(template: str, weights: Weights, folder: Path) -> Path:
    """A copy of the tiny checkpoint with another chat template."""
    shutil.copytree(weights.path, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder
