"""What a run or study found, from its files alone: report.md, report.html, figures, or study.md."""

from pathlib import Path

from ssd.artifacts import replacing, write_text
from ssd.report.document import Document
from ssd.report.study import study_report, study_table

__all__ = ["report", "study_report", "study_table"]

FIGURES = "figures"


def report(run_dir: Path) -> Document:
    """Write `report.md`, `report.html` and `figures/` into a run folder,
    and return what they say.

    Raises:
        ArtifactError: the folder holds no run, a file of it is damaged, or it cannot be written.
        ConfigError: its configuration is not valid.
    """
    # matplotlib and jinja2 take half a second that the study table does not need.
    from ssd.report.facts import collect
    from ssd.report.html import html
    from ssd.report.markdown import markdown
    from ssd.report.sections import document

    content = document(collect(run_dir))
    for figure in content.figures:
        for kind in ("png", "svg"):
            with replacing(run_dir / FIGURES / f"{figure.name}.{kind}") as temporary:
                temporary.write_bytes(getattr(figure.drawing, kind))
    drawn = {figure.name for figure in content.figures}
    for path in (run_dir / FIGURES).glob("*.*"):
        if path.stem not in drawn:
            path.unlink()  # of an earlier report whose facts are gone
    write_text(run_dir / "report.md", markdown(content))
    write_text(run_dir / "report.html", html(content))
    return content
