"""How many threads compute beside other programs."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.runtime.threads import busy_cores, core_quota, cores_beside, thread_settings


def test_cores_that_another_program_keeps_busy_are_counted() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as program:
        busy = busy_cores()
        program.kill()
    assert busy > 0.4


@pytest.mark.parametrize(
    ("busy", "cores", "allowed", "free"),
    [
        (0.0, 2, 2, 2),
        (0.4, 2, 2, 2),
        (0.9, 2, 2, 1),
        (2.0, 2, 2, 1),
        (3.2, 16, 16, 13),
        (8.0, 16, 4, 4),
        (13.9, 16, 4, 2),
    ],
)
def test_threads_leave_other_programs_their_cores(
    busy: float, cores: int, allowed: int, free: int
) -> None:
    assert cores_beside(busy, cores=cores, allowed=allowed) == free


def test_a_containers_share_of_the_processor_limits_threads(tmp_path: Path) -> None:
    own, groups = tmp_path / "own", tmp_path / "groups"
    (groups / "user" / "shell").mkdir(parents=True)
    own.write_text("1:cpu:/elsewhere\n0::/user/shell\n")
    assert core_quota(own, groups) == math.inf
    (groups / "user" / "shell" / "cpu.max").write_text("max 100000\n")
    assert core_quota(own, groups) == math.inf
    (groups / "user" / "cpu.max").write_text("150000 100000\n")
    assert core_quota(own, groups) == 1.5
    assert core_quota(tmp_path / "none", groups) == math.inf


def test_a_busy_machine_leaves_one_thread_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("ssd.runtime.threads.LOOKS", (0.01, 0.02))
    monkeypatch.setattr("ssd.runtime.threads.NOTED", set())
    unchanging = tmp_path / "stat"
    unchanging.write_text("cpu  0 0 0 100 0 0 0 0 0 0\n")  # no core is ever idle
    monkeypatch.setattr("ssd.runtime.threads.PROC_STAT", unchanging)
    assert thread_settings() == {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    (line,) = capsys.readouterr().out.splitlines()
    cores = os.cpu_count()
    assert f"{cores}.0 of {cores} cores" in line
    assert "OMP_NUM_THREADS=N" in line
    assert thread_settings()["OMP_NUM_THREADS"] == "1"  # at the next stage
    assert not capsys.readouterr().out


def test_a_quiet_machine_is_used_whole_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ssd.runtime.threads.PROC_STAT", tmp_path / "none")
    cores = len(os.sched_getaffinity(0))
    assert thread_settings() == {"OMP_NUM_THREADS": str(cores)}
    assert thread_settings(processes=10 * cores)["OMP_NUM_THREADS"] == "1"
    assert not capsys.readouterr().out


def test_what_the_user_sets_for_threads_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd.runtime.threads.LOOKS", (0.01,))
    unchanging = tmp_path / "stat"
    unchanging.write_text("cpu  0 0 0 100 0 0 0 0 0 0\n")  # no core is ever idle
    monkeypatch.setattr("ssd.runtime.threads.PROC_STAT", unchanging)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert thread_settings() == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert thread_settings() == {}
