"""The worked examples of docs/training.md are what the plan prints."""

import re
import shlex
from pathlib import Path

import pytest
from runs import ROOT, compose_config

from ssd.plan.plan import make_plan
from ssd.plan.table import plan_text
from ssd.report.render.formats import duration

DOCS = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```\n\$ python train.py ([^\n]*)\n(plan of .*?)\n```", DOCS, re.DOTALL)
COSTS = re.findall(
    r"^\| `(experiment=\w.*?)` \| (.*?) \|$",
    (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
SOURCE = re.compile(r"  sizes from .*")


def test_the_papers_two_instruct_models_are_worked_out() -> None:
    assert [arguments.split()[0] for arguments, _ in EXAMPLES] == [
        "model=qwen3_4b",
        "model=qwen3_30b",
    ]


@pytest.mark.parametrize(("arguments", "printed"), EXAMPLES)
def test_a_worked_example_is_what_the_plan_prints(
    arguments: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = compose_config(*shlex.split(arguments), f"output_dir={tmp_path}")
    text = plan_text(make_plan(config, tmp_path))
    assert SOURCE.sub("", text) == SOURCE.sub("", printed)


@pytest.mark.slow
def test_prepared_experiments_cost_what_the_docs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert len(COSTS) == 10
    for arguments, time in COSTS:
        config = compose_config(*shlex.split(arguments), f"output_dir={tmp_path}")
        seconds = make_plan(config, tmp_path).hours.seconds
        assert seconds is not None
        assert duration(seconds) == time, arguments
