"""Problems as both sampling and evaluation read them, and the sets shipped with the project."""

from dataclasses import dataclass
from pathlib import Path

from ssd.config.choices import DataSource
from ssd.config.settings import DataConfig
from ssd.errors import ConfigError, DataError, did_you_mean
from ssd.problems.rows import Row, read_jsonl

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


def humaneval_problem(row: Row) -> Problem:
    """A row of HumanEval or HumanEval+."""
    question = (
        "Complete this Python code and return the whole of it:\n"
        f"```python\n{row['prompt'].rstrip()}\n```"
    )
    return Problem(problem_id=row["task_id"], question=question)


def mbpp_problem(row: Row) -> Problem:
    """A row of MBPP's full file; it shows its tests, as its authors' prompt does."""
    return _with_tests(row, f"mbpp/{row['task_id']}", row["text"])


def sanitized_problem(row: Row) -> Problem:
    """A row of MBPP's sanitized file, with its tests."""
    return _with_tests(row, f"mbpp_sanitized/{row['task_id']}", row["prompt"])


def mbpp_plus_problem(row: Row) -> Problem:
    """A row of MBPP+, whose prompt is a docstring: the task, and its tests."""
    return Problem(problem_id=row["task_id"], question=row["prompt"].strip().strip('"').strip())


def _with_tests(row: Row, problem_id: str, text: str) -> Problem:
    tests = "\n".join(row["test_list"])
    question = f"{text}\nYour code should pass these tests:\n\n{tests}"
    return Problem(problem_id=problem_id, question=question)


PACKAGED = {
    "humaneval": humaneval_problem,
    "mbpp": mbpp_problem,
    "mbpp_sanitized": sanitized_problem,
    "mbpp_plus": mbpp_plus_problem,
}
"""The possible values of `data.name`, each with the function that turns a row into a problem."""


def packaged_file(name: str) -> Path:
    """The shipped file of a packaged set.

    Raises:
        ConfigError: there is no such set.
    """
    if name not in PACKAGED:
        hint = did_you_mean(name, list(PACKAGED))
        raise ConfigError(f"data.name: no packaged set '{name}'; {hint}")
    return DATA / f"{name}.jsonl.gz"


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


def packaged_rows(name: str, split: str) -> list[Row]:
    """Raw rows of one split of a packaged set.

    Raises:
        ConfigError: the set or the split does not exist.
    """
    rows = read_jsonl(packaged_file(name))
    splits = MBPP_SPLITS if name in ("mbpp", "mbpp_sanitized") else {"test": None}
    if split not in splits:
        hint = did_you_mean(split, list(splits))
        raise ConfigError(f"data.split: {name} has no split '{split}'; {hint}")
    task_ids = splits[split]
    return rows if task_ids is None else [row for row in rows if row["task_id"] in task_ids]
