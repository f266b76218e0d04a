"""The study's report on W&B, stored as a file and pushed in one call; figures of a run's report.

python -m ssd.report.wandb_report STUDY_DIR    push what was written offline
"""

import argparse
import shlex
from pathlib import Path
from typing import Any

from filelock import FileLock

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.fingerprints import fingerprint
from ssd.artifacts.names import FIGURES, WANDB_PLAN, WANDB_PUSHED
from ssd.config.settings import LoggerConfig
from ssd.errors import ArtifactError, HardwareError, SSDError, one_line
from ssd.report.exports.wandb_plan import (
    Panel,
    Panels,
    ReportPlan,
    Text,
    build,
    read_plan,
)
from ssd.report.render.document import Figure
from ssd.report.study.collection import Study, is_run
from ssd.run import Run, load_run
from ssd.run.tracking import Tracker
from ssd.run.wandb_logger import has_login, wandb_mode
from ssd.runtime.installation import require_reports
from ssd.runtime.reporting import reporting_errors

LOCK = ".wandb_report.lock"
COLUMNS, HEIGHT = 24, 8
"""Grid units of a W&B panel grid, and of one panel's height."""


def publish(study: Study) -> str:
    """Build a study's report, write `wandb_report.json`, and push it where W&B is online. Several
    jobs of a sweep may call it at once.

    Returns:
        One line that says where the report is, or how to push it.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    with FileLock(study.folder / LOCK):
        logger = logger_of(study)
        plan = build(study, logger)
        write_json(study.folder / WANDB_PLAN, plan)
        if wandb_mode(logger) != "online":
            return f"W&B is offline; push with: {push_command(study.folder)}"
        try:
            return f"W&B report: {push(plan, study.folder)}"
        except SSDError as error:  # all files are written, and a sweep's other jobs should go on
            return str(error)


def push_command(folder: Path) -> str:
    """The command that pushes a study's report."""
    return f"python -m ssd.report.wandb_report {shlex.quote(str(folder))}"


def logger_of(study: Study) -> LoggerConfig:
    """Where a study's runs are logged: the settings of its first run that can be read."""
    folders = [facts.run.folder for facts in study.runs]
    for folder in [*folders, *sorted(study.folder.iterdir())]:
        if is_run(folder):
            try:
                return load_run(folder).config.logger
            except SSDError:  # a damaged run, which the report names
                continue
    return LoggerConfig()


def push(plan: ReportPlan, folder: Path) -> str:
    """Create the report, or update the one that `folder` remembers; returns its address.

    Raises:
        HardwareError: the package or the login is missing.
        ArtifactError: W&B did not take it.
    """
    require_reports()
    if not has_login():
        raise HardwareError("W&B has no login here: run wandb login, then push again")
    import wandb

    address_file = folder / WANDB_PUSHED
    try:
        report = to_report(plan, plan.entity or str(wandb.Api().default_entity))
        if address_file.is_file():
            report.id = read_json(address_file)["id"]
        report.save()
    except Exception as error:  # W&B's own, pydantic's, the HTTP library's, the system's
        raise ArtifactError(
            f"W&B did not take the report ({one_line(error)[:200]}): push again with "
            f"{push_command(folder)}; where the old report is gone, delete {address_file} first"
        ) from error
    write_json(address_file, {"id": report.id, "url": report.url})
    return str(report.url)


def to_report(plan: ReportPlan, entity: str) -> Any:
    """The plan as a `wandb_workspaces.reports.v2.Report`, not saved yet; needs no network."""
    import wandb_workspaces.reports.v2 as wr

    blocks: list[Any] = [wr.TableOfContents()]
    for block in plan.blocks:
        blocks.append(wr.H2(block.title))
        if isinstance(block, Text):
            blocks.append(wr.MarkdownBlock(block.text))
        else:
            # The runs of one group and job type, in the filter language of W&B's package.
            group, stage = _quoted(block.group), _quoted(block.job_type)
            shown = f"Metric('Group') == {group} and Metric('JobType') == {stage}"
            runs = wr.Runset(project=plan.project, name=block.title, filters=shown)
            blocks.append(wr.PanelGrid(runsets=[runs], panels=_panels(block)))
    return wr.Report(
        project=plan.project,
        entity=entity,
        title=plan.title,
        description=plan.description,
        width="fluid",
        blocks=blocks,
    )


def _quoted(text: str) -> str:
    # Every character as an escape: the package rewrites =, < and > inside quotes too.
    return "'" + "".join(f"\\U{ord(letter):08x}" for letter in text) + "'"


def _panels(block: Panels) -> list[Any]:
    """A grid's panels, two side by side; parallel coordinates and images take a whole row."""
    import wandb_workspaces.reports.v2 as wr

    panels: list[Any] = []
    x = y = 0
    for panel in block.panels:
        width = COLUMNS if panel.kind in ("parallel", "images") else COLUMNS // 2
        if x + width > COLUMNS:
            x, y = 0, y + HEIGHT
        plot = _panel(panel)
        plot.layout = wr.Layout(x=x, y=y, w=width, h=HEIGHT)
        panels.append(plot)
        x += width
    return panels


def _panel(panel: Panel) -> Any:
    import wandb_workspaces.reports.v2 as wr

    names = list(panel.metrics)
    match panel.kind:
        case "bars":
            return wr.BarPlot(title=panel.title, metrics=names)
        case "scatter":
            return wr.ScatterPlot(title=panel.title, x=names[0], y=names[1])
        case "parallel":
            columns = [wr.ParallelCoordinatesPlotColumn(metric=name) for name in names]
            return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)
        case "lines":
            return wr.LinePlot(title=panel.title, x="Step", y=names)
        case "images":
            return wr.MediaBrowser(title=panel.title, media_keys=names)
    raise ArtifactError(f"{WANDB_PLAN} has a panel of unknown kind '{panel.kind}': write it again")


def log_figures(run: Run, figures: list[Figure]) -> None:
    """Tell the loggers a report's figures, already written, as images of one run."""
    config = run.config
    place = {"study": config.study, "run": config.title, "weights": run.weights.identity}
    if config.logger.chosen and figures:
        with Tracker(run, "report", fingerprint(place), run.folder) as tracker:
            tracker.images(
                {
                    f"{FIGURES}/{figure.name}": run.folder / FIGURES / f"{figure.name}.png"
                    for figure in figures
                }
            )


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.report.wandb_report",
        description=f"Push the W&B Report that a study's runs wrote ({WANDB_PLAN}).",
    )
    parser.add_argument(
        "study_dir",
        type=Path,
        metavar="STUDY_DIR",
        help="folder of the runs, in which a run with report.wandb=true was reported",
    )
    folder = parser.parse_args().study_dir
    with reporting_errors():
        print(f"W&B report: {push(read_plan(folder), folder)}", flush=True)


if __name__ == "__main__":
    main()
