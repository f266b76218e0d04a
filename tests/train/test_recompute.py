"""As many layers recompute as were set, and losses and gradients stay what they were."""

from typing import Any

import pytest
import torch
from runs import compose_config
from test_compiled import KINDS, WITHOUT_MACHINE_CODE, batch, built, step
from test_moe import require_close

from ssd.errors import ConfigError
from ssd.train.compiled import CompiledLayers
from ssd.train.network import CompletionLoss

FULL = "hardware.activation_checkpointing=full"
ROW = batch([20, 33, 11])


def count_passes(loss: CompletionLoss) -> list[int]:
    """How often each decoder layer computes from here on."""
    layers = loss.body.layers
    passes = [0] * len(layers)

    def counting(position: int) -> Any:
        def count(*_: Any) -> None:
            passes[position] += 1

        return count

    for position, layer in enumerate(layers):
        layer.register_forward_pre_hook(counting(position))
    return passes


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_layers_compute_twice_and_nothing_else_changes(kind: str) -> None:
    bf16 = kind == "experts"
    expected_value, expected = step(built(*KINDS[kind]), ROW, bf16=bf16)
    for layers in range(3):
        loss = built(*KINDS[kind], FULL, f"hardware.recompute_layers={layers}")
        passes = count_passes(loss)
        value, gradients = step(loss, ROW, bf16=bf16)
        assert passes == [2] * layers + [1] * (2 - layers)
        assert value == pytest.approx(expected_value, rel=1e-6)
        require_close(gradients, expected, 1e-5)


def test_compiled_layers_compute_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    torch._dynamo.reset()
    loss = built(*KINDS["plain"], FULL, "hardware.recompute_layers=1")
    layers = CompiledLayers(loss.body.layers, WITHOUT_MACHINE_CODE)
    passes = count_passes(loss)
    step(loss, ROW, bf16=False)
    assert layers.failure is None
    assert passes == [2, 1]


def test_a_number_of_layers_that_contradicts_the_kind_is_refused() -> None:
    none = "hardware.activation_checkpointing=none"
    with pytest.raises(ConfigError, match=r"hardware\.recompute_layers=3"):
        compose_config("model=tiny", none, "hardware.recompute_layers=3")
    with pytest.raises(ConfigError, match=r"hardware\.recompute_layers must not be negative"):
        compose_config("model=tiny", "hardware.recompute_layers=-1")
