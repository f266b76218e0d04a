"""The command line and environment of a stage's process: alone, under torchrun, or through srun;
and the process that exports a model.

Several training processes are always torchrun's: Lightning's own launcher would run train.py again
in every rank, and under a sweep the whole sweep.
"""

import os
import socket
import sys
from ctypes.util import find_library

from ssd.arms import BASE
from ssd.config.choices import Accelerator
from ssd.errors import ConfigError
from ssd.run import Run, lineage
from ssd.runtime.children import run_child
from ssd.runtime.reporting import PREEMPTION_SIGNALS
from ssd.runtime.threads import thread_settings

MODULES = {"sample": "ssd.drive.draw"}
"""Modules of the stages whose process does more than the stage itself."""
SHUTDOWN_SECONDS = 600
"""How long torchrun waits for the checkpoint that a signal asks for."""


def stage_command(run: Run, stage: str) -> list[str]:
    """The command line of a stage's process.

    Raises:
        ConfigError: several machines, and no setting says where they meet.
    """
    module = ["-m", MODULES.get(stage, f"ssd.{stage}"), str(run.folder)]
    hardware = run.config.hardware
    if stage != "train" or hardware.num_processes == 1:
        return [sys.executable, *module]
    if hardware.num_nodes == 1:
        return [*torchrun(run), "--standalone", *module]
    if "SLURM_JOB_ID" in os.environ:
        job = int(os.environ["SLURM_JOB_ID"])
        nodes = ["srun", f"--nodes={hardware.num_nodes}", "--ntasks-per-node=1"]
        place = f"{socket.gethostname()}:{20_000 + job % 20_000}"
        return [*nodes, "--kill-on-bad-exit=1", *torchrun(run), *meeting(run, place), *module]
    if hardware.rendezvous is None:
        raise ConfigError(
            f"hardware.num_nodes={hardware.num_nodes} outside SLURM needs a place to meet: "
            "set hardware.rendezvous=HOST:PORT, with this machine's name and a free port"
        )
    return [*torchrun(run), *meeting(run, hardware.rendezvous), *module]


def torchrun(run: Run) -> list[str]:
    """torchrun with one process per device, which passes a cluster's signals on."""
    signals = {"SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", *(s.name for s in PREEMPTION_SIGNALS)}
    return [
        sys.executable, "-m", "ssd.runtime.torchrun",
        f"--nproc-per-node={run.config.hardware.devices or 1}",
        f"--signals-to-handle={','.join(sorted(signals))}",
        f"--shutdown-timeout={SHUTDOWN_SECONDS}",
    ]  # fmt: skip


def export_model(run: Run, model: str, step: int | None) -> None:
    """Export a trained model if its files are missing: those of an earlier step, or the merged
    model of an adapter."""
    folder = lineage.adapter_folder(run, model, step) or lineage.model_folder(run, model, step)
    if model == BASE or folder.is_dir():
        return
    command = [sys.executable, "-m", "ssd.train.export", str(lineage.trainings(run)[model].folder)]
    run_child(command + ([] if step is None else ["--step", str(step)]), "export")


def tcmalloc() -> dict[str, str]:
    """The variable that makes a process allocate through tcmalloc; empty where it is not installed.

    glibc maps every tensor above 32 MB anew, and the kernel zeroes its pages each time: a fifth of
    the processor time of a training step of Qwen2.5-0.5B. (Settings that make glibc keep what is
    freed leave gaps between rows of different lengths: 24 GiB after 15 steps, 13 of them in use.)
    """
    library = find_library("tcmalloc_minimal") or find_library("tcmalloc")
    return {} if library is None else {"LD_PRELOAD": library}


def meeting(run: Run, place: str) -> list[str]:
    """torchrun's arguments for several machines that meet at `place`, HOST:PORT."""
    return [
        f"--nnodes={run.config.hardware.num_nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={place}",
        f"--rdzv-id={lineage.checkpoint(run).fingerprint}",
    ]


def stage_environment(run: Run, stage: str) -> dict[str, str]:
    """This process's environment; on CPU with tcmalloc, and with threads that leave other programs
    and training processes their cores, unless the user has set these variables."""
    hardware = run.config.hardware
    if hardware.accelerator is not Accelerator.cpu:
        return dict(os.environ)
    environment = {**tcmalloc(), **os.environ}
    if stage == "report":  # computes nothing
        return environment
    devices = (hardware.devices or 1) if stage == "train" else 1
    return {**environment, **thread_settings(devices)}
