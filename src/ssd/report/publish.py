"""A run or study as a folder for others, or on the model hub.

ssd publish RUN_DIR|STUDY_DIR FOLDER [--answers]
ssd publish RUN_DIR --to hub [--repo-id NAME] [--public] [--dry-run]
"""

import argparse
import tempfile
from pathlib import Path

from ssd.report.hub import contents, default_name, stage, upload
from ssd.report.published import ANSWERS, publish
from ssd.runtime.command_line import command_line
from ssd.runtime.reporting import reporting_errors


def main() -> None:
    """Command line of this module."""
    parser = command_line(
        "publish",
        "Copy what others need to check a run or study into a folder: reports, settings, scores, "
        "manifests, every verdict; no weights and no path of this machine. With --to, send the "
        "trained model to the hub, with its card, corpus and report.",
        "outputs/main/defaults results/defaults",
        "outputs/main results/main --answers  # with every corpus and answer",
        "outputs/main/defaults --to hub --dry-run  # says what would go",
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN_DIR|STUDY_DIR",
        help="run folder that train.py made, or a folder of such folders; reported on before",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", nargs="?", help="where the files go")
    parser.add_argument(
        "--answers",
        action="store_true",
        help=f"also every corpus and answer, as FOLDER/{ANSWERS}; unpacked in outputs/store "
        "elsewhere, the same command goes on from them",
    )
    parser.add_argument(
        "--to",
        metavar="hub|FOLDER",
        help="model or adapter, card, corpus and report: into a repository of the hub, which "
        "nobody else can read, or a folder",
    )
    parser.add_argument(
        "--repo-id",
        metavar="OWNER/NAME",
        help="the repository, or NAME for one of your own; BASE-ssd by default",
    )
    parser.add_argument("--public", action="store_true", help="let everybody read it")
    parser.add_argument(
        "--dry-run", action="store_true", help="list the files and their sizes, send nothing"
    )
    arguments = parser.parse_args()
    if (arguments.folder is None) == (arguments.to is None):
        parser.error("name a FOLDER, or --to hub")
    if arguments.to is not None and arguments.answers:
        parser.error("--answers goes with a FOLDER; --to sends the corpus in any case")
    if arguments.to != "hub" and (arguments.repo_id or arguments.public or arguments.dry_run):
        parser.error("--repo-id, --public and --dry-run go with --to hub")
    with reporting_errors():
        if arguments.to is None:
            _publish_evidence(arguments)
        elif arguments.to == "hub":
            _publish_to_hub(arguments)
        else:
            print_notes(stage(arguments.source, Path(arguments.to)))
            print(f"published into {arguments.to}, {megabytes(Path(arguments.to))}", flush=True)


def _publish_evidence(arguments: argparse.Namespace) -> None:
    print_notes(publish(arguments.source, arguments.folder, answers=arguments.answers))
    print(f"published into {arguments.folder}, {megabytes(arguments.folder)}", flush=True)


def _publish_to_hub(arguments: argparse.Namespace) -> None:
    repo_id = arguments.repo_id or default_name(arguments.source)
    with tempfile.TemporaryDirectory(prefix="ssd-") as temporary:
        folder = Path(temporary)
        print_notes(stage(arguments.source, folder, link=True))
        for name, size in contents(folder):
            print(f"{size:>16,}  {name}")
        who = "everybody can" if arguments.public else "nobody else can"
        if arguments.dry_run:
            print(f"would go to {repo_id}, which {who} read: {megabytes(folder)}", flush=True)
            return
        address = upload(folder, repo_id, public=arguments.public)
    print(f"published at {address}, which {who} read", flush=True)


def print_notes(lacks: list[str]) -> None:
    """What a published folder lacks, a line each."""
    for lack in lacks:
        print(f"note: {lack}")


def megabytes(folder: Path) -> str:
    """The size of a folder's files."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:.1f} MB in all"


if __name__ == "__main__":
    main()
