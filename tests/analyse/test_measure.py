"""One distribution worked out by hand."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssd.analyse.forward import States
from ssd.analyse.measure import after_truncation, candidates, measure, support
from ssd.config.settings import TruncationConfig
from ssd.method.truncation import tempered_probabilities
from ssd.records.analysis import TEMPS, TOP
from ssd.records.samples import Sample

BASE_PROBS = [0.5, 0.3, 0.15] + [0.05 / 21] * 21
TUNED_PROBS = [0.7, 0.2, 0.09] + [0.01 / 21] * 21


def states(*rows: list[float]) -> States:
    """States whose logits are the log of the given probabilities."""
    hidden = torch.tensor(rows).log()
    return States(hidden, torch.eye(hidden.shape[1]), None)


def sample(token_ids: list[int]) -> Sample:
    return Sample(
        prompt_id="p", sample_index=0, seed=0, prompt_token_ids=[1],
        completion_token_ids=token_ids, text="", finish_reason="stop",
    )  # fmt: skip


def test_a_distribution_worked_out_by_hand() -> None:
    """T_train 1 and top-p 0.75 keep two tokens, q = (5/8, 3/8); the tuned model has 0.9 of its mass
    there, 7/9 and 2/9 of it on each."""
    one, error = measure(
        states(TUNED_PROBS, TUNED_PROBS), states(BASE_PROBS, BASE_PROBS), [sample([0, 2])],
        temp=1.0, truncation=TruncationConfig(top_p=0.75),
        eval_truncation=TruncationConfig(top_k=3, top_p=0.95), label="measuring",
    )  # fmt: skip
    q, p = np.array([5 / 8, 3 / 8]), np.array([7 / 9, 2 / 9])
    entropy = -sum(value * math.log(value) for value in TUNED_PROBS)
    assert one.token_id.tolist() == [0, 2] and one.index.tolist() == [0, 1]
    assert one.logprob == pytest.approx(np.log([0.7, 0.09]), abs=1e-6)
    assert one.entropy == pytest.approx([entropy] * 2, abs=1e-6)
    assert one.top_ids.shape == (2, TOP) and one.top_ids[0, :3].tolist() == [0, 1, 2]
    assert one.tail_mass == pytest.approx([4 * 0.01 / 21] * 2, abs=1e-6)
    assert one.support.tolist() == [2, 2]
    assert one.kept_mass == pytest.approx([0.9] * 2, abs=1e-6)
    assert one.support_compression == pytest.approx([-math.log(0.9)] * 2, abs=1e-6)
    assert one.reshaping == pytest.approx([0, 0], abs=1e-9)  # T = 1
    assert one.alignment == pytest.approx([(q * np.log(q / p)).sum()] * 2, abs=1e-6)
    assert one.constant == pytest.approx([-(q * np.log(q)).sum()] * 2, abs=1e-6)
    assert one.cross_entropy == pytest.approx([-(q * np.log(0.9 * p)).sum()] * 2, abs=1e-6)
    assert error < 1e-9
    # Of the three, 0.7, 0.2 and 0.09, top-p 0.95 leaves all at temperature 2 and one at 0.2.
    counts = dict(zip(TEMPS, one.survivors[0], strict=True))
    assert counts[2.0] == 3 and counts[0.2] == 1
    assert one.entropy_after[0][0] == 0
    kept = np.array([0.7, 0.2, 0.09]) ** 0.5
    kept = kept / kept.sum()
    assert one.entropy_after[0][-1] == pytest.approx(-(kept * np.log(kept)).sum(), abs=1e-6)


def test_parts_of_positions_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(11, 8, generator=generator),
        torch.randn(40, 8, generator=generator),
    )
    one = States(hidden, weight, torch.randn(40, generator=generator))
    settings = {"temp": 1.3, "truncation": TruncationConfig(top_k=10, top_p=0.8),
                "eval_truncation": TruncationConfig(top_p=0.9), "label": "measuring"}  # fmt: skip
    samples = [sample([1, 2, 3, 4, 5]), sample([6, 7, 8, 9, 10, 11])]
    whole, _ = measure(one, one, samples, **settings)  # type: ignore[arg-type]
    monkeypatch.setattr("ssd.analyse.measure.LOGITS_AT_ONCE", 3 * 40)
    parts, _ = measure(one, one, samples, **settings)  # type: ignore[arg-type]
    for name in ("entropy", "top_probs", "support", "survivors", "entropy_after", "alignment"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-5)


@pytest.mark.parametrize("top_p", [0.8, 1.0])
def test_what_top_k_leaves_is_all_that_truncation_needs(top_p: float) -> None:
    logits = torch.randn(50, 200, generator=torch.Generator().manual_seed(1))
    logits[:, 7] = logits[:, 9] = logits.topk(5).values[:, -1]  # ties at the edge of top-k
    truncation = TruncationConfig(top_k=5, top_p=top_p)
    assert candidates(logits, 5).shape[1] in (6, 7)
    found = after_truncation(logits, truncation)
    for number, temp in enumerate(TEMPS):
        whole = tempered_probabilities(logits, temp, 5, top_p)
        assert torch.equal(found["survivors"][:, number], (whole > 0).sum(-1).int())
        entropy = torch.special.entr(whole).sum(-1)
        torch.testing.assert_close(found["entropy_after"][:, number], entropy)
    assert torch.equal(
        support(logits, 1.6, truncation),
        (tempered_probabilities(logits, 1.6, 5, top_p) > 0).sum(-1).int(),
    )
    assert (support(logits, 0, truncation) == 1).all()


def test_memory_does_not_grow_with_the_number_of_positions() -> None:
    # In a process of its own, whose peak is its own: a vocabulary as large as Qwen's, then five
    # times as many positions. What was kept part by part took 1.1 GiB more.
    program = """
import resource, torch
from ssd.analyse.forward import States
from ssd.analyse.measure import LOGITS_AT_ONCE, measure
from ssd.config.settings import TruncationConfig
from test_measure import sample
cut = TruncationConfig(top_k=20, top_p=0.8)
weight = torch.randn(151_936, 4, generator=torch.Generator().manual_seed(0))
for num_parts in (5, 25):
    count = num_parts * (LOGITS_AT_ONCE // len(weight))
    one = States(torch.ones(count, 4), weight, None)
    samples = [sample([1] * count)]
    measure(one, one, samples, temp=1.6, truncation=cut, eval_truncation=cut, label="measuring")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    few, many = (int(kib) / 2**20 for kib in done.stdout.split())
    assert many - few < 0.3


def test_ids_without_a_token_survive_nowhere() -> None:
    hidden = 4 * torch.randn(3, 40, generator=torch.Generator().manual_seed(5))
    model = States(hidden, torch.eye(40), None)
    positions, error = measure(
        model, model, [sample([1, 2, 3])], temp=1.6, truncation=TruncationConfig(),
        eval_truncation=TruncationConfig(), label="measuring", unnamed=torch.arange(30, 40),
    )  # fmt: skip
    assert error < 1e-9
    assert positions.support.tolist() == [30] * 3
    assert positions.survivors.max() <= 30
    kept = hidden.softmax(-1)[:, :30].sum(-1)
    assert positions.kept_mass.tolist() == pytest.approx(kept.tolist(), rel=1e-5)
    assert positions.alignment.tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    whole = hidden.log_softmax(-1)
    assert positions.logprob.tolist() == pytest.approx(
        [float(whole[row, token]) for row, token in enumerate([1, 2, 3])], rel=1e-5
    )
