"""A study's report on W&B as data: texts, and panels over the study's W&B runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_json
from ssd.artifacts.names import WANDB_PLAN
from ssd.config.settings import LoggerConfig
from ssd.errors import ArtifactError
from ssd.evaluate.metrics import score_name
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.report.render.document import Block, Code, CodeMap, Figure, Table
from ssd.report.render.markdown import block_markdown
from ssd.report.study.collection import Study

VERSION = 1
MAX_TITLE = 128
"""The most characters that W&B accepts."""
SETTINGS = ("t_train", "top_k", "top_p", "lr", "t_eval")
"""Axes of a sweep, as the evaluation logs them into each run's summary."""
TERMS = ("support_compression", "reshaping", "alignment", "constant", "cross_entropy", "kept_mass")
"""The terms of the loss's decomposition that training logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Markdown below a heading."""

    kind: str = "text"
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot."""

    kind: str
    """`bars` of summary keys; `scatter` of two, x and y; `parallel` coordinates of several; `lines`
    of logged keys over steps; `images` by name."""
    title: str
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """Plots over the study's W&B runs of one stage."""

    kind: str = "panels"
    title: str
    group: str
    """The W&B group, which is the study."""
    job_type: str
    """The stage."""
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPlan:
    """A whole report."""

    version: int = VERSION
    project: str
    entity: str | None
    """None for the account's default."""
    title: str
    description: str
    blocks: tuple[Text | Panels, ...]


def read_plan(folder: Path) -> ReportPlan:
    """The report in a study folder's `wandb_report.json`.

    Raises:
        ArtifactError: there is none, or it is damaged or of another version.
    """
    path = folder / WANDB_PLAN
    if not path.is_file():
        raise ArtifactError(
            f"{path} is not there: it is written with each report of a run that has "
            "report.wandb=true"
        )
    stored = read_json(path)
    remedy = "run ssd report on a run of this study that has report.wandb=true"
    try:
        if stored["version"] != VERSION:
            raise ArtifactError(f"{path} has version {stored['version']}, not {VERSION}: {remedy}")
        blocks = tuple(_read_block(block) for block in stored["blocks"])
        return ReportPlan(**{**stored, "blocks": blocks})
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({error!r}): {remedy}") from error


def build(study: Study, logger: LoggerConfig) -> ReportPlan:
    """The report of a study: first, in words, the findings, the failures and the worth of a choice
    among the runs; then panels over its W&B runs."""
    group = study.runs[0].run.config.study if study.runs else study.name
    return ReportPlan(
        project=logger.project,
        entity=logger.entity,
        title=f"Simple self-distillation, study {group}"[:MAX_TITLE],
        description=f"{len(study.runs)} runs with scores, {len(study.unfinished)} unfinished, "
        "failed or apart.",
        blocks=(*_texts(study), *_panels(study, group)),
    )


def _read_block(stored: dict[str, Any]) -> Text | Panels:
    if stored["kind"] == "text":
        return Text(**stored)
    panels = tuple(
        Panel(**{**panel, "metrics": tuple(panel["metrics"])}) for panel in stored["panels"]
    )  # JSON has no tuples
    return Panels(**{**stored, "panels": panels})


def _texts(study: Study) -> list[Text]:
    # Imported here: they import matplotlib, which reading a plan does not need.
    from ssd.report.study.document import controls, costs, summary, table_of_runs

    makers = (summary, table_of_runs, controls, costs) if study.runs else (summary,)
    return [
        Text(
            title=section.title,
            text="\n\n".join(map(block_markdown, filter(_is_shown, section.blocks))),
        )
        for make in makers
        for section in make(study)
    ]


def _is_shown(block: Block) -> bool:
    """Whether W&B's Markdown can show it."""
    folded = isinstance(block, (Table, Code)) and block.folded
    return not folded and not isinstance(block, (Figure, CodeMap))


def _panels(study: Study, group: str) -> list[Panels]:
    """Score panels, sweep panels and training panels; none without scores."""
    if not study.runs:
        return []
    grids = {
        ("Scores", "evaluate"): _scores(study),
        ("Sweep", "evaluate"): _sweep(study),
        ("Training", "train"): [
            Panel(kind="lines", title=name.replace("_", " "), metrics=(f"{place}/{name}",))
            for place, names in (("train", ("loss", "grad_norm")), ("decomposition", TERMS))
            for name in names
        ],
        ("Analysis", "analyse"): _analysis(study),
        ("Figures of the runs' reports", "report"): [
            Panel(kind="images", title="Scores", metrics=("figures/scores",))
        ],
    }
    return [
        Panels(title=title, group=group, job_type=stage, panels=tuple(panels))
        for (title, stage), panels in grids.items()
        if panels
    ]


def _scores(study: Study) -> list[Panel]:
    """Base and tuned model on every benchmark, and the gain with the ends of its interval."""
    bars = [
        Panel(
            kind="bars",
            title=f"pass@{k}, {name}: base and tuned model",
            metrics=tuple(score_name(name, arm, k) for arm in ("base", "tuned")),
        )
        for name, k in dict.fromkeys((scored.name, scored.k) for scored in _benchmarks(study))
    ]
    gain = Panel(
        kind="bars",
        title="Gain over the base model, and its 95% interval",
        metrics=("gain", "gain_low", "gain_high"),
    )
    return [*bars, gain]


def _sweep(study: Study) -> list[Panel]:
    """Panels of the scores by the settings."""
    score = f"pass@{_benchmarks(study)[0].k}"
    chosen = ("held_out",) if any(facts.held_out is not None for facts in study.runs) else ()
    return [
        Panel(
            kind="parallel",
            title="Settings and scores",
            metrics=(*SETTINGS, *chosen, score, "gain"),
        ),
        Panel(kind="scatter", title=f"{score} by T_eff = T_train T_eval", metrics=("t_eff", score)),
        *(
            Panel(kind="scatter", title=f"{name} by {by}", metrics=(by, name))
            for name, by in (("gain", "t_train"), ("gain", "answer_tokens"), (score, "hours"))
        ),
    ]


def _analysis(study: Study) -> list[Panel]:
    """Entropy at locks and forks, where a run was analysed."""
    # A study does not read positions, so `facts.analysis` is None; the manifest says it is there.
    if not any(facts.analysed is not None and facts.analysed.manifest for facts in study.runs):
        return []
    return [
        Panel(
            kind="bars",
            title=f"Mean entropy at {kind}s, nats: base and tuned model",
            metrics=tuple(f"analysis/{model}/{kind}/entropy" for model in ("base", "tuned")),
        )
        for kind in ("lock", "fork")
    ]


def _benchmarks(study: Study) -> list[BenchmarkScores]:
    return [scored for facts in study.runs for scored in facts.main]
