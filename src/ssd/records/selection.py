"""How decoding and checkpoint were chosen: `selection.json` of a run, and a part of its scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import SELECTION
from ssd.artifacts.seals import read_sealed, write_sealed
from ssd.errors import ArtifactError
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.records.pass_at import pass_at_json, read_pass_at

VERSION = 1
REMEDY = "delete it and evaluate this run again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One setting of a sweep, scored on the problems that choose."""

    setting: Setting
    score: Interval
    """pass@1."""
    num_problems: int
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The candidates for each model's setting, and the problems that chose."""

    mode: str
    """`heldout` or `test`."""
    validation: str
    problems: dict[str, list[str]]
    """The ids of the problems that chose, by benchmark."""
    sweeps: dict[str, tuple[Candidate, ...]]
    """By model."""

    def chosen(self, model: str) -> Candidate | None:
        """The chosen candidate of a model; None if it had only one setting."""
        candidates = self.sweeps.get(model, ())
        return next((candidate for candidate in candidates if candidate.chosen), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """All of `selection.json`."""

    inputs: dict[str, Any]
    """What the choice depends on, as `evidence.score_inputs` gives it."""
    chosen: dict[str, Setting]
    """By model, those without a choice included."""
    selection: Selection


def write_choice(run_dir: Path, choice: Choice) -> None:
    """Write `selection.json` into a run folder.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    selection = selection_json(choice.selection)
    sweeps = selection.pop("sweeps")
    stored = {"version": VERSION, "inputs": choice.inputs, **selection}
    write_sealed(run_dir / SELECTION, stored | {"chosen": choice.chosen, "sweeps": sweeps})


def read_choice(run_dir: Path) -> Choice | None:
    """The choice that a run folder holds; None where there is none.

    Raises:
        ArtifactError: the file is damaged or of another version.
    """
    path = run_dir / SELECTION
    if not path.is_file():
        return None
    stored = read_sealed(path, REMEDY)
    try:
        if stored["version"] != VERSION:
            raise ArtifactError(f"{path} has version {stored['version']}, not {VERSION}: {REMEDY}")
        return Choice(
            inputs=stored["inputs"],
            chosen={model: Setting(**setting) for model, setting in stored["chosen"].items()},
            selection=read_selection(stored),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({error!r}): {REMEDY}") from error


def selection_json(selection: Selection) -> dict[str, Any]:
    """A selection as it is stored."""
    return {
        "mode": selection.mode,
        "validation": selection.validation,
        "problems": selection.problems,
        "sweeps": {
            model: [
                {
                    **plain(candidate.setting),
                    "num_problems": candidate.num_problems,
                    **pass_at_json({1: candidate.score}),
                    "chosen": candidate.chosen,
                }
                for candidate in candidates
            ]
            for model, candidates in selection.sweeps.items()
        },
    }


def read_selection(stored: dict[str, Any]) -> Selection:
    """A selection from its stored fields; other fields beside them are ignored."""
    return Selection(
        **{name: stored[name] for name in ("mode", "validation", "problems")},
        sweeps={
            model: tuple(
                Candidate(
                    setting=read_setting(row),
                    score=read_pass_at(row)[1],
                    num_problems=row["num_problems"],
                    chosen=row["chosen"],
                )
                for row in rows
            )
            for model, rows in stored["sweeps"].items()
        },
    )


def read_setting(stored: dict[str, Any]) -> Setting:
    """The setting in some stored fields."""
    names = ("temp", "top_k", "top_p", "checkpoint_step")
    return Setting(**{name: stored[name] for name in names})
