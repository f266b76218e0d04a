"""Options of the commands that run code without a run; their defaults are those of the settings."""

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ssd.config.choices import SandboxName
from ssd.config.settings import EvalConfig
from ssd.errors import ArtifactError, ConfigError, DataError, HardwareError
from ssd.runtime.threads import allowed_cores
from ssd.sandbox.pool import Sandbox, load_sandbox

Number = TypeVar("Number", int, float)
DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(EvalConfig)}
"""Defaults of the settings with the same names."""


def positive(kind: Callable[[str], Number]) -> Callable[[str], Number]:
    """Reads a positive number."""

    def read(text: str) -> Number:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    read.__name__ = kind.__name__  # which argparse names in its own message
    return read


def add_sandbox_options(parser: argparse.ArgumentParser) -> None:
    """`--sandbox`, `--timeout`, `--memory-mib`, `--workers`: as `eval.sandbox` and so on."""
    parser.add_argument(
        "--sandbox", default=DEFAULTS["sandbox"].value,
        choices=[name.value for name in SandboxName],
        help="what isolates the code, docs/sandbox.md; %(default)s by default",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=positive(float), default=DEFAULTS["timeout"], metavar="SECONDS",
        help="per program, call or test, as each benchmark has it; %(default)s by default",
    )  # fmt: skip
    parser.add_argument(
        "--memory-mib", type=positive(int), default=DEFAULTS["memory_mib"], metavar="MIB",
        help="per program; %(default)s by default",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=positive(int), default=allowed_cores(), metavar="N",
        help="programs run at once; one per core by default",
    )  # fmt: skip


SETTING = re.compile(r"\b(?:(out)put_dir|eval\.(?:(file)s\.\w+|(benchmark)s|([a-z_]+)))(=?)")
"""The name of a run's setting in error messages."""


@contextmanager
def naming_options() -> Iterator[None]:
    """Errors name the command's options instead of a run's settings: `--file FOLDER` for
    `eval.files.lcb=FOLDER`."""

    def option(setting: re.Match[str]) -> str:
        *names, assigned = setting.groups()
        (name,) = filter(None, names)
        return f"--{name.replace('_', '-')}{' ' if assigned else ''}"

    try:
        yield
    except (ArtifactError, ConfigError, DataError, HardwareError) as error:
        raise type(error)(SETTING.sub(option, str(error))) from error


def open_sandbox(options: argparse.Namespace) -> Sandbox:
    """The sandbox that the options name.

    Raises:
        HardwareError: it does not start here.
    """
    return load_sandbox(options.sandbox, memory_mib=options.memory_mib, workers=options.workers)
