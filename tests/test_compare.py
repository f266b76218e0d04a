"""Two runs' tuned models, paired by problem, on the command line."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from answers import make_verdict
from run_folders import UNDECIDED, benchmark_scores, make_run, write_scores

from ssd.artifacts.names import VERDICTS
from ssd.compare import compare
from ssd.errors import ArtifactError, ConfigError, DataError
from ssd.method.sign_flip import sign_flip_p_value
from ssd.records.verdicts import write_verdicts
from ssd.run import Run, evidence

PROBLEMS, ANSWERS = 24, 2
NAMES = {1.0: "model=tiny,sampler.temp=1.0"}
"""A run folder from before names were fit for a shell."""
Passes = Callable[[int, int], bool]


def scored(
    tmp_path: Path, temp: float, passes: Passes, num_tokens: int = 100, problems: int = PROBLEMS
) -> Run:
    """A run with verdicts of its tuned model on humaneval."""
    name = NAMES.get(temp, f"model-tiny__sampler.temp-{temp}")
    run = make_run(tmp_path, name, f"sampler.temp={temp}")
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED, num_problems=problems))
    verdicts = evidence.verdicts(run, "tuned", "humaneval")
    rows = [
        make_verdict(f"p/{problem}", index, passes(problem, index), num_tokens=num_tokens)
        for problem in range(problems)
        for index in range(ANSWERS)
    ]
    write_verdicts(verdicts.folder / VERDICTS, rows)
    verdicts.finish(started=0.0, counts={})
    return run


def one_third(problem: int, index: int) -> bool:
    return problem % 3 == 0


def test_runs_are_compared_problem_by_problem(tmp_path: Path) -> None:
    def half(problem: int, index: int) -> bool:
        return one_third(problem, index) or (problem % 3 == 1 and index == 0)

    first = scored(tmp_path, 1.6, half, num_tokens=130)
    second = scored(tmp_path, 1.0, one_third)
    finished = subprocess.run(
        [sys.executable, "-m", "ssd.compare", first.folder, second.folder],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = {line.split("  ")[0]: line for line in finished.stdout.splitlines()}
    # A third of the problems pass one answer of two more.
    assert "50.0 [" in lines["sampler.temp-1.6"]
    assert "33.3 [" in lines["sampler.temp=1.0"]
    assert "+16.7 [" in lines["sampler.temp=1.0"]
    differences_P = np.tile([0.0, 0.5, 0.0], PROBLEMS // 3)
    expected = sign_flip_p_value(differences_P, 10_000, np.random.default_rng(0))
    assert f"p={expected:.2g}" in lines["sampler.temp=1.0"]
    assert "sampler.temp-1.6 minus it" in finished.stdout
    text = " ".join(finished.stdout.split())
    assert "sampler.temp-1.6 are +30 [+30, +30] tokens longer than those of" in text


def test_equal_answers_do_not_differ(tmp_path: Path) -> None:
    runs = [scored(tmp_path, temp, one_third) for temp in (0.8, 1.0, 1.6)]
    told = compare([run.folder for run in runs], "tuned", "humaneval")
    same = re.findall(r"\+0\.0 \[-[\d.]+, \+[\d.]+\] p=1", told)
    assert len(same) == 4  # two runs, pass@1 and pass@2
    # By the interval of no change at all, whose noise is above what the test takes of 48 answers.
    visible = re.findall(
        r"(\S+) can only show differences of about ([\d.]+)", " ".join(told.split())
    )
    assert [run for run, _ in visible] == ["sampler.temp=1.0", "sampler.temp-1.6"]
    assert all(17.8 <= float(points) < 19.3 for _, points in visible)


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path: Path) -> None:
    run, fewer = scored(tmp_path, 1.0, one_third), scored(tmp_path, 1.6, one_third, problems=9)
    pair = [run.folder, fewer.folder]
    with pytest.raises(DataError, match=r"24 x 2 in .*, 9 x 2 in .*: set eval\.limit"):
        compare(pair, "tuned", None)
    with pytest.raises(ArtifactError, match="no scores of t1 on humaneval, but of base, tuned"):
        compare(pair, "t1", None)
    with pytest.raises(ConfigError, match="two run folders or more, each once"):
        compare([run.folder, run.folder], "tuned", None)
    other = make_run(tmp_path, "other")
    with pytest.raises(ArtifactError, match=r"has no scores\.json: run ssd evaluate"):
        compare([run.folder, other.folder], "tuned", None)
    write_scores(other, mbpp=benchmark_scores(other, UNDECIDED, "mbpp"))
    with pytest.raises(ArtifactError, match=r"share no benchmark .*humaneval.*mbpp"):
        compare([run.folder, other.folder], "tuned", None)
    changed = benchmark_scores(fewer, UNDECIDED, grading="apple_release")
    write_scores(fewer, humaneval=changed)
    with pytest.raises(DataError, match=r"grading is official in .*, apple_release in"):
        compare(pair, "tuned", None)
