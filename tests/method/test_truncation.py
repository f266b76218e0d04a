import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

from ssd.method.truncation import tempered_probabilities, truncate_


def reference(
    probabilities: list[float], temp: float, top_k: int | None, top_p: float
) -> list[float]:
    """Token by token, as the paper's appendix A words it."""
    powered = [p ** (1 / temp) for p in probabilities]
    order = sorted(range(len(powered)), key=lambda i: -powered[i])[: top_k or len(powered)]
    total = sum(powered[i] for i in order)
    kept, mass = [], 0.0
    for i in order:
        kept.append(i)
        mass += powered[i] / total
        if mass >= top_p - 1e-9:
            break
    total = sum(powered[i] for i in kept)
    return [powered[i] / total if i in kept else 0.0 for i in range(len(powered))]


@given(
    # Apart by more than rounding, so that which of two is the likelier is never a matter of it.
    st.lists(st.integers(10, 1000), min_size=4, max_size=12, unique=True),
    st.floats(0.3, 3.0),
    st.one_of(st.none(), st.integers(1, 12)),
    st.sampled_from([0.31, 0.57, 0.83, 1.0]),
)
@settings(deadline=None, max_examples=200)
def test_truncation_equals_the_definition(
    weights: list[int], temp: float, top_k: int | None, top_p: float
) -> None:
    probabilities = [w / sum(weights) for w in weights]
    logits = torch.tensor(probabilities, dtype=torch.float64).log()[None]
    expected = torch.tensor(reference(probabilities, temp, top_k, top_p))
    # A token that the float type puts on either side of the top-p edge
    # may fall on either side here too.
    found = tempered_probabilities(logits, temp, top_k, top_p)[0]
    if (found > 0).sum() == (expected > 0).sum():
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    else:
        edge = (
            tempered_probabilities(logits, temp, top_k, 1.0)[0]
            .sort(descending=True)
            .values.cumsum(0)
        )
        assert (edge - top_p).abs().min() < 1e-5


def test_temperatures_compose() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    once = tempered_probabilities(logits, 1.6 * 0.9, None, 1.0)
    twice = tempered_probabilities(
        tempered_probabilities(logits, 1.6, None, 1.0).log(), 0.9, None, 1.0
    )
    torch.testing.assert_close(once, twice)


def test_the_most_likely_token_always_survives() -> None:
    probabilities = tempered_probabilities(torch.tensor([[5.0, 0.0, -1.0]]), 1.0, None, 1e-9)
    assert probabilities.tolist() == [pytest.approx([1.0, 0.0, 0.0])]


def test_tokens_tied_at_the_edge_of_the_top_k_all_survive() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0, 0.0]] * 2)
    logits[1, 4] = 0.5
    kept = truncate_(logits.clone(), 2, 1.0).isfinite()
    assert kept.tolist() == [
        [True, False, True, True, True, False],
        [True, False, True, True, False, False],
    ]
    many = torch.zeros(1, 200)  # more ties than are looked for at once
    assert truncate_(many, 5, 1.0).isfinite().all()


def test_vllms_own_truncation_keeps_the_same_tokens() -> None:
    logits = torch.randn(64, 2_000, generator=torch.Generator().manual_seed(0)).mul(4)
    top_k, top_p = torch.full((64,), 20), torch.full((64,), 0.8)
    ours = truncate_(logits.clone(), 20, 0.8)
    torch.testing.assert_close(ours, apply_top_k_top_p_pytorch(logits.clone(), top_k, top_p))
