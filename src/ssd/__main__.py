"""`ssd COMMAND`: every command of this project by its name."""

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from ssd import __version__
from ssd.runtime.command_line import COMPLETING, CommandLine, command_line


@dataclass(frozen=True, slots=True)
class Command:
    """What stands behind a name: a module that runs as `python -m`, and the words it gets first."""

    says: str
    module: str
    words: tuple[str, ...] = ()


RUN = "run"
COMMANDS = {
    RUN: Command("run the method, or a sweep: what train.py does", "ssd.drive.command"),
    "plan": Command("what a run needs: memory, time, disk", "ssd.plan"),
    "settings": Command("what a setting means, by its name or another word", "ssd.config"),
    "check": Command("whether a model can be used here", "ssd.check"),
    "doctor": Command("whether this machine can run it, and what to mend", "ssd.doctor"),
    "sample": Command("a stage alone: draw the corpus", "ssd.sample"),
    "train": Command("a stage alone: train on it", "ssd.train"),
    "evaluate": Command("a stage alone: answer and score benchmarks", "ssd.evaluate"),
    "analyse": Command("a stage alone: what changed, token by token", "ssd.analyse"),
    "report": Command("a run's page, or a study's of several runs", "ssd.report"),
    "compare": Command("one run minus another, with intervals", "ssd.compare"),
    "grade": Command("verdicts on anyone's answers, no run needed", "ssd.evaluate", ("grade",)),
    "artifacts": Command("see, verify, clean up, export and import results", "ssd.artifacts"),
    "publish": Command("what others need to check a run", "ssd.report.publish"),
    "search": Command("let Optuna choose temperature and learning rate", "ssd.search"),
    "toy": Command("the paper's toy machine, in closed form", "ssd.analyse", ("toy",)),
}


def main() -> None:
    """Hand the command line to the command that it names."""
    if COMPLETING in os.environ:
        complete()
    words = sys.argv[1:]
    if words and words[0] in COMMANDS:
        start(words[0], words[1:])
        return
    parser = own_parser()
    options = parser.parse_args(words)
    if options.completion is None:
        parser.print_help()
        return
    from argcomplete.shell_integration import shellcode

    print(shellcode([parser.prog], shell=options.completion))


def start(name: str, words: list[str]) -> None:
    """Run a command in this process, as `python -m` would."""
    command = COMMANDS[name]
    sys.argv = [f"ssd {name}", *command.words, *words]
    runpy.run_module(command.module, run_name="__main__", alter_sys=True)


def own_parser() -> CommandLine:
    """The command line before a command is named."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {each.says}" for name, each in COMMANDS.items())
    parser = command_line(
        "",
        "Simple self-distillation: sample a frozen model, train it on its own samples, measure.",
        "run  # the method on a small model, on this machine",
        "run model=qwen3_4b adapter=lora experiment=short  # on a GPU of 24 GB",
        "doctor  # whether this machine is ready",
        notes=f"commands, each with a --help of its own:\n{listed}\n",
    )
    parser.add_argument("--version", action="version", version=f"ssd {__version__}")
    parser.add_argument(
        "--completion",
        choices=("bash", "zsh", "fish"),
        help='print what makes a shell complete: eval "$(ssd --completion bash)"',
    )
    parser.add_argument("command", nargs="?", metavar="COMMAND", choices=COMMANDS)
    return parser


def complete() -> None:
    """Answer a shell that asks what could follow on its line."""
    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    typed = line.split() if line.endswith(" ") else line.split()[:-1]
    name = typed[1] if len(typed) > 1 else ""
    if name not in COMMANDS:
        own_parser().parse_args()
    # The command's name belongs to the program's, as do words that it hands on by itself.
    os.environ[COMPLETING] = str(2 - len(COMMANDS[name].words))
    if name == RUN:
        parser = CommandLine(prog=f"ssd {RUN}")
        settings: Any = parser.add_argument("settings", nargs="*")
        settings.completer = complete_setting
        parser.parse_args()
    start(name, typed[2:])


def complete_setting(prefix: str, **_: Any) -> list[str]:
    """What Hydra would write in the place of the beginning of an override."""
    answer = subprocess.run(
        [sys.executable, "-m", COMMANDS[RUN].module, "-sc", "query=bash"],
        env={**os.environ, "COMP_LINE": f"ssd {prefix}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.split()


if __name__ == "__main__":
    main()
