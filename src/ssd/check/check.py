"""The check of a model: its items in order, and the screen that shows them."""

import re
from collections.abc import Callable
from pathlib import Path

from ssd.check import engine, items, prompts
from ssd.check.subject import Subject
from ssd.config.settings import RunConfig
from ssd.errors import SSDError, one_line
from ssd.runtime.findings import Finding, State

ITEMS: dict[str, Callable[[Subject], Finding]] = {
    "files": items.files,
    "architecture": items.architecture,
    "vllm": engine.vllm,
    "weights": items.weights,
    "tensors": items.tensors,
    "generation": prompts.generation_config,
    "head": items.head_and_loss,
    "layers": items.layers,
    "template": prompts.template,
    "reasoning": prompts.reasoning,
    "vocabulary": prompts.vocabulary,
    "adapter": items.adapter,
    "export": items.export,
}
"""In the order of the screen."""
FIRST = ("files", "architecture")
"""Without these nothing else can be read."""


def check_model(folder: Path, config: RunConfig, *, whole: bool = True) -> list[Finding]:
    """What every item says of the checkpoint in `folder` under a run's settings; a refusal of its
    files or architecture ends the list.

    Neither weights nor a GPU are touched.

    Args:
        whole: the weight files are there, and not their headers alone.
    """
    subject = Subject(folder=folder, config=config, whole=whole)
    findings: list[Finding] = []
    for name, ask in ITEMS.items():
        findings.append(_asked(name, ask, subject))
        if name in FIRST and findings[-1].state is State.refused:
            break
    return findings


def refusals(findings: list[Finding]) -> list[Finding]:
    """The findings that stop a run."""
    return [finding for finding in findings if finding.state is State.refused]


def _asked(name: str, ask: Callable[[Subject], Finding], subject: Subject) -> Finding:
    try:
        return ask(subject)
    except SSDError as error:
        return Finding(item=name, state=State.refused, text=one_line(error))
    except Exception as error:  # a library's own: what it cannot read is what was asked
        reason = re.sub(r"[.:\s]+$", "", one_line(error)[:200])
        text = f"{type(error).__name__} ({reason}): use a whole checkpoint that transformers loads"
        return Finding(item=name, state=State.refused, text=text)
