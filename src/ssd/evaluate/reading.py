"""Samples -> answers: what each says after its reasoning, and how that went."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ssd.config.choices import ModelKind
from ssd.config.settings import ReasoningConfig
from ssd.models.chat import load_tokenizer
from ssd.models.reasoning import answer_text, dropped_tokens, num_tokens_until, opens_reasoning
from ssd.problems.extraction import answer_start, final_answer
from ssd.records.samples import Sample
from ssd.records.verdicts import CLOSED, NO_REASONING, UNCLOSED
from ssd.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A sample, read by the marks of its model's reasoning."""

    answer: str
    """What it says after its reasoning; empty where that never ends."""
    reasoning: str | None = None
    """As in `Verdict`."""
    num_reasoning_tokens: int | None = None
    """As in `Verdict`."""


def reader(run: Run) -> Callable[[Sample], Reading]:
    """How the run's samples are read."""
    marks = run.config.model.reasoning
    if marks is None:  # no marks are known, or an earlier version of this project made the run
        opened = run.config.model.kind is ModelKind.thinking
        return lambda sample: Reading(answer=final_answer(sample.text, opened=opened))
    tokenizer = load_tokenizer(run.weights.path)
    dropped = dropped_tokens(tokenizer, marks)
    return lambda sample: read_sample(sample, marks, tokenizer, dropped)


def read_sample(
    sample: Sample, marks: ReasoningConfig, tokenizer: Any, dropped: Collection[int] | None
) -> Reading:
    """Read a sample by its token ids: stored texts of earlier versions, and of runs with other
    marks, lack the marks that are special tokens."""
    ids = sample.completion_token_ids
    text = sample.text if dropped is None else answer_text(ids, tokenizer, dropped)
    opened = opens_reasoning(sample.prompt_token_ids, tokenizer, marks)
    start = answer_start(text, marks, opened=opened)
    if start == 0:
        return Reading(answer=text, reasoning=NO_REASONING, num_reasoning_tokens=0)
    if start is None:
        return Reading(answer="", reasoning=UNCLOSED, num_reasoning_tokens=len(ids))
    ordinal = text[:start].count(marks.close)
    num_tokens = num_tokens_until(marks.close, ordinal, ids, tokenizer, dropped)
    return Reading(answer=text[start:], reasoning=CLOSED, num_reasoning_tokens=num_tokens)
