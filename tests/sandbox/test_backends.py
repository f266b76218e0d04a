"""What a program can see: the interpreter and nothing of the benchmarks, however the project is
installed and wherever it runs."""

import os
import struct
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import ssd
from ssd.sandbox import backends
from ssd.sandbox.backends import INSIDE, is_shown, layout
from ssd.sandbox.inside import seccomp

PACKAGE = Path(ssd.__file__).parent
LOOK = """
import os, sys
def f():
    return sorted(
        os.path.join(folder, name)
        for top in ("/", sys.prefix)
        for folder, _, names in os.walk(top)
        for name in names
        if name.endswith((".jsonl.gz", ".parquet")) and not folder.startswith("/proc")
    ), os.path.isdir(sys.prefix)
"""
GRADE = """
import sys
from ssd.config.choices import SandboxName
from ssd.errors import HardwareError
from ssd.sandbox.pool import load_sandbox
try:
    with load_sandbox(sys.argv[1], memory_mib=512) as sandbox:
        print(sandbox.judge(sys.argv[2], "assert f() == ([], True), f()", timeout=60))
        sandbox.require("numpy", "mbpp_plus")
except HardwareError as error:
    print(error)
"""


def run_in(prefix: Path, backend: str, folder: Path) -> str:
    """What `GRADE` prints under an interpreter of its own, in `folder`."""
    path = [sysconfig.get_path("purelib"), *filter(None, sys.path)]
    site = prefix / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    finished = subprocess.run(
        [prefix / "bin" / "python", "-c", GRADE, backend, LOOK],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *path])},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return finished.stdout + finished.stderr


def install(prefix: Path) -> None:
    """Make an environment with the project copied into it, as `pip install .` does."""
    venv.create(prefix, symlinks=True)
    site = prefix / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    subprocess.run(["cp", "-r", PACKAGE, site / "ssd"], check=True)


@pytest.mark.parametrize("backend", ["bwrap", "namespaces"])
def test_benchmarks_and_answers_are_out_of_sight_in_an_installed_project(
    backend: str, tmp_path: Path
) -> None:
    prefix = tmp_path / "environment"
    install(prefix)
    answers = prefix / "work"  # a run within what is visible
    answers.mkdir()
    (answers / "answers.parquet").write_text("answers")
    printed = run_in(prefix, backend, answers)
    if "cannot be isolated" in printed:
        pytest.skip(printed)
    outcome, refusal = printed.strip().split("\n")
    assert "status='passed'" in outcome, outcome
    # The environment has no numpy of its own; the grader's comes from elsewhere.
    assert refusal.startswith("mbpp_plus needs numpy") and "ModuleNotFoundError" in refusal
    assert str(prefix) in refusal


@pytest.mark.parametrize("backend", ["bwrap", "namespaces"])
def test_a_kernel_that_nests_no_namespaces_is_refused_at_the_start(
    backend: str, tmp_path: Path
) -> None:
    load = (
        "from ssd.sandbox.pool import load_sandbox\n"
        f"load_sandbox('{backend}', memory_mib=512).close(); print('started')"
    )
    python = [sys.executable, "-c", load]
    limit = 'echo "$0" > /proc/sys/user/max_pid_namespaces && exec "$@"'
    printed = []
    for most in ("100", "1"):  # the worker has one, its first job needs another
        command = ["unshare", "--user", "--map-root-user", "sh", "-c", limit, most, *python]
        finished = subprocess.run(command, capture_output=True, text=True)
        printed.append(finished.stdout + finished.stderr.strip().split("\n")[-1])
    if "started" not in printed[0]:
        pytest.skip(printed[0])
    assert "No space left on device" in printed[1] or "ENOSPC" in printed[1]
    assert "eval.sandbox=none" in printed[1]


def test_what_is_shown_and_hidden_is_told_by_the_nearest_path() -> None:
    paths = [("/usr", True), ("/usr/src/app", False), ("/usr/src/app/env", True)]
    shown = ["/usr", "/usr/bin/python", "/usr/src/apple", "/usr/src/app/env/bin"]
    hidden = ["/", "/home", "/usr/src/app", "/usr/src/app/data/x.gz"]
    assert [is_shown(path, paths) for path in shown] == [True] * 4
    assert [is_shown(path, paths) for path in hidden] == [False] * 4


def test_the_project_is_hidden_and_the_interpreter_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir("/usr/share")
    paths = layout()
    assert ("/usr/share", False) in paths
    assert is_shown(str(INSIDE), paths) and is_shown(os.__file__, paths)
    assert not is_shown(str(PACKAGE / "data" / "humaneval.jsonl.gz"), paths)
    assert not is_shown(str(tmp_path), paths)
    assert backends.scratch_folder() in ("/tmp", "/scratch")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_what_is_listed_and_nothing_else(machine: str) -> None:
    """The filter's own instructions, followed here for each call."""
    column = list(seccomp.AUDIT_ARCH).index(machine)
    allowed = {pair[column] for pair in seccomp.calls.ALLOWED.values()}
    asked = {seccomp.calls.SOCKET, seccomp.calls.SETPRIORITY, *seccomp.calls.OF_THE_CALLER}
    for number in range(600):
        result = follow(seccomp.build_filter(machine, False), machine, number, (0, 0))
        clone = number == seccomp.calls.CLONE[column]
        of_itself = number in {pair[column] for pair in asked - {seccomp.calls.SOCKET}}
        assert (result == seccomp.ALLOW) == (number in allowed or of_itself or clone), number
        strange = follow(seccomp.build_filter(machine, False), machine, number, (0x10000000, 40))
        assert (strange == seccomp.ALLOW) == (number in allowed), number
    for family in range(50):
        result = follow(
            seccomp.build_filter(machine, False), machine, seccomp.calls.SOCKET[column], (family, 1)
        )
        assert (result == seccomp.ALLOW) == (family in (1, 2, 10)), family
    assert follow(seccomp.build_filter(machine, False), "i386", 1, (0, 0)) == seccomp.KILL


def follow(program: list[bytes], machine: str, number: int, arguments: tuple[int, int]) -> int:
    """What a filter returns for a call."""
    memory = {
        seccomp.NUMBER: number,
        seccomp.ARCH: seccomp.AUDIT_ARCH.get(machine, 0),
        seccomp.FIRST: arguments[0],
        seccomp.SECOND: arguments[1],
    }
    value = position = 0
    while True:
        code, if_true, if_false, constant = struct.unpack("HBBI", program[position])
        position += 1
        if code == seccomp.RETURN:
            return int(constant)
        if code == seccomp.LOAD:
            value = memory[constant]
            continue
        holds = {
            seccomp.JUMP_EQUAL: value == constant,
            seccomp.JUMP_AT_LEAST: value >= constant,
            seccomp.JUMP_SET: bool(value & constant),
        }[code]
        position += if_true if holds else if_false
