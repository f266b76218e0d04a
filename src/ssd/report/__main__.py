"""Report on a run or study: `ssd report RUN_DIR` or `ssd report STUDY_DIR`."""

from pathlib import Path

from ssd.errors import ArtifactError, ConfigError
from ssd.report import report, study_report
from ssd.report.render.document import Finding
from ssd.report.run.watch import collect_rounds, rounds_text
from ssd.report.study.collection import is_run, is_study
from ssd.report.study.rows import study_table
from ssd.report.wandb_report import log_figures
from ssd.run import load_run
from ssd.runtime.command_line import command_line
from ssd.runtime.reporting import reporting_errors


def main() -> None:
    """Write the report that fits the folder, and print its answer and where it lies."""
    parser = command_line(
        "report",
        "Write report.md, report.html, figures/ and results.json into a run folder, or study.md "
        "and its like on several runs.",
        "outputs/main/defaults",
        "outputs/main  # all its runs as one study",
        "outputs/a outputs/b --into outputs/both",
    )
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="RUN_DIR|STUDY_DIR",
        help="run folder that train.py made (holds config.yaml), or a folder of such folders; "
        "several of them make one study",
    )
    parser.add_argument(
        "--into", type=Path, help="folder for the study's report; STUDY_DIR where there is one"
    )
    arguments = parser.parse_args()
    with reporting_errors():
        _report(arguments.folders, arguments.into)


def _report(folders: list[Path], into: Path | None) -> None:
    folder = folders[0]
    if len(folders) == 1 and into is None and is_run(folder):
        _report_run(folder)
        return
    if len(folders) > 1 and into is None:
        raise ConfigError("a study of several folders needs a place: add --into FOLDER")
    if len(folders) == 1 and not is_run(folder) and not is_study(folder):
        raise ArtifactError(
            f"{folder} is neither a run (a folder with config.yaml) nor a study "
            "(a folder of runs): name a folder that train.py made"
        )
    study = study_report(into or folder, folders)
    print(study_table(study))
    print(f"\nwrote study.md, study.html, results.json and figures into {study.folder}", flush=True)


def _report_run(folder: Path) -> None:
    content = report(folder)
    run = load_run(folder)
    log_figures(run, content.figures)
    for block in content.sections[0].blocks:
        if isinstance(block, Finding):
            print(f"{block.benchmark}: {block.verdict}. {block.text}")
    if found := collect_rounds(run):
        print(rounds_text(found, run.config.analyse))
    print(
        f"wrote report.md, report.html and {len(content.figures)} figures into {folder}", flush=True
    )


if __name__ == "__main__":
    main()
