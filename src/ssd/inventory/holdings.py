"""Every artifact of a store, finished or not, with its size, its age, and what refers to it."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssd.artifacts.names import CONFIG, MANIFEST, SCORES, STORE, WEIGHTS
from ssd.artifacts.store import Artifact, read_manifest
from ssd.errors import ArtifactError, SSDError, one_line
from ssd.evaluate.selection import list_jobs
from ssd.records.scores import read_scores
from ssd.run import Run, evidence, lineage, load_run, protocol
from ssd.run.rounds import all_rounds

KINDS = ("corpus", "checkpoint", "generations", "verdicts", "analysis")
DAY = 86400.0
Place = tuple[str, str]
"""Kind and fingerprint."""


@dataclass(slots=True, kw_only=True)
class Holding:
    """One folder of the store."""

    artifact: Artifact
    num_bytes: int
    age_seconds: float
    """Since its newest file was written; 0 where the clock has gone back."""
    state: str
    """`finished`, `unfinished` or `damaged`: its manifest cannot be read."""
    refers_to: list[Place] = field(default_factory=list)
    """By its manifest."""
    runs: list[str] = field(default_factory=list)
    """Run folders that refer to it, themselves or by an artifact that does."""

    @property
    def place(self) -> Place:
        return self.artifact.kind, self.artifact.folder.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All of a store."""

    holdings: list[Holding]
    """By kind, in the order in which a run makes them, and fingerprint."""
    unknown: dict[str, str]
    """Run folders whose artifacts cannot be located, each with the reason."""

    def named(self, name: str) -> Holding:
        """The holding of a folder, of a link to one, of a fingerprint, or of its first digits.

        Raises:
            ArtifactError: there is none, or more than one.
        """
        folder = Path(name)
        start = folder.resolve().name if name and folder.is_dir() else name
        matches = [each for each in self.holdings if each.artifact.folder.name.startswith(start)]
        if len(matches) != 1 or not name:
            count = "no artifact" if not matches else f"{len(matches)} artifacts"
            raise ArtifactError(
                f"{name}: {count} of that fingerprint; ssd artifacts list shows all"
            )
        return matches[0]


def take_inventory(outputs: Path) -> Inventory:
    """What `outputs/store` holds; nothing where there is no store."""
    folders = [
        folder
        for kind in KINDS
        for folder in sorted((outputs / STORE / kind).glob("[!.]*"))
        if folder.is_dir()
    ]
    holdings = [_holding(folder) for folder in folders]
    by_place = {each.place: each for each in holdings}
    unknown = {}
    for folder in run_folders(outputs):
        try:
            places = set(referred(load_run(folder)))
        except (SSDError, OSError, KeyError, TypeError, ValueError) as error:
            unknown[str(folder)] = one_line(error)
            continue
        for place in _closure(places, by_place):
            by_place[place].runs.append(str(folder))
    return Inventory(holdings=holdings, unknown=unknown)


def run_folders(outputs: Path) -> Iterator[Path]:
    """The folders of the runs that have got as far as their weights."""
    for config in sorted(outputs.glob(f"*/*/{CONFIG}")):
        run = config.parent
        if run.parent.name != STORE and ((run / WEIGHTS).is_file() or (run / SCORES).is_file()):
            yield run


def referred(run: Run) -> Iterator[Place]:
    """What a run reads or will read in all its rounds, by its configuration and by its scores.

    Raises:
        SSDError, OSError: it cannot be located, as where the prompt file is gone.
    """
    for round_ in all_rounds(run):
        yield from _referred(round_)


def _referred(run: Run) -> Iterator[Place]:
    artifacts: list[Artifact] = []
    for training in lineage.trainings(run).values():
        artifacts += [lineage.corpus(training), lineage.checkpoint(training)]
    if "evaluate" in run.config.stages:
        for model in protocol.models(run):
            for job in list_jobs(run, model):
                artifacts += [job.generations(run), job.verdicts(run)]
    if run.config.analyse.probe is not None:
        artifacts.append(evidence.probe(run))
    with suppress(ArtifactError):  # nothing is chosen yet, so nothing has been analysed
        artifacts.append(evidence.analysis(run, evidence.reported_steps(run)))
    yield from ((each.kind, each.folder.resolve().name) for each in artifacts)
    scores = read_scores(run.folder)
    for scored in () if scores is None else scores.benchmarks:
        for arm in scored.models.values():
            yield "generations", arm.generations
            yield "verdicts", arm.verdicts


def _closure(places: Iterable[Place], by_place: dict[Place, Holding]) -> set[Place]:
    """The places that exist, and those that they refer to, and so on."""
    reached: set[Place] = set()
    waiting = [place for place in places if place in by_place]
    while waiting:
        place = waiting.pop()
        if place not in reached:
            reached.add(place)
            waiting += [other for other in by_place[place].refers_to if other in by_place]
    return reached


def _holding(folder: Path) -> Holding:
    files = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    newest = max((state.st_mtime for state in files), default=folder.stat().st_mtime)
    state, refers_to = "unfinished", list[Place]()
    if (folder / MANIFEST).is_file():
        try:
            refers_to, state = list(_references(read_manifest(folder)["inputs"])), "finished"
        except ArtifactError:
            state = "damaged"
    return Holding(
        artifact=Artifact(kind=folder.parent.name, inputs={}, folder=folder),
        num_bytes=sum(state.st_size for state in files),
        age_seconds=max(time.time() - newest, 0.0),
        state=state,
        refers_to=refers_to,
    )


def _references(inputs: dict[str, Any]) -> Iterator[Place]:
    """The artifacts that an artifact was made from, by its inputs."""
    for kind in ("corpus", "generations"):
        if isinstance(inputs.get(kind), str):
            yield kind, inputs[kind]
    models = inputs.get("models")
    identities = [inputs.get("model"), inputs.get("weights")]
    identities += models.values() if isinstance(models, dict) else ()
    for identity in identities:  # a checkpoint's fingerprint, perhaps `@20+adapter`; or the base's
        if isinstance(identity, str) and ":" not in identity:
            yield "checkpoint", identity.split("@")[0].removesuffix("+adapter")
    if isinstance(inputs.get("probe"), str):
        yield from (("corpus", inputs["probe"]), ("generations", inputs["probe"]))
