"""A study's report: study.md, study.html, figures and results.json beside its runs."""

from collections.abc import Sequence
from pathlib import Path

from ssd.report.results import write_study_results
from ssd.report.study.collection import Study, collect_study


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
    # Importing matplotlib takes a third of a second; the study's table does not need it.
    from ssd.report.render.files import write_document
    from ssd.report.study.document import document

    write_document(study.folder, document(study), "study")
    write_study_results(study)
    if any(facts.run.config.report.wandb for facts in study.runs):
        from ssd.report.wandb_report import publish_study

        print(publish_study(study), flush=True)
