"""The results of a run or study, from its files alone: report.md and .html, figures, study.md."""

from collections.abc import Sequence
from pathlib import Path

from ssd.artifacts.files import replacing, write_json, write_text
from ssd.artifacts.names import FIGURES, RESULTS
from ssd.report.render.document import Document
from ssd.report.study.collection import Study, collect_study


def report(run_dir: Path) -> Document:
    """Write `report.md`, `report.html`, `figures/` and `results.json` into a run folder, and a
    model card beside each exported model; where `report.wandb` asks for it, update the study's
    report on W&B. Return what the report says.

    Raises:
        ArtifactError: the folder holds no run, a file of it is damaged, or it cannot be written.
        ConfigError: its configuration is not valid.
    """
    # Importing matplotlib takes a third of a second; the study's table does not need it.
    from ssd.report.exports.card import write_cards

    # `python -m ssd.report.results` must not be imported before it is run.
    from ssd.report.results import run_results
    from ssd.report.run.facts import collect
    from ssd.report.run.sections import document

    facts = collect(run_dir)
    content = document(facts)
    write_document(run_dir, content, "report")
    write_json(run_dir / RESULTS, run_results(facts))
    write_cards(facts)
    if facts.run.config.report.wandb and facts.run.config.rounds.number == 1:
        from ssd.report.wandb_report import publish

        study_dir = run_dir.resolve().parent
        print(publish(collect_study([study_dir], study_dir)), flush=True)
    return content


def study_report(study_dir: Path, folders: Sequence[Path] = ()) -> Study:
    """Collect runs and write their report into a folder.

    Args:
        study_dir: where the report goes.
        folders: run folders and study folders; `study_dir` itself where there are none.

    Raises:
        ArtifactError: there is no run, or the folder cannot be written.
    """
    study = collect_study(list(folders) or [study_dir], study_dir)
    write_study(study)
    return study


def write_study(study: Study) -> None:
    """Write `study.md`, `study.html`, `figures/` and `results.json` of a study; where a run's
    `report.wandb` asks for it, update its report on W&B.

    Raises:
        ArtifactError: its folder cannot be written.
    """
    from ssd.report.results import study_results
    from ssd.report.study.document import document

    write_document(study.folder, document(study), "study")
    write_json(study.folder / RESULTS, study_results(study))
    if any(facts.run.config.report.wandb for facts in study.runs):
        from ssd.report.wandb_report import publish

        print(publish(study), flush=True)


def write_document(folder: Path, document: Document, name: str) -> None:
    """Write `<name>.md`, `<name>.html` and `figures/*.png` and `.svg` into a folder; figures of an
    earlier document that are not in this one are deleted.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    # Importing jinja2 takes a quarter of a second; printing a study's table does not need it.
    from ssd.report.render.html import html
    from ssd.report.render.markdown import markdown

    for figure in document.figures:
        for kind in ("png", "svg"):
            with replacing(folder / FIGURES / f"{figure.name}.{kind}") as temporary:
                temporary.write_bytes(figure.drawing(kind))
    drawn = {figure.name for figure in document.figures}
    for path in (folder / FIGURES).glob("*.*"):
        if path.stem not in drawn:
            path.unlink()
    write_text(folder / f"{name}.md", markdown(document))
    write_text(folder / f"{name}.html", html(document))
