"""Tables over an analysis made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssd.analyse.summary import (
    ALL,
    Estimate,
    base_kinds,
    entropy_at,
    entropy_by_head_mass,
    kind_table,
    means_by_kind,
    sensitivity,
)
from ssd.arms import BASE, TUNED
from ssd.artifacts.files import write_json
from ssd.config.settings import AnalyseConfig
from ssd.method.locks import FORK, LOCK, OTHER
from ssd.records.analysis import (
    FIELDS,
    TEMPS,
    TERMS,
    TOP,
    Analysis,
    Positions,
    ProbeSample,
    positions_file,
    read_analysis,
    write_positions,
    write_probe,
)

SETTINGS = AnalyseConfig(plausible=0.1, lock_top1=0.7)
HEADS = {LOCK: [0.9, 0.05], FORK: [0.4, 0.35], OTHER: [0.5, 0.09]}
SAMPLE = [0, 0, 1, 1, 2, 2]
KINDS = [LOCK, FORK, LOCK, FORK, LOCK, OTHER]


def top_probs(heads: list[list[float]]) -> NDArray[np.float64]:
    """(N, TOP) the given probabilities, then the same small one."""
    return np.array([[*head, *[0.001] * (TOP - len(head))] for head in heads])


def positions(**changed: Any) -> Positions:
    """Six positions of three completions."""
    number = len(SAMPLE)
    grid = np.tile(np.arange(1, len(TEMPS) + 1), (number, 1))
    values: dict[str, Any] = {
        "sample": np.array(SAMPLE), "index": np.array([0, 1] * 3),
        "token_id": np.arange(number), "logprob": np.full(number, -1.0),
        "entropy": np.array([0.1, 1.0, 0.2, 1.2, 0.3, 0.8]),
        "top_ids": np.tile(np.arange(TOP), (number, 1)),
        "top_probs": top_probs([HEADS[kind] for kind in KINDS]),
        "support": np.array([1, 3, 1, 4, 1, 2]), "kept_mass": np.full(number, 0.9),
        **{name: np.full(number, 0.5) for name in TERMS},
        "survivors": grid, "entropy_after": 0.1 * grid,
    }  # fmt: skip
    return Positions(**(values | changed))


@pytest.fixture
def analysis() -> Analysis:
    """A tuned model that is surer at locks and less so at forks."""
    entropy = np.array([0.0, 1.2, 0.2, 1.4, 0.1, 0.8])
    tuned = positions(
        entropy=entropy, kept_mass=np.full(6, 0.95), entropy_after=np.full((6, 10), 0.3)
    )
    samples = [ProbeSample(prompt_id=f"p{n}", sample_index=0, tokens=["a", "b"]) for n in range(3)]
    return Analysis(
        positions={BASE: positions(), TUNED: tuned}, samples=samples, tokens={0: "a", 7: "é"},
    )  # fmt: skip


def test_an_analysis_is_read_as_it_was_written(analysis: Analysis, tmp_path: Path) -> None:
    for model, part in analysis.positions.items():
        write_positions(positions_file(tmp_path, model), part)
    write_probe(tmp_path, analysis.samples, analysis.tokens)
    write_json(tmp_path / "manifest.json", {"inputs": {"models": {BASE: "x", TUNED: "y"}}})
    again = read_analysis(tmp_path)
    assert (again.samples, again.tokens) == (analysis.samples, analysis.tokens)
    for model, one in analysis.positions.items():
        for name in FIELDS:
            found, written = getattr(again.positions[model], name), getattr(one, name)
            np.testing.assert_array_equal(found, written)
            assert found.dtype == (np.int64 if written.dtype.kind == "i" else np.float64)


def test_kinds_are_the_base_models_for_every_model(analysis: Analysis) -> None:
    assert base_kinds(analysis, SETTINGS).tolist() == KINDS
    tuned = positions(top_probs=top_probs([[0.3, 0.3]] * 6))
    analysis.positions[TUNED] = tuned
    assert base_kinds(analysis, SETTINGS).tolist() == KINDS


def test_the_table_by_kind(analysis: Analysis) -> None:
    rng = np.random.default_rng(0)
    rows = kind_table(analysis, SETTINGS, rng)
    assert {kind: row.count for kind, row in rows.items()} == {LOCK: 3, FORK: 2, OTHER: 1, ALL: 6}
    assert rows[LOCK].share.value == 0.5 and rows[ALL].share == Estimate(1, 1, 1)
    assert rows[LOCK].share.low == rows[LOCK].share.high == 0.5  # each completion has one of two
    assert rows[FORK].means[BASE]["entropy"] == pytest.approx(1.1)
    assert rows[LOCK].means[BASE]["tail_mass"] == pytest.approx(1 - 0.95 - 18 * 0.001)
    change = rows[LOCK].changes[TUNED]["entropy"]
    assert change.value == pytest.approx(-0.1)
    assert -0.2 <= change.low < change.value < change.high <= 0
    assert rows[FORK].changes[TUNED]["entropy"].value == pytest.approx(0.2)
    assert rows[ALL].changes[TUNED]["kept_mass"].value == pytest.approx(0.05)
    assert rows[ALL].means[TUNED]["cross_entropy"] == pytest.approx(2.0)
    lone = rows[OTHER].changes[TUNED]["entropy"]  # in one completion only
    assert lone.value == 0 and np.isnan(lone.low) and np.isnan(lone.high)
    assert BASE not in rows[ALL].changes


def test_intervals_are_over_completions_not_over_tokens() -> None:
    """A thousand tokens that agree within each of four completions are four observations."""
    sample = np.repeat(np.arange(4), 250)
    values = np.array([0.0, 0.0, 1.0, 1.0])[sample]
    plain = positions()
    many = {name: np.repeat(getattr(plain, name)[:1], 1000, axis=0) for name in FIELDS}
    base = Positions(**(many | {"sample": sample, "entropy": np.zeros(1000)}))
    tuned = Positions(**(many | {"sample": sample, "entropy": values}))
    analysis = Analysis(positions={BASE: base, TUNED: tuned}, samples=[], tokens={})
    rows = kind_table(analysis, SETTINGS, np.random.default_rng(0))
    change = rows[ALL].changes[TUNED]["entropy"]
    assert change == Estimate(0.5, 0.0, 1.0)


def test_an_empty_kind_has_no_means(analysis: Analysis) -> None:
    rows = kind_table(
        analysis, AnalyseConfig(plausible=0.45, lock_top1=0.99), np.random.default_rng(0)
    )
    assert rows[LOCK].count == 0 and np.isnan(rows[LOCK].means[BASE]["entropy"])
    assert np.isnan(rows[LOCK].changes[TUNED]["entropy"].value)
    assert rows[LOCK].share.value == 0


def test_resamples_that_miss_a_kind_leave_its_mean(analysis: Analysis) -> None:
    """Forks are in two of three completions, so one resample in 27 has none."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows = kind_table(analysis, SETTINGS, rng, num_resamples=1)
        assert rows[FORK].share.value == pytest.approx(2 / 6)
        assert np.isfinite(rows[FORK].changes[TUNED]["entropy"].value)


def test_sensitivity_tries_other_thresholds(analysis: Analysis) -> None:
    by_threshold = {(row.plausible, row.lock_top1): row for row in sensitivity(analysis)}
    assert list(by_threshold) == [(p, t) for p in (0.05, 0.1, 0.2) for t in (0.5, 0.7, 0.9)]
    assert by_threshold[0.05, 0.7].shares == {LOCK: 0, FORK: 1, OTHER: 0}
    assert by_threshold[0.1, 0.5].shares[LOCK] == pytest.approx(4 / 6)
    assert by_threshold[0.1, 0.7].entropy_changes[TUNED][FORK] == pytest.approx(0.2)


def test_mass_by_rank_and_survivors_by_temperature(analysis: Analysis) -> None:
    kinds = base_kinds(analysis, SETTINGS)
    masses = {model: part.top_probs.cumsum(1) for model, part in analysis.positions.items()}
    mass = means_by_kind(kinds, masses)[BASE]
    assert mass[LOCK][:3] == pytest.approx([0.9, 0.95, 0.951])
    assert mass[ALL].shape == (TOP,)
    survivors = {model: part.survivors for model, part in analysis.positions.items()}
    assert means_by_kind(kinds, survivors)[BASE][FORK].tolist() == list(range(1, 11))
    nothing = means_by_kind(np.full(6, LOCK), masses)[BASE][FORK]
    assert np.isnan(nothing).all() and nothing.shape == (TOP,)


def test_between_measured_temperatures_values_are_interpolated() -> None:
    entropies = np.array([[2.0, 4.0, 5.0, *[6.0] * (len(TEMPS) - 3)]])
    for temp, expected in ((0.2, 2), (0.3, 3), (0.6, 5), (0.0, 0), (0.1, 1), (2.0, 6)):
        assert entropy_at(entropies, temp)[0] == pytest.approx(expected)
    assert np.isnan(entropy_at(entropies, 2.1)[0])


def test_entropy_by_the_base_models_head_mass(analysis: Analysis) -> None:
    # head masses: locks 0.968, forks 0.768, other 0.608
    bins = entropy_by_head_mass(analysis, {BASE: 0.3, TUNED: 1.0}, np.random.default_rng(0))
    by_edges = {(head.low, head.high): head for head in bins}
    low, high, empty = by_edges[0.0, 0.8], by_edges[0.95, 0.98], by_edges[0.999, 1.0]
    assert (low.count, high.count, sum(head.count for head in bins)) == (3, 3, 6)
    assert high.entropies[BASE].value == pytest.approx(0.15)
    assert high.entropies[TUNED].value == pytest.approx(0.3)
    assert low.entropies[TUNED].low == pytest.approx(0.3)
    assert empty.count == 0 and np.isnan(empty.entropies[BASE].value)
