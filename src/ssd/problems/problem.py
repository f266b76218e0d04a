"""Problems as both sampling and evaluation read them, and the sets shipped with the project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.config import DataConfig, DataSource
from ssd.errors import ConfigError, DataError, did_you_mean
from ssd.problems.rows import read_jsonl

DATA = Path(__file__).parent.parent / "data"
MBPP_SPLITS = {
    "prompt": range(1, 11),
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
}
"""Task ids of MBPP's splits (Austin et al. 2021, arXiv 2108.07732)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A programming problem, before any prompt format."""

    problem_id: str
    question: str
    starter_code: str | None = None
    reads_stdin: bool = False


def packaged_file(name: str) -> Path:
    """The shipped file of a packaged set.

    Raises:
        ConfigError: there is no such set.
    """
    path = DATA / f"{name}.jsonl.gz"
    if not path.is_file():
        known = [file.name.removesuffix(".jsonl.gz") for file in DATA.glob("*.jsonl.gz")]
        raise ConfigError(f"data.name: no packaged set '{name}'; {did_you_mean(name, known)}")
    return path


def prompt_file(data: DataConfig) -> Path:
    """The file that a packaged or local prompt set is read from.

    Raises:
        ConfigError: there is no such packaged set.
        DataError: there is no such file.
    """
    if data.source is DataSource.packaged:
        return packaged_file(data.name)
    path = Path(str(data.path))
    if not path.is_file():
        raise DataError(f"data.path={path} is no file: name a .jsonl, .json, .parquet or .csv file")
    return path


def packaged_rows(name: str, split: str) -> list[dict[str, Any]]:
    """Raw rows of one split of a packaged set.

    Raises:
        ConfigError: the set or the split does not exist.
    """
    rows = read_jsonl(packaged_file(name))
    if name not in ("mbpp", "mbpp_sanitized"):
        if split != "test":
            raise ConfigError(f"data.split: {name} has no split '{split}'; known: test")
        return rows
    if split not in MBPP_SPLITS:
        raise ConfigError(
            f"data.split: {name} has no split '{split}'; {did_you_mean(split, list(MBPP_SPLITS))}"
        )
    return [row for row in rows if row["task_id"] in MBPP_SPLITS[split]]


def packaged_problem(name: str, row: dict[str, Any]) -> Problem:
    """One row of a packaged set as a problem; MBPP shows its tests, as its authors' prompt does."""
    if name in ("mbpp", "mbpp_sanitized"):
        tests = "\n".join(row["test_list"])
        text = row["text"] if name == "mbpp" else row["prompt"]
        question = f"{text}\nYour code should pass these tests:\n\n{tests}"
        return Problem(problem_id=f"{name}/{row['task_id']}", question=question)
    if name == "mbpp_plus":  # the prompt is a docstring: the task, and its tests
        text = row["prompt"].strip().strip('"').strip()
        return Problem(problem_id=row["task_id"], question=text)
    question = (
        "Complete this Python code and return the whole of it:\n"
        f"```python\n{row['prompt'].rstrip()}\n```"
    )
    return Problem(problem_id=row["task_id"], question=question)
