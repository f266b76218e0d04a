import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from corpora import write_corpus
from filelock import FileLock
from kills import MARK, children, done_steps, ignored, require_none_left, wait_for_moment
from transformers import AutoModelForCausalLM
from wandb_records import closed, offline_history

from ssd.artifacts.names import BASE_TARGET
from ssd.artifacts.store import verify
from ssd.drive.checks import check
from ssd.errors import (
    REPORTED,
    RESUMABLE,
    ArtifactError,
    DataError,
    ModelError,
    PreemptedError,
    SSDError,
)
from ssd.run import Run, lineage
from ssd.run.launch import stage_command, stage_environment
from ssd.run.lineage import step_folder, step_folders
from ssd.run.tracking import read_metrics
from ssd.runtime.children import run_child
from ssd.train import checkpoints, integrity
from ssd.train.export import export_again
from ssd.train.module import SelfDistillation
from ssd.train.trainer import train

LENGTHS = [(5, 9), (12, 3), (4, 20), (7, 7), (3, 15), (9, 2), (6, 30), (5, 5)]
FP32 = ("train.precision=fp32", "train.max_steps=8", "hardware.micro_batch_tokens=40")
GOLDEN = [
    5.589777, 5.607581, 5.452357, 5.281733, 5.193860, 5.227800, 5.083426, 5.046762, 5.003116,
    4.845844, 4.890499, 4.746816, 4.774060, 4.759412, 4.651366, 4.759901, 4.719381, 4.652818,
    4.701651, 4.589318,
]  # fmt: skip
"""Losses of twenty steps of the tiny model in fp32."""
Make = Callable[..., Run]


def losses(run: Run) -> list[float]:
    lines = read_metrics(lineage.checkpoint(run).folder)
    return [line["train/loss"] for line in lines if line["step"]]


def live(run: Run) -> list[float]:
    """The live decomposition, as far as it was logged."""
    lines = read_metrics(lineage.checkpoint(run).folder)
    return [
        value for line in lines for name, value in line.items() if name.startswith("decomposition/")
    ]


def trained(make_run: Make, name: str, *settings: str) -> Run:
    """A run in a store of its own, trained in this process or as the pipeline would."""
    run = make_run(*settings, f"output_dir={make_run().folder.parent}/{name}", name=name)
    write_corpus(run, LENGTHS)
    if run.config.hardware.num_processes == 1:
        train(run)
    else:
        in_child(run)
    return run


def in_child(run: Run) -> None:
    """Train as the pipeline would, in a process of its own."""
    run_child(stage_command(run, "train"), "training", stage_environment(run, "train"))


def killed_often(run: Run, victim: Callable[[int, Random], int], seed: int, times: int) -> int:
    """Train and kill: `victim` says which process, from the stage's own and a source of random
    numbers. How many kills hit a running training; it is then unfinished or just done."""
    random, hits = Random(seed), 0
    folder = lineage.checkpoint(run).folder
    for number in range(times):
        mark = f"{run.folder}-{seed}-{number}"
        environment = stage_environment(run, "train") | {MARK: mark}
        process = subprocess.Popen(stage_command(run, "train"), env=environment)
        drawn = wait_for_moment(
            random, run.config.train.max_steps, lambda: done_steps(folder),
            lambda: process.poll() is None,  # noqa: B023
        )  # fmt: skip
        hits += process.poll() is None
        print(f"seed {seed}, kill {number}: {drawn}", flush=True)
        ignored(victim(process.pid, random), signal.SIGKILL)
        process.wait(timeout=120)
        require_none_left(mark)
        if folder.is_dir():
            with FileLock(folder / ".lock", timeout=10):  # files close after the mark is gone
                pass
    return hits


def interrupted(run: Run, number: signal.Signals, when: Callable[[], bool]) -> int:
    """Start a training as the pipeline would, send a signal once `when` holds; its exit code."""
    process = subprocess.Popen(
        stage_command(run, "train"), env=stage_environment(run, "train"), start_new_session=True
    )
    deadline = time.monotonic() + 240
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if number is signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return process.wait()


def write_step(folder: Path, step: int, fingerprint: str, width: int = 8) -> None:
    """A checkpoint of one layer."""
    layer = torch.nn.Linear(width, width)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, width)).sum().backward()
    optimizer.step()
    checkpoints.save(folder, step, layer, optimizer, fingerprint=fingerprint, keep=1)


def flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def assert_same_training(run: Run, whole: Run) -> None:
    """Every step's metrics once, equal to the last bit but for times; equal weights; nothing left
    behind."""
    timed = {"time", "train/tokens_per_second"}
    folders = [lineage.checkpoint(training).folder for training in (run, whole)]
    mine, expected = (
        [
            {name: value for name, value in json.loads(text).items() if name not in timed}
            for text in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in folders
    )
    assert mine == expected
    mine, expected = (
        {path.name: path.read_bytes() for path in (folder / "model").glob("*.safetensors")}
        for folder in folders
    )
    assert mine == expected
    assert verify(folders[0]) == []
    names = [{path.name for path in folder.rglob("*")} for folder in folders]
    assert names[0] == names[1]
    with FileLock(folders[0] / ".lock", timeout=0):
        pass


def has_checkpoint(run: Run) -> bool:
    return bool(step_folders(lineage.checkpoint(run).folder))


def test_a_trained_checkpoint_loads_and_differs_from_its_base(make_run: Make) -> None:
    run = trained(make_run, "one", *FP32)
    manifest = lineage.checkpoint(run).manifest()
    assert manifest["export_check"]["max_logit_difference"] == 0
    assert manifest["counts"]["num_steps"] == 8
    assert manifest["counts"]["peak_memory_gib"] > 0
    tuned = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "tuned"))
    base = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "base"))
    assert set(tuned.state_dict()) == set(base.state_dict())
    assert any(
        not torch.equal(tuned.state_dict()[name], base.state_dict()[name])
        for name in base.state_dict()
    )
    curve = losses(run)
    assert len(curve) == 8
    assert curve[-1] < curve[0]
    assert step_folders(lineage.checkpoint(run).folder) == {}


def test_a_corpus_with_one_byte_changed_is_not_trained_on(make_run: Make) -> None:
    run = make_run(*FP32)
    write_corpus(run, LENGTHS)
    corpus = lineage.corpus(run).folder
    content = bytearray((corpus / "corpus.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (corpus / "corpus.parquet").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"corpus\.parquet: changed.*delete that folder"):
        train(run)
    named = make_run(*FP32, f"train.corpus={corpus}", name="named")
    for refuse in (train, check):
        with pytest.raises(ArtifactError, match=rf"train\.corpus={corpus}.*copy it again"):
            refuse(named)


def test_twenty_steps_give_the_golden_curve(make_run: Make) -> None:
    run = trained(make_run, "golden", "train.precision=fp32", "train.max_steps=20")
    assert losses(run) == pytest.approx(GOLDEN, rel=1e-4)


DIVISIONS = {
    "padded": ("train.packing=false",),
    "two processes sharded": ("hardware.devices=2",),
}
MORE_DIVISIONS = {
    "one sample at a time": ("hardware.micro_batch_tokens=1",),
    "full recomputation": ("hardware.activation_checkpointing=full",),
    "selective recomputation": ("hardware.activation_checkpointing=selective",),
    "one layer recomputed by two processes": ("hardware.devices=2", "hardware.recompute_layers=1"),
    "sdpa": ("hardware.attention=sdpa",),
    "two processes with DDP": ("hardware.devices=2", "hardware.strategy=ddp"),
}


@pytest.mark.parametrize(
    ("norm", "divisions"),
    [
        ("token", DIVISIONS),
        pytest.param("token", MORE_DIVISIONS, marks=pytest.mark.slow),
        pytest.param("sample", DIVISIONS, marks=pytest.mark.slow),
    ],
    ids=["token", "token, more", "sample"],
)
def test_no_division_of_the_work_changes_what_is_learnt(
    make_run: Make, norm: str, divisions: dict[str, tuple[str, ...]]
) -> None:
    settings = (*FP32, f"objective.norm={norm}")
    whole = trained(make_run, "whole", *settings, "hardware.micro_batch_tokens=null")
    expected = AutoModelForCausalLM.from_pretrained(lineage.model_folder(whole, "tuned"))
    for name, changes in divisions.items():
        run = trained(make_run, name, *settings, *changes)
        assert losses(run) == pytest.approx(losses(whole), rel=1e-4), name
        assert live(run) == pytest.approx(live(whole), rel=1e-4, abs=1e-5), name
        found = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "tuned"))
        for a, b in zip(found.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-2, rtol=1e-2, msg=name)


@pytest.mark.slow
def test_two_sharded_processes_in_bf16_stay_near_one_in_fp32(make_run: Make) -> None:
    whole = trained(make_run, "whole", *FP32)
    run = trained(make_run, "bf16", *FP32, "train.precision=bf16", "hardware.devices=2")
    assert losses(run) == pytest.approx(losses(whole), rel=5e-3)


def the_stage(pid: int, _: Random) -> int:
    return pid


def one_rank(pid: int, random: Random) -> int:
    ranks = children(pid)
    return random.choice(ranks) if ranks else pid


SETTINGS_OF_KILLS = ("train.max_steps=40", "train.checkpoint_every=2")
KILLS = {
    "the stage": (the_stage, 1, "train.precision=fp32"),
    "the stage, in bf16": (the_stage, 2, "train.precision=bf16"),
    "the stage, with W&B": (the_stage, 2, "logger.wandb=true", "logger.mode=offline"),
    "the stage, often": (the_stage, 8, "train.precision=fp32", "train.checkpoint_every=1"),
    "one rank of two": (one_rank, 3, "hardware.devices=2", "train.checkpoint_every=1"),
    "torchrun": (the_stage, 2, "hardware.devices=2", "train.checkpoint_every=1"),
    "a rank of LoRA with DDP": (
        one_rank, 1, "hardware.devices=2", "hardware.strategy=ddp", "adapter=lora",
    ),
}  # fmt: skip
"""Who is killed, how often, and of which training."""


@pytest.mark.parametrize("settings", [(), ("adapter=lora",)], ids=["whole", "LoRA"])
def test_a_training_that_ends_between_its_last_checkpoint_and_its_export_exports_what_it_learnt(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    whole = trained(make_run, "whole", *FP32, *settings)
    run = make_run(*FP32, *settings, "train.checkpoint_every=8")
    write_corpus(run, LENGTHS)

    def full_disk(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr("ssd.train.trainer.export", full_disk)
        with pytest.raises(OSError, match="no space"):
            train(run)
    assert list(checkpoints.resumable(lineage.checkpoint(run).folder)) == [8]
    train(run)
    assert_same_training(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fsdp", "ddp"])
def test_ranks_that_are_killed_after_their_last_checkpoint_export_what_they_learnt(
    make_run: Make, strategy: str
) -> None:
    settings = (*FP32, "hardware.devices=2", f"hardware.strategy={strategy}")
    whole = trained(make_run, "whole", *settings)
    run = make_run(*settings, "train.checkpoint_every=8")
    write_corpus(run, LENGTHS)
    last = step_folder(lineage.checkpoint(run).folder, 8)
    interrupted(run, signal.SIGKILL, last.is_dir)
    assert not lineage.checkpoint(run).done
    in_child(run)
    assert_same_training(run, whole)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "the stage")) for name in KILLS]
)
@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_as_if_it_had_not_been(
    make_run: Make, name: str
) -> None:
    victim, times, *settings = KILLS[name]
    settings = [*SETTINGS_OF_KILLS, *settings]
    whole = trained(make_run, "whole", *settings)
    run = make_run(*settings, name="killed")
    write_corpus(run, LENGTHS)
    os.environ.pop("WANDB_SERVICE", None)  # that of this process knows no kills
    hits = killed_often(run, victim, seed=list(KILLS).index(name), times=times)
    assert hits, "every training ended before it was killed"
    in_child(run)
    assert_same_training(run, whole)
    if run.config.logger.wandb:
        (folder,) = (run.folder / "wandb").glob("offline-run-*")
        expected = list(enumerate(losses(whole), start=1))
        assert offline_history(closed(folder), "train/loss") == expected


@pytest.mark.slow
def test_a_signal_leaves_a_checkpoint_that_any_number_of_processes_resumes(
    make_run: Make,
) -> None:
    settings = ("train.max_steps=60", "train.checkpoint_every=1000", "train.precision=fp32")
    whole = trained(make_run, "whole", *settings)
    for processes, number in ((2, signal.SIGTERM), (1, signal.SIGUSR1)):
        run = make_run(*settings, f"hardware.devices={processes}", name="stopped")
        before = len(losses(run))
        if not before:
            write_corpus(run, LENGTHS)
        code = interrupted(run, number, lambda: len(losses(run)) >= before + 3)  # noqa: B023
        assert code == RESUMABLE
        step = max(step_folders(lineage.checkpoint(run).folder))
        assert before + 3 <= step < 60
    last = make_run(*settings, "hardware.devices=2", name="last")
    measured = len(live(last))
    (lineage.checkpoint(last).folder / BASE_TARGET).unlink()  # as in folders of an older version
    in_child(last)
    assert losses(last) == pytest.approx(losses(whole), rel=1e-4)
    assert 0 < len(live(last)) == measured < len(live(whole))


def test_a_signal_during_a_step_stops_all_processes_after_the_next(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes agree once per step: what one alone hears later waits for the next sum."""
    run = make_run(*FP32, "train.checkpoint_every=1000")
    write_corpus(run, LENGTHS)
    agree = SelfDistillation._sum_over_processes

    def signalled(module: SelfDistillation, values: list[float]) -> list[float]:
        agreed = agree(module, values)
        if module.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return agreed

    monkeypatch.setattr(SelfDistillation, "_sum_over_processes", signalled)
    with pytest.raises(PreemptedError, match="after step 4 of 8"):
        train(run)
    assert list(step_folders(lineage.checkpoint(run).folder)) == [4]


def test_a_checkpoint_cut_short_is_passed_over_and_cleared(make_run: Make) -> None:
    run = make_run(*FP32, "train.checkpoint_every=3")
    write_corpus(run, LENGTHS)
    cut = lineage.checkpoint(run).folder / "checkpoints" / ".step-000006.tmp" / "weights"
    cut.mkdir(parents=True)
    assert (
        checkpoints.newest(lineage.checkpoint(run).folder, lineage.checkpoint(run).fingerprint) == 0
    )
    train(run)
    assert not cut.parent.exists()


def test_a_checkpoint_of_another_configuration_is_refused(make_run: Make) -> None:
    run = make_run(*FP32)
    write_corpus(run, LENGTHS)
    copied = step_folder(lineage.checkpoint(run).folder, 4)
    (copied / "optimizer").mkdir(parents=True)
    (copied / "state.json").write_text('{"step": 4, "fingerprint": "another"}')
    with pytest.raises(
        ArtifactError, match=r"belongs to another configuration \(checkpoint another"
    ):
        train(run)


CHECKPOINT_FILES = [
    "weights/__0_0.distcp", "weights/.metadata", "optimizer/__0_0.distcp", "optimizer/.metadata",
    "state.json",
]  # fmt: skip


@pytest.mark.parametrize("file", CHECKPOINT_FILES)
@pytest.mark.parametrize("old", [False, True], ids=["", "without digests"])
def test_a_checkpoint_whose_file_is_cut_short_is_named(
    make_run: Make, file: str, old: bool
) -> None:
    run = make_run(*FP32)
    folder, owner = lineage.checkpoint(run).folder, lineage.checkpoint(run).fingerprint
    write_step(folder, 4, owner)
    step = step_folder(folder, 4)
    if old:
        (step / "state.json").write_text(json.dumps({"step": 4, "fingerprint": owner}))
    assert checkpoints.newest(folder, owner) == 4
    cut_short(step / file)
    with pytest.raises(ArtifactError) as refused:
        checkpoints.newest(folder, owner)
    assert f"{step} is damaged ({file})" in str(refused.value)
    assert f"delete {step}" in str(refused.value)


def test_any_bit_flipped_in_the_newest_checkpoint_is_seen_and_the_one_before_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = Random(20)
    for step in (2, 4):
        write_step(tmp_path, step, "owner")
    newest = step_folder(tmp_path, 4)
    files = {str(path.relative_to(newest)) for path in newest.rglob("*") if path.is_file()}
    assert files == set(CHECKPOINT_FILES)
    for file in CHECKPOINT_FILES * 10:
        whole = (newest / file).read_bytes()
        place = random.randrange(8 * len(whole))
        flip_bit(newest / file, place)
        if file == "state.json" and integrity.read_manifest(newest) is not None:
            assert not whole[place // 8 :][:1].strip(), "only white space may change"
        else:
            assert integrity.damaged_file(newest) == file, f"bit {place} of {file}"
        (newest / file).write_bytes(whole)
    assert checkpoints.newest(tmp_path, "owner") == 4
    flip_bit(newest / "optimizer" / "__0_0.distcp", 12_345)
    assert checkpoints.newest(tmp_path, "owner") == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{newest} is damaged (optimizer/__0_0.distcp)" in line
    assert not newest.exists()
    flip_bit(step_folder(tmp_path, 2) / "weights" / "__0_0.distcp", 12_345)
    with pytest.raises(ArtifactError, match=f"delete {step_folder(tmp_path, 2)}"):
        checkpoints.newest(tmp_path, "owner")


def test_two_checkpoints_can_be_resumed_and_what_was_being_written_is_removed(
    tmp_path: Path,
) -> None:
    for step in (2, 4, 6):
        write_step(tmp_path, step, "owner")
    assert list(checkpoints.resumable(tmp_path)) == [4, 6]
    assert list(step_folders(tmp_path)) == [4, 6]
    for name in (".step-000008.tmp", ".step-000002-removed.tmp"):
        (tmp_path / "checkpoints" / name / "weights").mkdir(parents=True)
    assert checkpoints.newest(tmp_path, "owner") == 6
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-000004",
        "step-000006",
    ]


@pytest.mark.parametrize("limited", ["weights", "optimizer"])
def test_a_checkpoint_that_is_cut_short_while_it_is_written_leaves_the_one_before(
    tmp_path: Path, limited: str
) -> None:
    write_step(tmp_path, 1, "owner", width=256)
    sizes = {"weights": 100_000, "optimizer": 400_000}  # 263 kB of weights, 526 of moments
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[limited], hard))
    try:
        with pytest.raises(ArtifactError, match=r"step 2 was not written.*\(File too large"):
            write_step(tmp_path, 2, "owner", width=256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    assert checkpoints.newest(tmp_path, "owner") == 1


def test_a_store_that_cannot_be_written_is_told_in_one_line(
    make_run: Make, small_disk: Path
) -> None:
    run = make_run(*FP32, f"output_dir={small_disk}/out")
    write_corpus(run, LENGTHS)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ArtifactError, match=rf"{small_disk}.*Read-only.*output_dir"):
        train(run)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_checkpoint_that_cannot_be_written_to_its_end_is_removed_and_told_in_one_line(
    make_run: Make, devices: int
) -> None:
    """A limit of file sizes cuts a write short as a disk does that others fill meanwhile."""
    settings = (*FP32, f"hardware.devices={devices}", "train.checkpoint_every=2")
    run = make_run(*settings)
    write_corpus(run, LENGTHS)
    folder = lineage.checkpoint(run).folder
    limited = f"ulimit -f 400 && exec {shlex.join(stage_command(run, 'train'))}"  # KiB
    stage = subprocess.run(
        ["bash", "-c", limited], env=stage_environment(run, "train"), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert stage.returncode == REPORTED, stage.stderr
    (line,) = [text for text in stage.stderr.splitlines() if text.startswith("error: ")]
    assert f"the checkpoint after step 2 was not written to {folder}" in line
    assert "Traceback" not in stage.stderr
    assert list((folder / "checkpoints").iterdir()) == []
    if devices == 1:
        train(run)
        assert_same_training(run, trained(make_run, "whole", *settings))


def test_ctrl_c_ends_a_training_where_it_stands(
    make_run: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run("train.max_steps=400", "train.checkpoint_every=1")
    write_corpus(run, LENGTHS)
    assert interrupted(run, signal.SIGINT, lambda: has_checkpoint(run)) == 128 + signal.SIGINT
    printed = capfd.readouterr().err
    assert "interrupted: " in printed
    assert "Traceback" not in printed


def test_a_checkpoint_says_how_much_the_disk_lacks(small_disk: Path) -> None:
    # 4 MiB of weights and 8 of moments, beside 1 of torch's descriptions
    missing = (
        r"the checkpoint after step 1 needs about 13\.\d MiB .*, 12\.\d MiB more than there are"
    )
    with pytest.raises(ArtifactError, match=rf"{missing}: the disk at {small_disk}"):
        write_step(small_disk, 1, "owner", width=1024)
    assert not list(small_disk.rglob("*.distcp"))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    make_run: Make, capfd: pytest.CaptureFixture[str], devices: int
) -> None:
    settings = (*FP32, f"hardware.devices={devices}", "train.checkpoint_every=1")
    whole = trained(make_run, "whole", *settings)
    run = make_run(*settings, name="cut")
    write_corpus(run, LENGTHS)
    folder = lineage.checkpoint(run).folder
    # Two processes are torchrun's, whose ranks end with it.
    interrupted(run, signal.SIGKILL, lambda: 4 in step_folders(folder))
    with FileLock(folder / ".lock", timeout=60):
        pass
    *_, before, newest = step_folders(folder)
    assert newest < 8
    # Where two processes wrote it, the second one's file.
    file = sorted((step_folder(folder, newest) / "optimizer").glob("*.distcp"))[-1]
    flip_bit(file, 12_345)
    train(run) if devices == 1 else in_child(run)
    printed = capfd.readouterr().out
    assert f"{step_folder(folder, newest)} is damaged (optimizer/{file.name})" in printed
    assert f"resuming from {step_folder(folder, before)}" in printed
    assert_same_training(run, whole)


@pytest.mark.parametrize(("keep", "kept"), [("1", []), ("2", [6]), ("null", [2, 4, 6])])
def test_the_last_checkpoints_are_kept_as_weights(
    make_run: Make, keep: str, kept: list[int]
) -> None:
    settings = ("train.checkpoint_every=2", f"train.keep_checkpoints={keep}")
    run = trained(make_run, "one", *FP32, *settings)
    found = step_folders(lineage.checkpoint(run).folder)
    assert list(found) == kept
    for path in found.values():
        assert not (path / "optimizer").exists()


def test_an_earlier_checkpoint_exports_what_training_to_there_gives(make_run: Make) -> None:
    settings = ("train.checkpoint_every=4", "train.keep_checkpoints=null", "train.warmup_steps=8")
    run = trained(make_run, "long", *FP32, *settings)
    export_again(run, 4)
    model = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "tuned", 4))
    assert lineage.model_folder(run, "tuned", 4).parent == step_folder(
        lineage.checkpoint(run).folder, 4
    )
    final = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "tuned"))
    assert not torch.equal(model.lm_head.weight, final.lm_head.weight)
    # The learning rate still warms up, so a training of four steps takes the same steps.
    short = ("train.max_steps=4", "train.warmup_steps=4", "optimizer.lr=5e-4", "train.min_lr=0")
    reference = trained(make_run, "short", *FP32, *short)
    assert losses(reference) == pytest.approx(losses(run)[:4], rel=1e-4)

    (kept,) = (step_folder(lineage.checkpoint(run).folder, 4) / "weights").glob("*.distcp")
    flip_bit(kept, 12_345)
    with pytest.raises(ArtifactError, match=rf"step 4: .* is damaged \(weights/{kept.name}"):
        export_again(run, 4)
    with pytest.raises(ArtifactError, match=r"step 5: .* was not kept \(kept: 4"):
        export_again(run, 5)


def test_a_loss_that_is_not_finite_stops_with_step_samples_and_remedy(make_run: Make) -> None:
    run = make_run(*FP32, "optimizer.lr=1e30", "train.min_lr=1e30", "train.warmup_steps=0")
    write_corpus(run, LENGTHS)
    with pytest.raises(SSDError, match=r"step \d+: the .* is (nan|inf).*samples p\d.*optimizer.lr"):
        train(run)


def test_training_without_a_corpus_says_which_stage_is_missing(make_run: Make) -> None:
    run = make_run()
    with pytest.raises(ArtifactError, match="unfinished: sample first"):
        train(run)
    stage = subprocess.run(stage_command(run, "train"), capture_output=True, text=True, check=False)
    assert stage.returncode == REPORTED
    assert stage.stderr.strip().splitlines()[-1].startswith("error: ")


def test_a_sample_beyond_seq_len_stops_before_weights_load(make_run: Make) -> None:
    run = make_run("train.seq_len=10")
    write_corpus(run, LENGTHS)
    with pytest.raises(
        DataError, match=r"train.seq_len is 10: raise it, or set train.long_samples=skip"
    ):
        train(run)


def test_router_settings_of_a_dense_model_are_refused(make_run: Make) -> None:
    run = make_run("train.router_aux_coef=0.1")
    write_corpus(run, LENGTHS)
    with pytest.raises(ModelError, match="are for mixture-of-experts models"):
        train(run)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_two_machines_that_meet_train_as_one(make_run: Make) -> None:
    whole = trained(make_run, "whole", *FP32)
    place = f"127.0.0.1:{free_port()}"
    two = make_run(*FP32, "hardware.num_nodes=2", f"hardware.rendezvous={place}", name="two")
    write_corpus(two, LENGTHS)
    command = stage_command(two, "train")
    assert "--nnodes=2" in command
    environment = stage_environment(two, "train") | {"OMP_NUM_THREADS": "1"}
    machines = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [machine.wait(timeout=240) for machine in machines] == [0, 0]
    assert losses(two) == pytest.approx(losses(whole), rel=1e-4)
    manifest = json.loads((lineage.checkpoint(two).folder / "manifest.json").read_text())
    assert manifest["export_check"]["max_logit_difference"] == 0


def test_metrics_say_how_full_the_rows_were(make_run: Make, tmp_path: Path) -> None:
    run = trained(make_run, "padded", *FP32, "train.packing=false")
    _, *lines = read_metrics(lineage.checkpoint(run).folder)  # the first is before training
    assert all(0 < line["train/fill"] <= 1 for line in lines)
    assert any(line["train/fill"] < 1 for line in lines)
    assert all(line["train/num_tokens"] > line["train/num_loss_tokens"] for line in lines)
