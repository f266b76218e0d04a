"""`ssd plan RUN_DIR`: print what the run would need, and write it to plan.json there."""

from pathlib import Path

from ssd.artifacts.files import write_json
from ssd.artifacts.names import CONFIG
from ssd.config.composition import RUN
from ssd.errors import ArtifactError
from ssd.run.folder import read_config
from ssd.runtime.command_line import command_line
from ssd.runtime.progress import silence_imports
from ssd.runtime.reporting import reporting_errors


def main() -> None:
    """Read the configuration, plan, print, write."""
    parser = command_line(
        "plan",
        "Print what a run needs: memory, tokens, time and disk. Trains nothing.",
        "outputs/main/defaults",
        "outputs/main/defaults/config.yaml --free-disk 200e9",
    )
    parser.add_argument(
        "run_dir",
        type=Path,
        metavar="RUN_DIR_OR_CONFIG",
        help="run folder that train.py made (holds config.yaml), or a configuration file",
    )
    parser.add_argument(
        "--free-disk",
        type=float,
        metavar="BYTES",
        help="judge the disk too: what is free for the run",
    )
    parser.add_argument(
        "--trainings",
        type=int,
        metavar="NUMBER",
        help="how many of the run's trainings are still to be done",
    )
    parser.add_argument("--quiet", action="store_true", help="only write plan.json")
    arguments = parser.parse_args()
    with reporting_errors():
        path: Path = arguments.run_dir
        file = path / CONFIG if path.is_dir() else path
        if not file.is_file():
            raise ArtifactError(
                f"{path} holds no configuration ({CONFIG}): make one with "
                f"{' '.join(RUN)} 'stages=[plan]'"
            )
        config, folder = read_config(file), file.parent

        silence_imports()
        # After the cheap checks: torch and transformers take seconds to import.
        from ssd.artifacts.names import PLAN
        from ssd.plan.plan import make_plan
        from ssd.plan.table import plan_text

        plan = make_plan(config, folder, arguments.free_disk, arguments.trainings)
        write_json(folder / PLAN, plan.numbers())
        if not arguments.quiet:
            print(f"{plan_text(plan)}\n\nwritten: {folder / PLAN}", flush=True)


if __name__ == "__main__":
    main()
