"""The results of a run or study, from its files alone: report.md and .html, figures, study.md."""

from pathlib import Path

from ssd.report.render.document import Document
from ssd.report.render.files import write_document
from ssd.report.study.rows import study_table
from ssd.report.study.study import study_report, write_study

__all__ = ["report", "study_report", "study_table", "write_document", "write_study"]


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
    from ssd.report.results import write_results
    from ssd.report.run.facts import collect
    from ssd.report.run.sections import document

    facts = collect(run_dir)
    content = document(facts)
    write_document(run_dir, content, "report")
    write_results(run_dir, facts)
    write_cards(facts)
    if facts.run.config.report.wandb:
        from ssd.report.wandb_report import publish

        print(publish(run_dir.resolve().parent), flush=True)
    return content
