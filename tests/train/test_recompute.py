"""As many layers recompute as were set, and losses and gradients stay what they were."""

from typing import Any, ClassVar

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


class Kept(torch.autograd.graph.save_on_cpu):
    """Torch's own, which here also counts what it takes to main memory."""

    sizes: ClassVar[list[int]] = []

    def __init__(self, pin_memory: bool = False) -> None:
        super().__init__(pin_memory)
        keep = self.pack_hook
        self.pack_hook = lambda tensor: (self.sizes.append(tensor.nbytes), keep(tensor))[1]


@pytest.mark.parametrize("kind", ["plain", "lora", "experts"])
def test_inputs_in_main_memory_change_no_bit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.autograd.graph, "save_on_cpu", Kept)
    bf16 = kind == "experts"
    for layers in (1, 2):
        settings = (*KINDS[kind], FULL, f"hardware.recompute_layers={layers}")
        Kept.sizes.clear()
        expected_value, expected = step(built(*settings), ROW, bf16=bf16)
        assert not Kept.sizes
        loss = built(*settings, "hardware.offload_activations=true")
        passes = count_passes(loss)
        value, gradients = step(loss, ROW, bf16=bf16)
        state = ROW.input_ids.numel() * loss.model.config.hidden_size
        assert Kept.sizes == [4 * state] * layers
        assert passes == [2] * layers + [1] * (2 - layers)
        assert value == expected_value
        require_close(gradients, expected, 0)


@pytest.mark.slow
def test_compiled_layers_keep_their_inputs_in_main_memory_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    monkeypatch.setattr(torch.autograd.graph, "save_on_cpu", Kept)
    torch._dynamo.reset()
    Kept.sizes.clear()
    eager = built(*KINDS["plain"], FULL)
    loss = built(*KINDS["plain"], FULL, "hardware.offload_activations=true")
    layers = CompiledLayers(loss.body.layers, WITHOUT_MACHINE_CODE)
    value, gradients = step(loss, ROW, bf16=False)
    assert layers.failure is None
    assert len(Kept.sizes) == 2
    expected_value, expected = step(eager, ROW, bf16=False)
    assert value == pytest.approx(expected_value, rel=1e-6)
    require_close(gradients, expected, 1e-5)


@pytest.mark.parametrize(
    "setting",
    ["hardware.activation_checkpointing=selective", "hardware.activation_checkpointing=none"],
)
def test_inputs_are_moved_under_full_recomputation_alone(setting: str) -> None:
    moves = "hardware.offload_activations=true"
    with pytest.raises(ConfigError, match=r"hardware\.offload_activations=true.*set that to full"):
        compose_config("model=tiny", moves, setting)
    with pytest.raises(ConfigError, match=r"hardware\.recompute_layers=0"):
        compose_config("model=tiny", moves, "hardware.recompute_layers=0")


def test_a_number_of_layers_that_contradicts_the_kind_is_refused() -> None:
    none = "hardware.activation_checkpointing=none"
    with pytest.raises(ConfigError, match=r"hardware\.recompute_layers=3"):
        compose_config("model=tiny", none, "hardware.recompute_layers=3")
    with pytest.raises(ConfigError, match=r"hardware\.recompute_layers must not be negative"):
        compose_config("model=tiny", "hardware.recompute_layers=-1")
