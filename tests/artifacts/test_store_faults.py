"""What disks, clocks and other machines do to a store."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ssd.artifacts import locks
from ssd.artifacts.files import SEALED, seal_of, write_rows
from ssd.artifacts.locks import LOCK, holding
from ssd.artifacts.seals import drop_damaged, is_whole
from ssd.artifacts.store import Artifact, artifact, record_export, verify
from ssd.errors import ArtifactError
from ssd.inventory.holdings import take_inventory
from ssd.inventory.prune import candidates, delete

HOLD = """
import sys
from pathlib import Path
from ssd.artifacts.locks import holding
folder = Path(sys.argv[1])
with holding(folder / ".lock", folder):
    print("writing")
    input()
"""


def made(store: Path, number: int = 0) -> Artifact:
    corpus = artifact(store, "corpus", {"number": number})
    with corpus.writing() as folder:
        write_rows(folder / "corpus.parquet", [{"a": number}])
        corpus.finish(started=time.time(), counts={})
    return corpus


def test_a_finished_artifact_on_a_read_only_disk_is_read_and_not_written(small_disk: Path) -> None:
    corpus = made(small_disk / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert corpus.intact() == corpus.folder and verify(corpus.folder) == []
    inventory = take_inventory(small_disk)
    assert [each.state for each in inventory.holdings] == ["finished"]
    with pytest.raises(ArtifactError, match="set output_dir to a writable folder"):
        made(small_disk / "store", 1)
    ((_, reason),) = delete(candidates(inventory, [], 0.0))
    assert reason is not None and "read-only" in reason.lower()


def test_a_disk_without_inodes_says_so(few_inodes: Path) -> None:
    with pytest.raises(ArtifactError, match=rf"the disk at {few_inodes} .* inodes .*output_dir="):
        for number in range(9):
            write_rows(few_inodes / f"{number}.parquet", [{"a": 1}])
    assert not list(few_inodes.glob(".*.tmp"))


def test_a_disk_that_fills_before_the_manifest_leaves_an_unfinished_artifact(
    small_disk: Path,
) -> None:
    corpus = artifact(small_disk, "corpus", {})
    with corpus.writing() as folder:
        write_rows(folder / "corpus.parquet", [{"a": 1}])
        with (
            (folder / ".filler").open("wb", buffering=0) as filler,
            pytest.raises(OSError, match="space"),
        ):
            while True:
                filler.write(b"x" * 4096)
        with pytest.raises(ArtifactError, match=r"no space left while writing .*manifest\.json"):
            corpus.finish(started=time.time(), counts={})
        assert not corpus.done
        (folder / ".filler").unlink()
        corpus.finish(started=time.time(), counts={})
    assert verify(corpus.folder) == []


def test_a_clock_that_goes_back_gives_no_negative_time(tmp_path: Path) -> None:
    corpus = artifact(tmp_path, "corpus", {})
    corpus.folder.mkdir(parents=True)
    corpus.finish(started=time.time() + 3600, counts={})
    assert corpus.manifest()["wall_seconds"] == 0


def test_another_artifacts_manifest_is_no_proof(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path, 1)
    manifest = (second.folder / "manifest.json").read_bytes()
    (first.folder / "manifest.json").write_bytes(manifest)
    with pytest.raises(ArtifactError, match=f"{first.folder} holds another corpus's manifest"):
        first.intact()


def test_a_shard_that_no_manifest_names_is_found(tmp_path: Path) -> None:
    corpus = artifact(tmp_path, "corpus", {})
    write_rows(corpus.folder / "shards" / "00000.parquet", [{"a": 1}])
    corpus.finish(started=time.time(), counts={})
    write_rows(corpus.folder / "shards" / "00001.parquet", [{"a": 1}])
    assert verify(corpus.folder) == ["shards/00001.parquet: not in manifest.json"]
    with pytest.raises(ArtifactError, match="00001"):
        corpus.intact("shards/")


def test_what_was_exported_later_is_verified_too(tmp_path: Path) -> None:
    corpus = made(tmp_path)
    model = corpus.folder / "step" / "model" / "weights"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    record_export(model.parents[1], ["model"])
    assert verify(corpus.folder) == []
    model.write_bytes(b"Weights")
    assert verify(corpus.folder) == ["step/model/weights: changed since it was written"]
    with pytest.raises(ArtifactError, match="step/model/weights"):
        corpus.intact("step/model/")
    assert corpus.intact("corpus.parquet") == corpus.folder


@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_part_of_an_unfinished_artifact_is_deleted(
    sealed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path in paths:
        write_rows(path, [{"text": "answer" * 100}])
        if not sealed:  # as earlier versions left them: whole if it can be read
            seal_of(path).unlink()
    content = bytearray(paths[0].read_bytes())
    paths[1].write_bytes(content[: len(content) // 2])
    if sealed:
        content[len(content) // 2] ^= 4
        paths[2].write_bytes(content)
    drop_damaged(tmp_path)
    left = [path for path in paths if path.is_file()]
    assert left == ([paths[0]] if sealed else [paths[0], paths[2]])
    assert all(map(is_whole, left)) and str(paths[1]) in capsys.readouterr().out


def test_a_manifest_takes_the_place_of_seals_and_of_a_killed_writers_files(tmp_path: Path) -> None:
    corpus = artifact(tmp_path, "corpus", {})
    write_rows(corpus.folder / "corpus.parquet", [{"a": 1}])
    (corpus.folder / ".corpus.parquet.1.tmp").write_bytes(b"half")
    corpus.finish(started=time.time(), counts={})
    assert [path.name for path in corpus.folder.glob(".*")] == []


def test_a_file_that_changes_before_the_manifest_is_not_vouched_for(tmp_path: Path) -> None:
    corpus = artifact(tmp_path, "corpus", {})
    write_rows(corpus.folder / "corpus.parquet", [{"a": 1}])
    (corpus.folder / "corpus.parquet").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"corpus\.parquet is damaged"):
        corpus.finish(started=time.time(), counts={})
    assert not corpus.done and list(corpus.folder.glob(f".*{SEALED}"))


@pytest.fixture
def other_machine(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts a process that holds a folder as another machine would: its kernel has another name,
    and its flock does not reach this one, as on NFS without a lock daemon."""
    boot, lock = tmp_path / "boot_id", tmp_path / "other.lock"
    boot.write_text("another kernel\n")
    lock.touch()
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> subprocess.Popen[str]:
        (folder / LOCK).touch()
        script = (
            f"mount --bind {boot} /proc/sys/kernel/random/boot_id && "
            f"mount --bind {lock} {folder / LOCK} && hostname elsewhere && "
            'exec "$0" -uc "$1" "$2"'
        )
        command = ["unshare", "--mount", "--uts", "sh", "-c", script]
        process = subprocess.Popen(
            [*command, sys.executable, HOLD, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        if process.stdout.readline() != "writing\n":
            pytest.skip("another kernel's name needs root")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_two_machines_do_not_write_one_artifact_though_flock_does_not_reach(
    tmp_path: Path,
    other_machine: Callable[[Path], subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.1)
    folder = tmp_path / "corpus"
    folder.mkdir()
    other = other_machine(folder)
    with (
        pytest.raises(ArtifactError, match="a process on elsewhere"),
        holding(folder / LOCK, folder, wait=False),
    ):
        pass
    other.communicate("\n")
    with holding(folder / LOCK, folder, wait=False):
        assert json.loads((folder / f"{LOCK}.owner").read_text())["kernel"] == locks.kernel()
    assert [path.name for path in folder.iterdir()] == [LOCK]


def test_a_machine_that_died_is_followed_after_a_minute_without_a_beat(
    tmp_path: Path,
    other_machine: Callable[[Path], subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(locks, "STILL_SECONDS", 1.0)
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.1)
    folder = tmp_path / "corpus"
    folder.mkdir()
    other = other_machine(folder)
    other.kill()
    other.wait()
    os.utime(folder / f"{LOCK}.owner", (time.time() + 10**6,) * 2)  # its clock is ahead
    with holding(folder / LOCK, folder):
        assert json.loads((folder / f"{LOCK}.owner").read_text())["kernel"] == locks.kernel()
    assert "elsewhere is writing" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == [LOCK]


def test_a_writer_that_was_killed_here_is_followed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-uc", HOLD, str(tmp_path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    writer.kill()
    writer.communicate()
    assert (tmp_path / f"{LOCK}.owner").is_file()
    with holding(tmp_path / LOCK, tmp_path):
        pass
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("content", [b"", b"\xff\x00 no lock", b"[]"])
def test_a_lock_of_any_content_locks(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(content)
    with holding(tmp_path / LOCK, tmp_path, wait=False):
        pass
