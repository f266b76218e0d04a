"""Samples and verdicts as the stages before would have made them."""

from ssd.records.samples import Sample
from ssd.records.verdicts import Verdict


def fenced(code: str) -> str:
    """An answer as chat models write it."""
    return f"Here is the function:\n\n```python\n{code}\n```\n"


def make_sample(problem_id: str, text: str, index: int = 0) -> Sample:
    """A sample with this text; its token ids are its bytes."""
    return Sample(
        prompt_id=problem_id,
        sample_index=index,
        seed=index,
        prompt_token_ids=[1, 2],
        completion_token_ids=list(text.encode()),
        text=text,
        finish_reason="stop",
    )


def make_verdict(
    problem_id: str,
    index: int,
    passed: bool,
    finish_reason: str = "stop",
    num_tokens: int = 10,
    program: str = "",
) -> Verdict:
    """A verdict on an answer."""
    return Verdict(
        problem_id=problem_id,
        sample_index=index,
        passed=passed,
        status="passed" if passed else "failed",
        detail="",
        num_tokens=num_tokens,
        finish_reason=finish_reason,
        has_fence=passed,
        program=program,
        seconds=0.01,
        backend="none",
    )
