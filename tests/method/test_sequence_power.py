"""The power of a distribution over whole answers, against every answer of a small machine."""

import math

import numpy as np
import pytest
from listed_answers import answers, distance, laws, next_token

from ssd.method.sequence_power import effective_size, log_normalisers, resampled, shares


def test_normalisers_are_the_sums_of_powers() -> None:
    logprobs = np.log([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    middle, error = log_normalisers(logprobs, 2.0)
    assert middle == pytest.approx(np.log([0.49 + 0.04 + 0.01, 0.25 + 0.09 + 0.04]))
    assert error == pytest.approx([0, 0], abs=1e-12)


def test_what_is_not_asked_for_is_bounded() -> None:
    probabilities = np.array([0.6, 0.2, 0.1, 0.06, 0.04])
    exact = math.log((probabilities**3).sum())
    for number in range(1, 6):
        top = np.log(probabilities[None, :number])
        (middle,), (error,) = log_normalisers(top, 3.0)
        assert abs(middle - exact) <= error + 1e-12
    (_, (few,)), (_, (more,)) = (
        log_normalisers(np.log(probabilities[None, :number]), 3.0) for number in (1, 3)
    )
    assert more < few / 10


def test_ids_without_a_token_are_in_no_sum_but_keep_their_mass_from_the_rest() -> None:
    top = np.log([[0.5, 0.3, 0.2]])
    middle, error = log_normalisers(top, 2.0, np.array([[True, False, True]]))
    assert middle == pytest.approx([math.log(0.25 + 0.04)])
    assert error == pytest.approx([0], abs=1e-12)


def test_shares_survive_weights_that_no_float_holds() -> None:
    assert shares([-2000.0, -2000.0 + math.log(3)]) == pytest.approx([0.25, 0.75])


def test_effective_sizes_by_hand() -> None:
    assert effective_size(np.full(8, 1 / 8)) == pytest.approx(8)
    assert effective_size(np.array([1.0, 0, 0])) == 1
    assert effective_size(np.array([0.5, 0.25, 0.25])) == pytest.approx(1 / 0.375)


def test_resampling_gives_every_candidate_its_share() -> None:
    own = np.array([0.1, 0.0, 0.65, 0.25])
    uniforms = (np.arange(1000) + 0.5) / 1000
    counts = np.array([np.bincount(resampled(own, 4, u), minlength=4) for u in uniforms])
    assert counts.mean(axis=0) == pytest.approx(4 * own, abs=0.01)
    assert (np.abs(counts - 4 * own) < 1).all()
    alone = np.bincount([int(resampled(own, 1, u)[0]) for u in uniforms], minlength=4)
    assert alone / 1000 == pytest.approx(own, abs=0.002)


ALPHA = 4.0


def weights_of_answers() -> np.ndarray:
    """(A,) the logarithm of the weight of every answer of the machine."""
    steps = [[next_token(answer[:t]) for t in range(len(answer))] for answer in answers()]
    ranked = [np.array([np.sort(np.log(p))[::-1] for p in walk]) for walk in steps]
    return np.array([log_normalisers(logprobs, ALPHA)[0].sum() for logprobs in ranked])


def test_weights_turn_tempered_tokens_into_the_power_of_whole_answers() -> None:
    (power, local), weights = laws(ALPHA), weights_of_answers()
    assert local.sum() == pytest.approx(1)
    exact = local * np.exp(weights)
    assert exact / exact.sum() == pytest.approx(power)
    assert distance(power, local) > 0.2


@pytest.mark.parametrize("weighted", [True, False])
def test_a_choice_among_more_candidates_is_closer_to_the_power_distribution(weighted: bool) -> None:
    (power, local), weights = laws(ALPHA), weights_of_answers()
    rng = np.random.default_rng(0)
    found = {}
    for number in (1, 4, 64):
        drawn = rng.choice(len(local), size=(4000, number), p=local)
        log_weights = weights[drawn] if weighted else np.zeros(drawn.shape)
        chosen = [
            row[resampled(shares(own), 1, rng.random())[0]]
            for row, own in zip(drawn, log_weights, strict=True)
        ]
        found[number] = distance(np.bincount(chosen, minlength=len(local)) / len(chosen), power)
    assert found[1] == pytest.approx(distance(local, power), abs=0.03)
    if weighted:
        assert found[64] < 0.05 < found[4] < found[1] - 0.05
    else:  # tempering tokens is no approximation of it, however many are drawn
        assert found[64] == pytest.approx(found[1], abs=0.03)
