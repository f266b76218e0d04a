"""The registry's entry of a benchmark: everything that is looked up by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles
from ssd.errors import DataError
from ssd.problems.benchmarks.tasks import Task
from ssd.problems.forms import FORMS, Form
from ssd.problems.rows import MEND, Row, numbered_rows

Read = Callable[[list[Path], Grading, int | None], list[Task]]
"""Tasks of files in their order; with a limit, at least those of its `fixed_subset`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A benchmark, before any of its files is opened. It is a JSON Lines file (`parse`), or brings
    its own reader (`read`)."""

    name: str
    """As `eval.benchmarks` takes it."""
    parse: Callable[[Row], Task] | None = None
    """A row as a problem with its tests; a KeyError becomes an error about the file."""
    keep: Callable[[Row], bool] = lambda _: True
    """Whether a row belongs to it."""
    read: Read | None = None
    size: int | None = None
    """Number of problems; None if only the file says."""
    shipped: Path | None = None
    """Its file, if the project ships it."""
    setting: str | None = None
    """Which of `eval.files` names its file instead; None if none does."""
    origin: str = ""
    """What to download if it is not shipped, for the remedy of an error."""
    fetch: Callable[[BenchmarkFiles], list[Path]] | None = None
    """Finds its files if there are several."""
    release: Callable[[list[Path], BenchmarkFiles], str] | None = None
    """Names the edition of the files; None if there is only one."""
    window: str | None = None
    """First and last contest date, if the benchmark is a choice by date."""
    gradings: tuple[Grading, ...] = (Grading.official,)
    """The rules of `eval.grading` that it has; under any other it is graded by the first."""
    short_answers: bool = False
    """Whether an answer is one short function, as a plan then assumes."""
    trusted_tests: bool = True
    """Whether its tests are known to tell right answers from wrong ones; others are tried first."""
    hub_set: str | None = None
    """The hub's data set with the same problems, for model cards."""

    def rule(self, grading: Grading) -> Grading:
        """The rule that its answers are graded by under `eval.grading`."""
        return grading if grading in self.gradings else self.gradings[0]

    def form(self, grading: Grading) -> Form:
        """How its answers are read under `eval.grading`."""
        return FORMS[self.rule(grading)]

    def files(self, files: BenchmarkFiles) -> list[Path]:
        """The files it is read from, fetched first if they come from the hub.

        Raises:
            DataError: a file is not set, not there, or cannot be fetched.
        """
        if self.fetch is not None:
            return self.fetch(files)
        path = None if self.setting is None else getattr(files, self.setting)
        if path is None and self.shipped is not None:
            return [self.shipped]
        setting = f"eval.files.{self.setting}"
        if path is None:
            download = f"download {self.origin} and " if self.origin else ""
            raise DataError(
                f"eval.benchmarks={self.name} is read from a file of yours: "
                f"{download}set {setting}=FILE"
            )
        if not Path(path).is_file():
            raise DataError(f"{setting}={path} is no file: name a .jsonl or .jsonl.gz file")
        return [Path(path)]

    def tasks(self, paths: list[Path], grading: Grading, limit: int | None) -> list[Task]:
        """Its problems, in the order of its files.

        Raises:
            DataError: a file is unreadable, or lacks a field.
        """
        if self.read is not None:
            return self.read(paths, grading, limit)
        return [
            self._task(row, f"{path}, {place}")
            for path in paths
            for place, row in numbered_rows(path)
            if self.keep(row)
        ]

    def _task(self, row: Row, place: str) -> Task:
        assert self.parse is not None, f"{self.name} says neither how to parse nor how to read"
        try:
            return self.parse(row)
        except KeyError as error:
            published = f"name the published file as eval.files.{self.setting}"
            remedy = MEND if self.setting is None else published
            raise DataError(f"{place} has no field {error}: {remedy}") from error
