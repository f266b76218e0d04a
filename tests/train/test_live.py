"""The decomposition that training logs, and that training does not notice it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import stored_examples, write_corpus
from safetensors.torch import load_file
from test_trainer import LENGTHS
from torch import nn

from ssd.artifacts.names import BASE_TARGET
from ssd.config.settings import AnalyseConfig
from ssd.method.decoding import Decoding
from ssd.method.decomposition import Target, decompose, target
from ssd.records.analysis import TERMS
from ssd.run import Run, lineage
from ssd.run.tracking import read_metrics
from ssd.train import live
from ssd.train.batches import Example
from ssd.train.live import (
    PREFIX,
    choose,
    in_rows,
    joined,
    logit_parts,
    read_target,
    write_target,
)
from ssd.train.loss import IGNORE
from ssd.train.trainer import train

Make = Callable[..., Run]


def trained(make_run: Make, name: str, *settings: str) -> Run:
    root = make_run().folder.parent
    run = make_run(
        "train.max_steps=9", "train.warmup_steps=2", "optimizer.lr=1e-2", "sampler.temp=1.6",
        "truncation=top_k20_top_p80", *settings, f"output_dir={root}/{name}", name=name,
    )  # fmt: skip
    write_corpus(run, LENGTHS)
    train(run)
    return run


def measured(run: Run) -> dict[int, dict[str, float]]:
    """By step, what was measured then."""
    found = {
        line["step"]: {n.removeprefix(PREFIX): v for n, v in line.items() if n.startswith(PREFIX)}
        for line in read_metrics(lineage.checkpoint(run).folder)
    }
    return {step: terms for step, terms in found.items() if terms}


@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_training_logs_the_terms_and_learns_the_same_without_them(
    make_run: Make, kind: str
) -> None:
    adapter = (f"adapter={kind}", "adapter.dropout=0.3", "adapter.merge=false")
    run = trained(make_run, "live", *adapter, "analyse.live_points=3")
    found = measured(run)
    assert list(found) == [0, 3, 6, 9]
    for terms in found.values():
        assert terms["cross_entropy"] == pytest.approx(sum(terms[n] for n in TERMS), abs=1e-5)
        assert terms["support_compression"] >= -math.log(terms["kept_mass"]) - 1e-9  # Jensen
        assert terms["constant"] == pytest.approx(found[0]["constant"], abs=1e-9)
    # The target is the base model itself, tempered on the support: it begins aligned.
    assert found[0]["alignment"] == pytest.approx(0, abs=1e-6)
    assert found[9]["alignment"] > 1e-4
    lines = read_metrics(lineage.checkpoint(run).folder)
    assert [line["step"] for line in lines] == list(range(10))
    assert not any("train/loss" in line for line in lines[:1])
    assert not (lineage.checkpoint(run).folder / BASE_TARGET).exists()

    blind = trained(make_run, "blind", *adapter, "analyse.live_points=0")
    assert measured(blind) == {}
    assert lineage.checkpoint(blind).fingerprint == lineage.checkpoint(run).fingerprint
    weights, expected = (
        load_file(lineage.checkpoint(one).folder / "adapter" / "adapter_model.safetensors")
        for one in (run, blind)
    )
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name


def test_full_fine_tuning_in_bf16_learns_the_same_without_the_terms(make_run: Make) -> None:
    how = ("train.precision=bf16", "train.max_steps=4", "train.packing=false")
    run, blind = (
        trained(make_run, f"{points}", *how, f"analyse.live_points={points}") for points in (20, 0)
    )
    assert list(measured(run)) == [0, 1, 2, 3, 4]
    one, other = (
        load_file(lineage.model_folder(r, "tuned") / "model.safetensors") for r in (run, blind)
    )
    for name, tensor in other.items():
        assert torch.equal(one[name], tensor), name


def test_samples_of_a_greedy_sampler_have_no_target(make_run: Make) -> None:
    run = trained(make_run, "greedy", "sampler.temp=0", "train.max_steps=2")
    assert measured(run) == {}
    assert len(read_metrics(lineage.checkpoint(run).folder)) == 2


def test_samples_of_a_power_of_whole_answers_have_no_target(make_run: Make) -> None:
    run = trained(make_run, "power", "experiment=power", "truncation=none", "sampler.temp=0.25",
                  "train.max_steps=2")  # fmt: skip
    assert measured(run) == {}
    assert len(read_metrics(lineage.checkpoint(run).folder)) == 2


def test_the_target_is_that_of_the_corpus_which_was_named(make_run: Make) -> None:
    other = make_run("sampler.temp=1.3", "truncation=none", name="other")
    write_corpus(other, LENGTHS)
    run = make_run(
        "sampler.temp=0.8",
        "truncation=top_k20_top_p80",
        f"train.corpus={lineage.corpus(other).folder}",
    )
    assert lineage.target(run) == Decoding(1.3, None, 1.0)
    assert lineage.target(make_run("sampler.temp=0.8", "truncation=top_k20_top_p80")) == Decoding(
        0.8, 20, 0.8
    )


def examples(num_prompts: int) -> list[Example]:
    return [
        Example(prompt_id=f"p{i}", token_ids=list(range(30)), num_prompt=10)
        for i in range(num_prompts)
        for _ in range(2)
    ]


def chosen(examples: list[Example], **settings: int) -> list[tuple[str, list[int]]]:
    live = choose(stored_examples(examples), AnalyseConfig(**settings))
    return [(example.prompt_id, example.token_ids.tolist()) for example in live]


def test_live_examples_are_one_completion_of_a_prompt_with_its_prompt_whole() -> None:
    few, more = (chosen(examples(20), live_samples=n, live_tokens=5) for n in (3, 6))
    assert more[:3] == few
    assert len({name for name, _ in more}) == 6
    assert all(ids == list(range(15)) for _, ids in more)
    assert chosen(list(reversed(examples(20))), live_samples=3, live_tokens=5) == few
    assert chosen([Example(prompt_id="p", token_ids=[1, 2], num_prompt=2)]) == []


def test_rows_hold_neighbours_up_to_the_capacity() -> None:
    five = examples(3)[:5]  # of 30 tokens each
    for capacity, sizes in ((0, [1] * 5), (59, [1] * 5), (60, [2, 2, 1]), (1000, [5])):
        rows = in_rows(five, capacity)
        assert [len(row) for row in rows] == sizes
        assert [example for row in rows for example in row] == five
    assert in_rows([], 60) == []


def test_packed_rows_measure_what_single_ones_do(make_run: Make) -> None:
    packed, single = (
        measured(trained(make_run, how, "train.precision=fp32", "train.max_steps=2", setting))
        for how, setting in (("packed", "train.packing=true"), ("single", "train.packing=false"))
    )
    assert list(packed) == [0, 1, 2]
    for step, terms in packed.items():
        assert terms == pytest.approx(single[step], rel=1e-4, abs=1e-5)


def base_logits() -> torch.Tensor:
    return 3 * torch.randn(7, 40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("top_k", "top_p"), [(None, 1.0), (None, 0.8), (20, 0.8)])
def test_a_target_in_parts_and_from_its_file_is_the_target(
    tmp_path: Path, top_k: int | None, top_p: float
) -> None:
    whole = target(base_logits(), 1.6, top_k, top_p)
    parts = [target(part, 1.6, top_k, top_p) for part in base_logits().split(3)]
    write_target(tmp_path / BASE_TARGET, joined(parts), "this")
    stored = read_target(tmp_path / BASE_TARGET, "this")
    assert isinstance(stored, Target)
    logits = base_logits().flip(0)
    for name in (*TERMS, "cross_entropy"):
        expected = getattr(decompose(whole, logits), name)
        torch.testing.assert_close(getattr(decompose(stored, logits), name), expected)
    assert read_target(tmp_path / BASE_TARGET, "another") is None
    assert read_target(tmp_path / "none", "this") is None


def test_logits_come_in_parts_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head: Any = nn.Linear(8, 11)
    hidden = torch.randn(2, 5, 8)
    labels = torch.full((2, 5), IGNORE)
    labels[0, 2:] = labels[1, 1:] = 3
    monkeypatch.setattr(live, "PART_ELEMENTS", 11 * 3)
    parts = list(logit_parts(hidden, head, labels, torch.zeros(2, 5)))
    assert [len(part) for part in parts] == [3, 3, 1]
    torch.testing.assert_close(torch.cat(parts), head(hidden[labels != IGNORE]))
