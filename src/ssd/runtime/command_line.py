"""The command lines of `ssd NAME`: help that ends with examples, words that a shell completes."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence

COMPLETING = "_ARGCOMPLETE"
"""Environment variable that is set while a shell asks what could be typed next: how many words of
its line are the program's own name."""


class CommandLine(argparse.ArgumentParser):
    """An argument parser that completes where `ssd --completion SHELL` is installed."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse does; ends the process where a shell asked for completions."""
        if COMPLETING in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(args, namespace)


def command_line(name: str, description: str, *examples: str, notes: str = "") -> CommandLine:
    """The parser of `ssd NAME`.

    Args:
        examples: what to type after `ssd NAME`; a comment may follow after two spaces and `#`.
        notes: stands before the examples.
    """
    program = f"ssd {name}".rstrip()
    lines = [f"{program} {example}" for example in examples]
    return CommandLine(
        prog=program,
        description=description,
        epilog="\n".join([*filter(None, [notes]), "examples:", *_aligned(lines)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def dispatch(arguments: list[str], commands: Mapping[str, Callable[[list[str]], None]]) -> bool:
    """Whether the first argument names one of the commands, which then has run with the others."""
    if not arguments or arguments[0] not in commands:
        return False
    if COMPLETING in os.environ:
        os.environ[COMPLETING] = str(int(os.environ[COMPLETING]) + 1)
    commands[arguments[0]](arguments[1:])
    return True


def _aligned(lines: Sequence[str]) -> list[str]:
    """The lines with their comments below each other."""
    parts = [line.partition("  # ") for line in lines]
    width = max(len(command) for command, _, _ in parts)
    return [
        f"  {command.rstrip():{width}}{mark}{comment}".rstrip() for command, mark, comment in parts
    ]
