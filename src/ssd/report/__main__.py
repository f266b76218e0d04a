"""Report on a run or study: `python -m ssd.report RUN_DIR` or `python -m ssd.report STUDY_DIR`."""

import argparse
from pathlib import Path

from ssd.errors import ArtifactError
from ssd.report import report, study_report
from ssd.report.document import Finding
from ssd.report.study import is_run, is_study
from ssd.stage import reporting_errors


def main() -> None:
    """Write the report that fits the folder, and print its answer and where it lies."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.report",
        description="Write report.md, report.html and figures/ into a run folder, "
        "or study.md into a study folder.",
    )
    parser.add_argument(
        "folder",
        type=Path,
        metavar="RUN_DIR|STUDY_DIR",
        help="run folder that train.py made (holds config.yaml), or a folder of such folders",
    )
    folder = parser.parse_args().folder
    with reporting_errors():
        if is_run(folder):
            _report_run(folder)
        elif is_study(folder):
            print(study_report(folder))
        else:
            raise ArtifactError(
                f"{folder} is neither a run (a folder with config.yaml) nor a study "
                "(a folder of runs): name a folder that train.py made"
            )


def _report_run(folder: Path) -> None:
    content = report(folder)
    for block in content.sections[0].blocks:
        if isinstance(block, Finding):
            print(f"{block.benchmark}: {block.verdict}. {block.text}")
    print(
        f"wrote report.md, report.html and {len(content.figures)} figures into {folder}", flush=True
    )


if __name__ == "__main__":
    main()
