"""The stage on the tiny model: what it writes, and what it refuses."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import write_corpus
from runs import compose_config

from ssd.analyse.analysis import analyse, in_short
from ssd.analyse.forward import load_network, read_states
from ssd.analyse.measure import measure
from ssd.analyse.probe import read_probe
from ssd.analyse.summary import kind_table
from ssd.arms import BASE, TUNED
from ssd.artifacts.files import write_json
from ssd.artifacts.fingerprints import fingerprint
from ssd.artifacts.store import verify
from ssd.config.settings import TruncationConfig
from ssd.errors import ArtifactError, DataError
from ssd.models.fetch import fetch
from ssd.records.analysis import TERMS, Analysis, positions_file, read_analysis, read_positions
from ssd.run import Run, evidence, lineage, save_run
from ssd.run.tracking import read_metrics
from ssd.runtime.hardware import resolve
from ssd.train.trainer import train

LENGTHS = [(5, 9), (12, 3), (4, 20), (7, 0), (3, 15), (9, 2)]
SETTINGS = (
    "truncation.top_k=20", "truncation.top_p=0.8", "sampler.temp=1.6", "train.max_steps=3",
    "optimizer.lr=1e-2", "train.warmup_steps=0", "train.min_lr=1e-2", "analyse.max_tokens=12",
    "analyse.num_samples=4", "analyse.live_points=0",
)  # fmt: skip


def new_run(folder: Path, *overrides: str) -> Run:
    always = ("model=tiny", "logger=none", "hardware=cpu", f"output_dir={folder}/out")
    config = compose_config(*always, *SETTINGS, *overrides)
    config = dataclasses.replace(config, hardware=resolve(config.hardware))
    run = Run(folder=folder / "run", config=config, weights=fetch(config.model))
    save_run(run, ["python", "train.py", *overrides])
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A trained and analysed run."""
    made = new_run(tmp_path_factory.mktemp("analysed"))
    write_corpus(made, LENGTHS)
    train(made)
    analyse(made)
    return made


def manifest_of(run: Run) -> dict[str, Any]:
    return evidence.analysis(run, evidence.reported_steps(run)).manifest()


@pytest.fixture(scope="module")
def analysis(run: Run) -> Analysis:
    found = evidence.finished_analysis(run)
    assert found is not None
    return read_analysis(found.folder)


def test_every_model_reads_the_same_positions(run: Run, analysis: Analysis) -> None:
    assert list(analysis.positions) == [BASE, TUNED]
    lengths = [len(sample.tokens) for sample in analysis.samples]
    assert len(lengths) == 4 and all(0 < length <= 12 for length in lengths)
    base, tuned = analysis.positions[BASE], analysis.positions[TUNED]
    for name in ("sample", "index", "token_id"):
        np.testing.assert_array_equal(getattr(base, name), getattr(tuned, name))
    assert np.bincount(base.sample).tolist() == lengths
    assert verify(evidence.analysis(run, evidence.reported_steps(run)).folder) == []


def test_the_numbers_are_those_of_the_models_own_logits(run: Run, analysis: Analysis) -> None:
    probe = read_probe(evidence.probe(run), 4, 12, None)
    for model in (BASE, TUNED):
        network = load_network(run, model, None)
        for number, sample in enumerate(probe):
            one = analysis.positions[model]
            here = one.sample == number
            ids = torch.tensor([*sample.prompt_token_ids, *sample.completion_token_ids])
            with torch.no_grad():
                logits = network(input_ids=ids[None]).logits[0].double()
            logprobs = logits.log_softmax(-1)[len(sample.prompt_token_ids) - 1 : -1]
            taken = logprobs.gather(-1, torch.tensor(sample.completion_token_ids)[:, None])[:, 0]
            np.testing.assert_allclose(one.logprob[here], taken, atol=1e-4)
            entropy = -(logprobs.exp() * logprobs).sum(-1)
            np.testing.assert_allclose(one.entropy[here], entropy, atol=1e-4)
            np.testing.assert_allclose(one.top1[here], logprobs.exp().amax(-1), atol=1e-5)
            assert (one.top_ids[here][:, 0] == logprobs.argmax(-1).numpy()).all()


def test_the_base_model_is_aligned_with_its_own_target_and_the_tuned_one_likes_its_corpus_more(
    run: Run, analysis: Analysis
) -> None:
    base, tuned = analysis.positions[BASE], analysis.positions[TUNED]
    np.testing.assert_allclose(base.alignment, 0, atol=1e-6)
    np.testing.assert_allclose(base.constant, tuned.constant)
    assert (base.support <= 20).all() and (base.support >= 1).all()
    np.testing.assert_allclose(base.support_compression, -np.log(base.kept_mass), atol=1e-9)
    assert tuned.alignment.mean() > 0
    assert tuned.logprob.mean() > base.logprob.mean() + 0.1
    for costs in manifest_of(run)["costs"].values():
        assert costs["identity_error"] < 1e-5


def test_a_model_against_itself_changes_nothing(run: Run) -> None:
    probe = read_probe(evidence.probe(run), 2, 12, None)
    network = load_network(run, BASE, None)
    states, again = (read_states(network, probe, "reading") for _ in range(2))
    settings = {"temp": 1.6, "truncation": TruncationConfig(top_k=20, top_p=0.8),
                "eval_truncation": TruncationConfig(top_k=20), "label": "measuring"}  # fmt: skip
    one, _ = measure(states, states, probe, **settings)  # type: ignore[arg-type]
    other, _ = measure(again, states, probe, **settings)  # type: ignore[arg-type]
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_a_completions_numbers_do_not_depend_on_which_others_are_read(run: Run) -> None:
    larger = read_probe(evidence.probe(run), 4, 12, None)
    smaller = read_probe(evidence.probe(run), 2, 12, None)
    assert len(smaller) == 2 and all(sample in larger for sample in smaller)
    network = load_network(run, BASE, None)
    all_states = read_states(network, larger, "reading").hidden
    lengths = [len(sample.completion_token_ids) for sample in larger]
    by_sample = dict(zip((s.prompt_id for s in larger), all_states.split(lengths), strict=True))
    few = read_states(network, smaller[::-1], "reading").hidden
    assert torch.equal(few, torch.cat([by_sample[s.prompt_id] for s in smaller[::-1]]))


def test_without_answers_the_corpus_is_read_and_empty_completions_are_not(run: Run) -> None:
    assert evidence.probe(run).kind == "corpus"
    everything = read_probe(evidence.probe(run), 100, 12, None)
    assert [sample.prompt_id for sample in everything] == ["p0", "p1", "p2", "p4", "p5"]


def test_means_are_logged_and_told(run: Run, analysis: Analysis) -> None:
    (line,) = read_metrics(run.folder)
    told = manifest_of(run)["counts"]["models"][TUNED]
    assert line["analysis/tuned/kept_mass"] == pytest.approx(told["kept_mass"])
    shares = [line[f"analysis/{kind}/share"] for kind in ("lock", "fork", "other")]
    assert sum(shares) == pytest.approx(1)
    rows = kind_table(analysis, run.config.analyse, np.random.default_rng(0))
    text = in_short(rows, len(analysis.samples))
    assert f"{len(analysis.positions[BASE].token_id)} positions in 4 completions" in text


def test_a_finished_analysis_is_not_made_again(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    analyse(run)
    assert "up to date" in capsys.readouterr().out


def test_an_unfinished_training_is_named(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    write_corpus(run, LENGTHS)
    with pytest.raises(ArtifactError, match=r"holds no finished checkpoint: run ssd train"):
        analyse(run)


def test_a_base_model_is_analysed_alone_and_a_greedy_corpus_has_no_terms(tmp_path: Path) -> None:
    run = new_run(tmp_path, "stages=[analyse]", "sampler.temp=0")
    with pytest.raises(ArtifactError, match="is unfinished: sample first"):
        analyse(run)
    write_corpus(run, LENGTHS)
    analyse(run)
    found = evidence.finished_analysis(run)
    assert found is not None
    one = read_analysis(found.folder).positions
    assert list(one) == [BASE]
    assert (one[BASE].support == 1).all()
    for name in ("kept_mass", *TERMS):
        assert np.isnan(getattr(one[BASE], name)).all()
    told = found.manifest()["counts"]["models"][BASE]
    assert told["kept_mass"] is None and told["entropy"] > 0
    assert "NaN" not in (found.folder / "manifest.json").read_text()


def test_a_corpus_of_a_power_of_whole_answers_has_no_terms_and_cut_nothing(tmp_path: Path) -> None:
    run = new_run(
        tmp_path,
        "stages=[analyse]",
        "experiment=power",
        "sampler.temp=0.25",
        "truncation.top_k=null",
        "truncation.top_p=1",
    )
    write_corpus(run, LENGTHS)
    analyse(run)
    found = evidence.finished_analysis(run)
    assert found is not None and found.inputs["temp"] is None
    (base,) = read_analysis(found.folder).positions.values()
    assert (base.support == 259).all()
    assert all(np.isnan(getattr(base, name)).all() for name in ("kept_mass", *TERMS))
    assert (base.entropy > 0).all()


def test_completions_of_another_tokenizer_are_refused_before_a_model_loads(
    run: Run, tmp_path: Path
) -> None:
    manifest = lineage.corpus(run).manifest()
    del manifest["inputs"]["tokenizer"]
    manifest["fingerprint"] = fingerprint(manifest["inputs"])
    shutil.copy(lineage.corpus(run).folder / "corpus.parquet", tmp_path)
    write_json(tmp_path / "manifest.json", manifest)
    other = new_run(tmp_path, "stages=[analyse]", f"analyse.probe={tmp_path}")
    other = dataclasses.replace(other, weights=dataclasses.replace(other.weights, path="nowhere"))
    with pytest.raises(DataError, match=r"analyse.probe=.* was made with another tokenizer than"):
        analyse(other)


def test_a_probe_too_long_for_the_model_or_without_tokens_is_refused(run: Run) -> None:
    with pytest.raises(DataError, match=r"p2 has 16 tokens and the model takes 15: lower"):
        read_probe(evidence.probe(run), 100, 12, 15)
    empty = new_run(run.folder.parent / "empty", "seed=3")
    write_corpus(empty, [(5, 0)])
    with pytest.raises(DataError, match="holds no completion with a token"):
        read_probe(evidence.probe(empty), 4, 12, None)


def test_an_adapter_is_read_through_the_base_model(make_run: Callable[..., Run]) -> None:
    adapted = make_run(*SETTINGS, "adapter=lora", "adapter.merge=false", "optimizer.lr=1e-2")
    write_corpus(adapted, LENGTHS)
    train(adapted)
    probe = read_probe(evidence.probe(adapted), 4, 12, None)
    assert lineage.adapter_folder(adapted, TUNED) is not None
    network = load_network(adapted, TUNED, None)
    tuned = read_states(network, probe, "reading")
    base = read_states(load_network(adapted, BASE, None), probe, "reading")
    assert not torch.allclose(tuned.hidden, base.hidden, atol=1e-3)
    sample = probe[0]
    ids = torch.tensor([[*sample.prompt_token_ids, *sample.completion_token_ids[:-1]]])
    with torch.no_grad():
        logits = network(input_ids=ids).logits[0, len(sample.prompt_token_ids) - 1 :]
    torch.testing.assert_close(tuned.logits(slice(0, len(logits))), logits, atol=1e-4, rtol=1e-4)


def kill_after_base(run: Run, folder: Path) -> bool:
    """Start the stage and kill it once the base model's file is there; whether it had not ended."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "ssd.analyse", str(run.folder)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not positions_file(folder, BASE).is_file() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.0005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return not (folder / "manifest.json").exists()


def test_a_killed_analysis_goes_on_with_the_next_model(run: Run) -> None:
    folder = evidence.analysis(run, evidence.reported_steps(run)).folder
    whole = {model: read_positions(positions_file(folder, model)) for model in (BASE, TUNED)}
    # The second model takes a tenth of a second, in which a loaded machine may not look.
    assert any(kill_after_base(run, folder) for _ in range(5))
    written = positions_file(folder, BASE).stat().st_mtime_ns
    analyse(run)
    assert positions_file(folder, BASE).stat().st_mtime_ns == written
    for model, one in whole.items():
        again = read_positions(positions_file(folder, model))
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(one, field.name))


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds(run: Run, analysis: Analysis) -> None:
    hardware = resolve(compose_config("model=tiny", "hardware=gpu_1").hardware)
    there = dataclasses.replace(run, config=dataclasses.replace(run.config, hardware=hardware))
    shutil.rmtree(evidence.analysis(run, evidence.reported_steps(run)).folder)
    analyse(there)
    found = evidence.finished_analysis(there)
    assert found is not None
    for model, one in read_analysis(found.folder).positions.items():
        for name in ("logprob", "entropy", "kept_mass"):
            expected = getattr(analysis.positions[model], name)
            np.testing.assert_allclose(getattr(one, name), expected, atol=1e-4)
