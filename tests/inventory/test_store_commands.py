"""list, show, verify and prune on stores of real run folders."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_folders import finish_checkpoint, finish_corpus, make_run
from test_finished_store import unpack

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.names import MANIFEST, WEIGHTS
from ssd.artifacts.store import artifact
from ssd.errors import FLAWED, REPORTED, ArtifactError
from ssd.inventory.holdings import DAY, take_inventory
from ssd.inventory.prune import candidates, delete
from ssd.models import Weights
from ssd.run import lineage, load_run
from ssd.run.rounds import of_round


def artifacts(*arguments: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "ssd.artifacts", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def stray(outputs: Path, number: int = 0, *, finished: bool = True) -> str:
    """The fingerprint of an artifact that no run refers to."""
    corpus = artifact(outputs / "store", "corpus", {"stray": number})
    corpus.folder.mkdir(parents=True)
    (corpus.folder / "corpus.parquet").write_bytes(b"x" * 2**20)
    if finished:
        corpus.finish(started=time.time(), counts={})
    return corpus.fingerprint


def test_an_empty_or_missing_store_holds_nothing(tmp_path: Path) -> None:
    assert "0 artifacts" in artifacts("list", "--outputs", tmp_path / "none")
    (tmp_path / "store").mkdir()
    assert "0 artifacts" in artifacts("list", "--outputs", tmp_path)
    assert "no finished artifact" in artifacts("verify", "--outputs", tmp_path)


def test_a_prune_says_what_it_would_free_and_keeps_what_a_run_refers_to(tmp_path: Path) -> None:
    run, outputs = make_run(tmp_path), tmp_path / "outputs"
    finished, begun = stray(outputs), stray(outputs, 1, finished=False)
    prune = ("prune", "--outputs", outputs)
    assert "would free 0.0 MiB in 0" in artifacts(*prune)  # younger than 30 days
    printed = artifacts(*prune, "--older-than", "0d")
    assert "would free 2.0 MiB in 2" in printed and finished in printed and begun in printed
    assert (outputs / "store" / "corpus" / finished).is_dir()
    assert "freed 2.0 MiB in 2" in artifacts(*prune, "--older-than", "0d", "--yes")
    left = {path.name for path in outputs.glob("store/*/*")}
    assert left == {lineage.corpus(run).fingerprint, lineage.checkpoint(run).fingerprint}
    assert not list(outputs.glob("store/*/.*"))


def test_an_unfinished_corpus_of_a_run_is_no_leftover(tmp_path: Path) -> None:
    run = make_run(tmp_path, finished=False)
    lineage.corpus(run).folder.mkdir(parents=True)
    inventory = take_inventory(tmp_path / "outputs")
    assert [each.state for each in inventory.holdings] == ["unfinished"]
    assert candidates(inventory, [], 0.0) == []


def test_what_is_named_is_pruned_though_a_run_refers_to_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    corpus = lineage.corpus(run)
    printed = artifacts("prune", corpus.fingerprint[:8], "--outputs", tmp_path / "outputs", "--yes")
    assert f"referred to by {run.folder}" in printed
    assert not corpus.folder.exists() and lineage.checkpoint(run).done


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    name = stray(outputs, finished=False)
    inventory = take_inventory(outputs)
    begun = inventory.named(name).artifact
    program = (
        "import sys; from pathlib import Path; from ssd.artifacts.store import Artifact\n"
        "with Artifact('corpus', {}, Path(sys.argv[1])).writing(): print('writing'); input()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-uc", program, str(begun.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    ((_, reason),) = delete(candidates(inventory, [], 0.0))
    assert reason is not None and "being written" in reason
    assert begun.folder.is_dir()
    writer.communicate("\n", timeout=60)
    ((_, reason),) = delete(candidates(inventory, [], 0.0))
    assert reason is None and not begun.folder.exists()


def test_a_run_that_cannot_be_read_may_refer_to_anything(tmp_path: Path) -> None:
    run, outputs = make_run(tmp_path), tmp_path / "outputs"
    name = stray(outputs)
    (run.folder / "config.yaml").write_text("sampler: [")
    printed = artifacts("prune", "--older-than", "0d", "--yes", "--outputs", outputs)
    assert f"note: {run.folder} cannot be read" in printed
    assert (outputs / "store" / "corpus" / name).is_dir()
    artifacts("prune", name, "--yes", "--outputs", outputs)
    assert not (outputs / "store" / "corpus" / name).exists()


def test_a_clock_that_has_gone_back_makes_nothing_old(tmp_path: Path) -> None:
    name = stray(tmp_path)
    file = tmp_path / "store" / "corpus" / name / "corpus.parquet"
    os.utime(file, (time.time() + 90 * DAY,) * 2)
    inventory = take_inventory(tmp_path)
    assert inventory.named(name).age_seconds == 0
    assert candidates(inventory, [], DAY) == []


def test_a_moved_store_is_read_where_it_lies(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    moved = (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    folder = moved / run.folder.relative_to(tmp_path / "outputs")
    again = load_run(folder)
    assert lineage.checkpoint(again).done
    assert lineage.checkpoint(again).fingerprint == lineage.checkpoint(run).fingerprint
    inventory = take_inventory(moved)
    assert [each.runs for each in inventory.holdings] == [[str(folder)]] * 2


def test_a_corpus_that_a_moved_run_names_by_its_old_place_is_found(tmp_path: Path) -> None:
    first = make_run(tmp_path)
    corpus = lineage.corpus(first)
    make_run(tmp_path, "second", f"train.corpus={corpus.folder}")
    moved = (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    again = load_run(moved / "main" / "second")
    assert lineage.corpus(again).fingerprint == corpus.fingerprint
    assert take_inventory(moved).unknown == {}


def test_a_store_of_an_earlier_version_is_listed_and_its_changes_are_found(
    tmp_path: Path, tiny_weights: Weights
) -> None:
    unpack(tmp_path / "outputs")
    unlocated = take_inventory(tmp_path / "outputs")
    (folder,) = map(Path, unlocated.unknown)  # the archive does not say where the weights lie
    assert candidates(unlocated, [], 0.0) == []
    write_json(folder / WEIGHTS, tiny_weights)
    inventory = take_inventory(tmp_path / "outputs")
    assert inventory.unknown == {}
    assert {each.state for each in inventory.holdings} == {"finished"}
    assert candidates(inventory, [], 0.0) == []
    # The archive holds no weights.
    printed = artifacts("verify", "--outputs", tmp_path / "outputs", code=FLAWED)
    assert "model.safetensors: missing" in printed
    (checkpoint, *_) = (each for each in inventory.holdings if each.refers_to)
    assert checkpoint.refers_to[0][0] == "corpus"


def test_a_manifest_without_digests_cannot_be_verified_and_is_not_broken(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "corpus" / stray(tmp_path)
    manifest = read_json(folder / MANIFEST)
    write_json(
        folder / MANIFEST,
        {name: manifest[name] for name in manifest if name not in ("files", "digest")},
    )
    assert "cannot be verified" in artifacts("verify", folder)


def test_verify_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    name = stray(tmp_path)
    folder = tmp_path / "store" / "corpus" / name
    (folder / "corpus.parquet").write_bytes(b"y" * 2**20)
    printed = artifacts("verify", name[:6], "--outputs", tmp_path, code=FLAWED)
    assert "corpus.parquet: changed" in printed and f"prune {name}" in printed
    (folder / MANIFEST).write_text("{")
    assert MANIFEST in artifacts("verify", folder, code=FLAWED)
    assert [each.state for each in take_inventory(tmp_path).holdings] == ["damaged"]


def test_names_that_fit_none_or_several_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    outputs = tmp_path / "outputs"
    assert "list shows all" in artifacts("show", "zz", "--outputs", outputs, code=REPORTED)
    with pytest.raises(ArtifactError, match="2 artifacts"):
        take_inventory(outputs).named("")
    shown = artifacts(
        "show",
        lineage.checkpoint(load_run(outputs / "main" / "first")).folder,
        "--outputs",
        outputs,
    )
    assert "made from   corpus" in shown and f"run         {outputs}" in shown


def test_a_store_of_a_later_layout_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "corpus" / stray(tmp_path)
    manifest = read_json(folder / MANIFEST)
    del manifest["digest"]
    write_json(folder / MANIFEST, manifest | {"version": 2})
    printed = artifacts("verify", folder, code=FLAWED)
    assert "layout 2" in printed and "reads 1" in printed


def test_a_killed_prune_is_finished_by_the_next(tmp_path: Path) -> None:
    begun = tmp_path / "store" / "corpus" / f".{stray(tmp_path)}.pruned"
    shutil.move(begun.with_name(begun.name[1:-7]), begun)
    assert take_inventory(tmp_path).holdings == []
    artifacts("prune", "--yes", "--outputs", tmp_path)
    assert not begun.exists()


def test_a_later_rounds_artifacts_refer_to_the_run_and_to_what_drew_them(tmp_path: Path) -> None:
    first = make_run(tmp_path, "rounds", "rounds=2")
    second = of_round(first, 2)
    finish_corpus(second)
    finish_checkpoint(second)
    inventory = take_inventory(tmp_path / "outputs")
    assert {tuple(each.runs) for each in inventory.holdings} == {(str(first.folder),)}
    corpus = inventory.named(lineage.corpus(second).fingerprint)
    assert ("checkpoint", lineage.checkpoint(first).fingerprint) in corpus.refers_to
    assert candidates(inventory, [], 0.0) == []
