import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.artifacts.names import WEIGHTS
from ssd.config.choices import Accelerator
from ssd.errors import REPORTED, ConfigError
from ssd.run import Run
from ssd.run.launch import stage_command, stage_environment, tcmalloc


def test_one_process_needs_no_launcher(make_run: Callable[..., Run]) -> None:
    run = make_run()
    assert stage_command(run, "train")[1:] == ["-m", "ssd.train", str(run.folder)]


def test_several_processes_go_through_torchrun_which_passes_signals_on(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("hardware.devices=2")
    command = stage_command(run, "train")
    assert "--standalone" in command
    assert "--nproc-per-node=2" in command
    assert any("SIGTERM,SIGUSR1" in part for part in command)
    assert "ssd.runtime.torchrun" not in stage_command(run, "sample")


def test_inside_slurm_every_node_starts_torchrun(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    run = make_run("hardware.num_nodes=2", "hardware.devices=2")
    command = stage_command(run, "train")
    assert command[:3] == ["srun", "--nodes=2", "--ntasks-per-node=1"]
    assert "--nnodes=2" in command
    assert any(part.startswith("--rdzv-endpoint=") and part.endswith(":24711") for part in command)


def test_several_machines_need_a_place_to_meet(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match=r"set hardware.rendezvous=HOST:PORT"):
        stage_command(make_run("hardware.num_nodes=2"), "train")
    meeting = make_run("hardware.num_nodes=2", "hardware.rendezvous=node1:29400")
    assert "--rdzv-endpoint=node1:29400" in stage_command(meeting, "train")


def test_a_stage_on_cpu_shares_the_cores_that_are_free_unless_the_user_says_otherwise(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("ssd.runtime.threads.PROC_STAT", tmp_path / "none")  # nothing else runs
    cores = len(os.sched_getaffinity(0))
    run = make_run("hardware.devices=2")
    assert stage_environment(run, "train")["OMP_NUM_THREADS"] == str(max(cores // 2, 1))
    assert stage_environment(run, "sample")["OMP_NUM_THREADS"] == str(cores)
    busy = tmp_path / "stat"
    busy.write_text("cpu  0 0 0 100 0 0 0 0 0 0\n")  # no core is ever idle
    monkeypatch.setattr("ssd.runtime.threads.LOOKS", (0.01,))
    monkeypatch.setattr("ssd.runtime.threads.PROC_STAT", busy)
    environment = stage_environment(run, "evaluate")
    if cores > 1:
        assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("1", "passive")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    environment = stage_environment(run, "train")
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("7", "active")


def test_a_stage_computes_with_the_threads_of_its_environment(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ssd.runtime.threads.LOOKS", (0.01,))
    busy = tmp_path / "stat"
    busy.write_text("cpu  0 0 0 100 0 0 0 0 0 0\n")  # no core is ever idle
    monkeypatch.setattr("ssd.runtime.threads.PROC_STAT", busy)
    done = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.get_num_threads())"],
        env=stage_environment(make_run(), "train"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"


def test_processes_on_cpu_allocate_through_tcmalloc_where_it_is_unless_the_user_preloads(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    monkeypatch.setenv("LD_PRELOAD", "mine.so")
    assert stage_environment(run, "train")["LD_PRELOAD"] == "mine.so"
    monkeypatch.delenv("LD_PRELOAD")
    if not tcmalloc():
        pytest.skip("tcmalloc is not installed (Debian: libtcmalloc-minimal4)")
    maps = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/maps').read())"],
        env=stage_environment(run, "train"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "tcmalloc" in maps.stdout
    assert not maps.stderr
    run.config.hardware.accelerator = Accelerator.gpu
    assert stage_environment(run, "train") == dict(os.environ)


def test_a_workers_one_line_error_is_the_launchers_whole_output(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("hardware.devices=2")
    (run.folder / WEIGHTS).unlink()
    done = subprocess.run(
        stage_command(run, "train"),
        env=stage_environment(run, "train"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == REPORTED
    lines = set(done.stderr.strip().splitlines())
    assert len(lines) == 1
    assert f"{run.folder} holds no run" in lines.pop()


def test_ctrl_c_ends_a_launcher_that_is_still_importing_without_a_trace(tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-m", "ssd.runtime.torchrun", "--standalone", str(tmp_path / "none.py")],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    loaded = Path(f"/proc/{launcher.pid}/maps")
    while "libtorch" not in loaded.read_text():
        assert launcher.poll() is None
        time.sleep(0.005)
    launcher.send_signal(signal.SIGINT)
    _, printed = launcher.communicate()
    assert launcher.returncode == 128 + signal.SIGINT
    assert "the same command goes on" in printed and "Traceback" not in printed


def test_a_killed_worker_ends_the_launcher_by_the_same_signal(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    command = [sys.executable, "-m", "ssd.runtime.torchrun", "--standalone", "--nproc-per-node=1"]
    done = subprocess.run([*command, str(worker)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
