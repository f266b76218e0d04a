import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.artifacts.files import (
    explained,
    read_json,
    read_rows,
    replacing,
    require_space,
    write_json,
    write_rows,
)
from ssd.artifacts.fingerprints import fingerprint
from ssd.artifacts.places import cache_folder, hub_folder
from ssd.artifacts.store import Artifact, artifact, existing, verify
from ssd.config.settings import TruncationConfig
from ssd.errors import FLAWED, REPORTED, ArtifactError

INPUTS = {"temp": 1.6, "truncation": TruncationConfig(top_k=20, top_p=0.8)}


@pytest.fixture
def done(tmp_path: Path) -> Artifact:
    corpus = artifact(tmp_path / "store", "corpus", INPUTS)
    with corpus.writing() as folder:
        write_rows(folder / "corpus.parquet", [{"a": 1}])
        corpus.finish(started=time.time(), counts={"rows": 1})
    return corpus


def test_a_fingerprint_depends_on_values_and_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": [2, None]}) == fingerprint({"b": (2, None), "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": 1.0}) != fingerprint({"a": 1.5})


def test_a_manifest_holds_inputs_counts_hashes_and_versions(done: Artifact) -> None:
    manifest = done.manifest()
    assert manifest["inputs"]["truncation"] == {"top_k": 20, "top_p": 0.8}
    assert manifest["counts"] == {"rows": 1}
    assert set(manifest["files"]) == {"corpus.parquet"}
    assert {"ssd", "python", "torch"} <= set(manifest["libraries"])
    assert manifest["fingerprint"] == done.folder.name


def test_a_folder_without_a_manifest_is_unfinished(tmp_path: Path) -> None:
    begun = artifact(tmp_path, "corpus", INPUTS)
    with begun.writing() as folder:
        write_rows(folder / "corpus.parquet", [{"a": 1}])
    assert not begun.done
    with pytest.raises(ArtifactError, match="is unfinished, run its stage first"):
        begun.manifest()


def test_verify_finds_what_changed(done: Artifact) -> None:
    assert verify(done.folder) == []
    with (done.folder / "corpus.parquet").open("ab") as file:
        file.write(b"x")
    assert verify(done.folder) == ["corpus.parquet: changed since it was written"]
    (done.folder / "corpus.parquet").unlink()
    assert verify(done.folder) == ["corpus.parquet: missing"]
    manifest = read_json(done.folder / "manifest.json")
    write_json(done.folder / "manifest.json", {**manifest, "inputs": {}, "files": {}})
    (fault,) = verify(done.folder)
    assert str(done.folder / "manifest.json") in fault


def test_verify_is_a_command_with_an_exit_code(done: Artifact, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ssd.artifacts", "verify"]
    good = subprocess.run([*command, str(done.folder)], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    (done.folder / "corpus.parquet").unlink()
    bad = subprocess.run([*command, str(done.folder)], capture_output=True, text=True, check=False)
    assert bad.returncode == FLAWED
    absent = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert absent.returncode == REPORTED
    assert absent.stderr.startswith("error: ")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


def test_a_full_disk_is_one_line_and_keeps_what_was_there(small_disk: Path) -> None:
    write_rows(small_disk / "kept.parquet", [{"a": 1}])
    rows = [{"a": os.urandom(1024)} for _ in range(4096)]
    with pytest.raises(
        ArtifactError,
        match=rf"no space left while writing .*: the disk at {small_disk} has .* of 1\.0 MiB free; "
        "free some, or set output_dir=OTHER_FOLDER",
    ):
        write_rows(small_disk / "large.parquet", rows)
    assert [file.name for file in small_disk.glob("[!.]*")] == ["kept.parquet"]
    assert not list(small_disk.glob(".*.tmp"))
    assert read_rows(small_disk / "kept.parquet") == [{"a": 1}]


def test_other_system_errors_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output"), explained(tmp_path):
        raise OSError(errno.EIO, "Input/output error")


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{half")
    with pytest.raises(ArtifactError, match=r"manifest.json is damaged .*delete it and run again"):
        read_json(tmp_path / "manifest.json")


def test_a_second_writer_waits_for_the_first(done: Artifact) -> None:
    program = (
        "import sys, json; from pathlib import Path; from ssd.artifacts.store import Artifact\n"
        "with Artifact('corpus', {}, Path(sys.argv[1])).writing(): print('written')"
    )
    with done.writing():
        command = [sys.executable, "-u", "-c", program, str(done.folder)]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None
        assert waiting.stdout.readline().startswith("waiting: another process is writing")
        assert waiting.poll() is None
    assert waiting.communicate(timeout=60)[0] == "written\n"


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
    rows = [{"text": "a\0b", "ids": [1, 2], "none": None, "share": 0.5}]
    write_rows(tmp_path / "rows.parquet", rows)
    assert read_rows(tmp_path / "rows.parquet") == rows


def test_json_is_readable_by_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "é"})
    assert (tmp_path / "a.json").read_text() == json.dumps(
        {"name": "é"}, indent=2, ensure_ascii=False
    ) + "\n"


def test_an_artifact_keeps_its_fingerprint_in_a_folder_of_any_name(
    done: Artifact, tmp_path: Path
) -> None:
    moved = done.folder.rename(tmp_path / "mine")
    assert existing(moved, ("corpus",), "train.corpus").fingerprint == fingerprint(done.inputs)


def test_what_is_missing_is_counted(small_disk: Path) -> None:
    with pytest.raises(ArtifactError, match=r"a run needs about 3\.0 MiB .* 2\.0 MiB more than"):
        require_space(small_disk, 3 * 2**20, "a run")


@pytest.mark.parametrize(
    ("variable", "folder"), [("SSD_CACHE", cache_folder), ("HF_HOME", hub_folder)]
)
def test_a_cache_that_cannot_be_written_is_named_by_its_own_variable(
    variable: str, folder: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")  # nobody can create a folder below it
    monkeypatch.setenv(variable, f"{tmp_path}/file/cache")
    with pytest.raises(ArtifactError, match=f"set {variable} to a writable folder"):
        write_json(folder() / "hashes.json", {})
    with pytest.raises(ArtifactError, match="set output_dir to a writable folder"):
        write_json(tmp_path / "file" / "out.json", {})


@pytest.mark.parametrize("variable", ["SSD_CACHE", "XDG_CACHE_HOME", "HF_HOME"])
def test_an_empty_variable_counts_as_unset(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSD_CACHE", "XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    unset = cache_folder(), hub_folder()
    monkeypatch.setenv(variable, "")
    assert (cache_folder(), hub_folder()) == unset
