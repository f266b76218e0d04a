"""The table of objectives: whole, and weights that make a step's loss a mean."""

import pytest

from ssd.config.choices import HeadKernel, Norm, ObjectiveType
from ssd.config.settings import ObjectiveConfig
from ssd.train.objective import OBJECTIVES, WEIGHTS


@pytest.mark.parametrize("name", ObjectiveType)
def test_every_objective_has_a_kernel_and_says_alike_whether_it_reads_the_base(
    name: ObjectiveType,
) -> None:
    objective = OBJECTIVES[name]
    assert HeadKernel.chunked in objective.kernels
    assert objective.reads_base == ObjectiveConfig(type=name).reads_base
    # The configuration refuses every other head for objectives that read the base model.
    assert objective.reads_base or set(objective.kernels) == set(HeadKernel)


@pytest.mark.parametrize("norm", Norm)
def test_every_norm_weighs_a_step_to_one(norm: Norm) -> None:
    counts = [3, 5, 1]
    weights = WEIGHTS[norm](counts)
    total = sum(count * weight for count, weight in zip(counts, weights, strict=True))
    assert total == pytest.approx(1)
