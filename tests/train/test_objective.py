"""The table of objectives: whole, and weights that make a step's loss a mean."""

import pytest

from ssd.config.choices import HeadKernel, Norm
from ssd.train.objective import OBJECTIVES


@pytest.mark.parametrize("norm", Norm)
def test_every_objective_has_a_kernel_for_every_head_and_weighs_a_step_to_one(norm: Norm) -> None:
    objective, counts = OBJECTIVES[norm], [3, 5, 1]
    assert set(objective.kernels) == set(HeadKernel)
    weights = objective.weigh(counts)
    total = sum(count * weight for count, weight in zip(counts, weights, strict=True))
    assert total == pytest.approx(1)
