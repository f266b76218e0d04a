"""A model's files on another machine."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.errors import ArtifactError
from ssd.generation import model_copies
from ssd.generation.model_copies import at_hand, is_same, listing, read

Fetch = Callable[[Path, int, int], bytes]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "first" / "model"
    (folder / "parts").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(256)) * 40)
    (folder / "parts" / "empty").write_bytes(b"")
    (tmp_path / "blob").write_text("{}")
    (folder / "config.json").symlink_to(tmp_path / "blob")  # as in a hub's cache
    return folder


@pytest.fixture
def gone(model: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, model_copies.Listing, Fetch]:
    """The model as another machine knows it: a name, a listing, and who to ask."""
    monkeypatch.setattr(model_copies, "CHUNK", 1000)
    wanted = listing(model)
    kept = model.with_name("kept")
    model.rename(kept)
    return model, wanted, lambda path, at, size: read(kept / path.relative_to(model), at, size)


def no_fetch(path: Path, offset: int, size: int) -> bytes:
    raise AssertionError(f"{path} was asked for")


def test_the_same_folder_is_used_where_it_lies(model: Path, tmp_path: Path) -> None:
    wanted = listing(model)
    (model / "other").write_text("beside it")
    with at_hand(model, wanted, no_fetch, tmp_path / "copies") as folder:
        assert folder == model


def test_what_is_missing_is_copied_once(gone: tuple, tmp_path: Path) -> None:
    folder, wanted, fetch = gone
    with at_hand(folder, wanted, fetch, tmp_path / "copies") as copy:
        assert copy != folder and listing(copy) == wanted
    with at_hand(folder, wanted, no_fetch, tmp_path / "copies") as again:
        assert again == copy


@pytest.mark.parametrize("name", ["weights", "config.json"])
def test_another_model_of_that_name_is_left_alone_and_not_used(
    gone: tuple, name: str, tmp_path: Path
) -> None:
    folder, wanted, fetch = gone
    shutil.copytree(folder.with_name("kept"), folder)
    data = bytearray((folder / name).read_bytes())
    data[1] ^= 1
    (folder / name).write_bytes(data)
    with at_hand(folder, wanted, fetch, tmp_path / "copies") as copy:
        assert copy != folder and listing(copy) == wanted
    assert (folder / name).read_bytes() == data


def test_a_damaged_or_half_copy_is_made_again(gone: tuple, tmp_path: Path) -> None:
    folder, wanted, fetch = gone
    for damage in (lambda path: path.write_bytes(b"x" * 10240), lambda path: path.unlink()):
        with at_hand(folder, wanted, fetch, tmp_path / "copies") as copy:
            pass
        damage(copy / "weights")
        with at_hand(folder, wanted, fetch, tmp_path / "copies") as copy:
            assert is_same(copy, wanted)


def test_a_copy_that_arrives_damaged_is_refused(gone: tuple, tmp_path: Path) -> None:
    folder, wanted, fetch = gone
    twisted = lambda path, at, size: fetch(path, at, size).replace(b"\x07", b"\x08")  # noqa: E731
    with (
        pytest.raises(ArtifactError, match="differs"),
        at_hand(folder, wanted, twisted, tmp_path / "copies"),
    ):
        pass


def test_of_copies_those_in_use_stay_beside_a_new_one(gone: tuple, tmp_path: Path) -> None:
    folder, wanted, fetch = gone
    copies = tmp_path / "copies"
    others = {name: {name: wanted[name]} for name in ("weights", "config.json")}
    with at_hand(folder, others["weights"], fetch, copies) as used:
        with at_hand(folder, others["config.json"], fetch, copies) as unused:
            pass
        with at_hand(folder, wanted, fetch, copies):
            assert used.is_dir() and not unused.exists()


def test_a_full_disk_is_named_before_anything_is_copied(
    gone: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, wanted, _ = gone
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with (
        pytest.raises(ArtifactError, match="make room"),
        at_hand(folder, wanted, no_fetch, tmp_path / "copies"),
    ):
        pass
