"""Sandboxes with one worker, so that every job follows the one before: on each isolating backend,
and where the tests run as root, as each kind of user that a grader can be."""

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssd.config.choices import SandboxName
from ssd.errors import HardwareError
from ssd.sandbox.backends import candidates
from ssd.sandbox.pool import Sandbox, load_sandbox

SELF, WATCHED, ORDINARY = "this user", "root without a second id", "an ordinary user"
GRADERS = [
    f"{backend} as {user}"
    for backend in ("bwrap", "namespaces")
    for user in ((SELF, WATCHED, ORDINARY) if os.geteuid() == 0 else (SELF,))
]
NOBODY = 65534
BECOME = 'exec setpriv --reuid="$0" --regid="$0" --clear-groups "$@"'
SHOW = """
mount --bind "$base" "$mark"
mount -t tmpfs -o mode=755 none "$closed"
mkdir -p "$base"
mount --move "$mark" "$base"
"""
"""Shows an interpreter that lies in a closed folder, such as root's home, in mounts of its own."""


class OrdinaryUser:
    """What `Sandbox` offers, asked of a grader in another process.

    Raises:
        HardwareError: it does not start.
    """

    def __init__(self, name: str, memory_mib: int, folder: Path) -> None:
        self.name = name
        base = Path(sys.base_prefix)
        closed = [path for path in reversed(base.parents) if not path.stat().st_mode & 1]
        environment = {**os.environ, "HOME": "/nonexistent", "base": str(base), "mark": str(folder)}
        script = BECOME
        command = ["sh", "-e", "-c"]
        if closed:
            environment["closed"] = str(closed[0])
            script = f"{SHOW}{BECOME}"
            command = ["unshare", "--mount", "--propagation", "private", *command]
        serve = f"import graders; graders.serve({name!r}, {memory_mib})"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [*command, script, str(NOBODY), sys.executable, "-c", serve],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        try:
            refusal = pickle.load(self.process.stdout)
        except EOFError:
            refusal = self.process.stderr.read().decode().strip().split("\n")[-1]
        if refusal:
            self.close()
            raise HardwareError(f"no grader as an ordinary user: {refusal}")

    def judge(self, *arguments: Any, **keywords: Any) -> Any:
        """As `Sandbox.judge`."""
        return self._ask("judge", arguments, keywords)

    def execute(self, *arguments: Any, **keywords: Any) -> Any:
        """As `Sandbox.execute`."""
        return self._ask("execute", arguments, keywords)

    def _ask(self, *request: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump(request, self.process.stdin)
        self.process.stdin.flush()
        answer = pickle.load(self.process.stdout)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the grader."""
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.process.wait(30)


Grader = Sandbox | OrdinaryUser


def open_grader(which: str, memory_mib: int, folder: Path) -> Grader:
    """One of `GRADERS`, or a skip where it does not start; `folder` is an empty one."""
    backend, _, user = which.partition(" as ")
    try:
        if user == ORDINARY:
            return OrdinaryUser(backend, memory_mib, folder)
        if user == SELF:
            return load_sandbox(SandboxName[backend], memory_mib=memory_mib)
    except HardwareError as error:
        pytest.skip(str(error))
    watched = next(one for one in candidates(backend) if one.watched)
    sandbox = Sandbox(watched, memory_mib=memory_mib, workers=1)
    if reason := sandbox.try_out():
        pytest.skip(reason)
    return sandbox


def grader_fixture(memory_mib: int) -> Any:
    """A module's fixture `grader`: each kind of grader in turn."""

    @pytest.fixture(scope="module", params=GRADERS)
    def grader(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Grader]:
        grader = open_grader(request.param, memory_mib, tmp_path_factory.mktemp("mark"))
        yield grader
        grader.close()

    return grader


def serve(name: str, memory_mib: int) -> None:
    """In the other process: answer until nobody asks."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(answer: Any) -> None:
        pickle.dump(answer, answers)
        answers.flush()

    try:
        sandbox: Sandbox = load_sandbox(SandboxName[name], memory_mib=memory_mib)
    except HardwareError as error:
        send(str(error))
        return
    send("")
    with sandbox, contextlib.suppress(EOFError):
        while True:
            method, arguments, keywords = pickle.load(sys.stdin.buffer)
            try:
                send(getattr(sandbox, method)(*arguments, **keywords))
            except HardwareError as error:
                send(error)
