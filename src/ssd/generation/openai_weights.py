"""Whether a server holds the weights that this machine has, as far as that shows cheaply.

Log-probabilities of a text under both tell other models apart, and other precisions from their
rounding. They do not tell apart weights that differ by less than rounding does.
"""

from pathlib import Path
from typing import Any

from ssd.errors import HardwareError
from ssd.generation.openai_connection import Connection, Refusal
from ssd.generation.openai_server import DECODING, Server
from ssd.models.weights import weight_bytes
from ssd.runtime.hardware import available_memory
from ssd.runtime.progress import silence_loading_bars

TEXT = (
    "Write a function that returns the sum of the squares of the even numbers in a list.\n"
    "def sum_of_even_squares(numbers):\n    return sum(n * n for n in numbers if n % 2 == 0)\n"
)
CHEAP = 8 * 2**30
"""Bytes of weights in fp32 up to which they are loaded for this: seconds, and one forward pass."""
LARGEST = 0.3
"""Mean distance in nats per token that counts as the same model in another precision.
SmolLM2-135M in fp32 is 0.026 away from itself in bf16, 0.057 from its rows rounded to 8 bits, 0.62
from itself with a tenth of their deviation as noise on all weights, and 1.1 from 4 bits."""


def weights_distance(
    connection: Connection, server: Server, folder: Path, tokenizer: Any
) -> float | None:
    """Mean absolute difference between the server's log-probabilities of a text and those of the
    weights in `folder`, in nats per token; None where one side is not to be had cheaply.

    Raises:
        HardwareError: it is another model's.
    """
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    if 2 * weight_bytes(folder) > min(CHEAP, available_memory()):
        return _note("the weights are too large to compare")
    body = {**DECODING, "model": server.name, "prompt": ids, "temperature": 0.0, "max_tokens": 1}
    try:
        answer = connection.complete({**body, "prompt_logprobs": 0}).result()
    except Refusal as error:
        return _note(str(error))
    positions = answer.get("prompt_logprobs") or ()
    if len(positions) != len(ids):
        return _note("it returns no log-probabilities of prompts")
    theirs = [
        position[str(token_id)]["logprob"]
        for position, token_id in zip(positions[1:], ids[1:], strict=True)
    ]
    ours = _own_logprobs(folder, ids)
    distance: float = sum(abs(a - b) for a, b in zip(theirs, ours, strict=True)) / len(ours)
    if not distance <= LARGEST:
        raise HardwareError(
            f"the server of sampler.url holds another model ({server.root or server.name}): its "
            f"log-probabilities of a text are {distance:.2f} nats per token away from those of "
            f"{folder}: let it serve that folder"
        )
    print(f"the server's log-probabilities are {distance:.4f} nats per token from ours", flush=True)
    return round(distance, 6)


def _note(reason: str) -> float | None:
    print(f"note: that the server's weights are this run's is not checked: {reason}", flush=True)
    return None


def _own_logprobs(folder: Path, ids: list[int]) -> list[float]:
    """Log-probability of every token of a text but the first, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    silence_loading_bars()
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([ids])).logits[0, :-1].float()  # (T, V)
    chosen = torch.tensor(ids[1:])[:, None]
    values: list[float] = logits.log_softmax(-1).gather(-1, chosen)[:, 0].tolist()
    return values
