"""Compiled layers against eager ones.

Most tests leave out the last part of the compiler, machine code, which takes seconds a graph here.
"""

import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from corpora import save_random
from runs import compose_config
from test_moe import require_close
from test_trainer import losses, trained
from torch import Tensor
from transformers import AutoModelForCausalLM

from ssd.models.fetch import fetch
from ssd.run import Run, lineage
from ssd.train.attention import check_isolation, document_attention, varlen_attention
from ssd.train.batches import Example, MicroBatch, collate
from ssd.train.compiled import DISABLED, CompiledLayers
from ssd.train.network import CompletionLoss, build

Make = Callable[..., Run]
CPU = torch.device("cpu")
WITHOUT_MACHINE_CODE = "aot_eager_decomp_partition"
COMPILED = "hardware.compile_training=true"
FP32 = ("train.precision=fp32", "train.max_steps=4", "hardware.micro_batch_tokens=40")
LORA = ("adapter=lora", "adapter.dropout=0.1")
KINDS: dict[str, tuple[str, ...]] = {
    "plain": ("train.precision=fp32",),
    "sdpa": ("train.precision=fp32", "hardware.attention=sdpa"),
    "lora": ("train.precision=fp32", *LORA),
    "qlora": ("train.precision=fp32", "adapter=qlora"),
    # In fp32 the compiler knows no grouped products.
    "experts": ("model=tiny_moe",),
}


@pytest.fixture(autouse=True)
def nothing_compiled_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # An engine in this process has turned the compiler off for itself.
    monkeypatch.delenv(DISABLED, raising=False)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def built(*overrides: str, device: torch.device = CPU) -> CompletionLoss:
    config = compose_config("model=tiny", "hardware=cpu", *overrides)
    torch.manual_seed(0)  # adapters are random
    folder = Path(fetch(config.model).path)
    loss = build(
        folder, config.adapter, config.train, config.objective, config.hardware, device=device
    )
    return loss.to(device)


def compiled(*overrides: str) -> tuple[CompletionLoss, CompiledLayers]:
    loss = built(*overrides)
    return loss, CompiledLayers(loss.body.layers, WITHOUT_MACHINE_CODE)


def batch(lengths: list[int], *, packing: bool = True) -> MicroBatch:
    examples = [
        Example(
            prompt_id=str(i), token_ids=[(31 * i + 7 * j) % 256 for j in range(n)], num_prompt=2
        )
        for i, n in enumerate(lengths)
    ]
    return collate(examples, [1 / 50] * len(lengths), packing=packing)


def step(loss: CompletionLoss, row: MicroBatch, *, bf16: bool) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients."""
    loss.zero_grad()
    torch.manual_seed(1)
    with torch.autocast(row.input_ids.device.type, torch.bfloat16, enabled=bf16):
        value = loss(row)
        value.backward()
    found = {n: p.grad.clone() for n, p in loss.named_parameters() if p.grad is not None}
    return value.item(), found


def kept_bytes(loss: CompletionLoss, row: MicroBatch) -> int:
    """What a forward pass keeps for the backward pass."""
    stored: dict[int, int] = {}

    def store(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
        loss(row)
    return sum(stored.values())


def num_graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def require_eager(
    kind: str, recompute: str, *rows: MicroBatch, layers: int | str = "null"
) -> CompletionLoss:
    """Loss and gradients of every row equal the eager ones; returns the compiled network."""
    settings = (
        *KINDS[kind], f"hardware.activation_checkpointing={recompute}",
        f"hardware.recompute_layers={layers}",
    )  # fmt: skip
    loss, layers = compiled(*settings)
    eager, bf16 = built(*settings), kind == "experts"
    for row in rows:
        value, found = step(loss, row, bf16=bf16)
        expected_value, expected = step(eager, row, bf16=bf16)
        assert layers.failure is None
        assert value == pytest.approx(expected_value, rel=2e-4 if bf16 else 1e-6)
        require_close(found, expected, 0.03 if bf16 else 1e-5)
    assert num_graphs() >= 1
    return loss


# Every kind under every recomputation is in a slow test below.
@pytest.mark.parametrize(("kind", "recompute"), [("qlora", "none"), ("experts", "full")])
def test_adapters_and_experts_have_the_eager_gradients(kind: str, recompute: str) -> None:
    require_eager(kind, recompute, batch([20, 33, 11]))


@pytest.mark.slow
def test_every_recomputation_gives_the_eager_gradients_and_keeps_less() -> None:
    row = batch([20, 33, 11])

    def kept(recompute: str, layers: int) -> int:
        torch._dynamo.reset()
        return kept_bytes(require_eager("plain", recompute, row, layers=layers), row)

    nothing, one, both = (kept("full", layers) for layers in (0, 1, 2))
    assert nothing - one == pytest.approx(one - both, rel=0.05)
    assert both < kept("selective", 2) < nothing


@pytest.mark.slow
def test_one_layer_of_two_whose_products_are_kept_saves_half_of_what_both_do() -> None:
    row, kept = batch([20, 33, 11]), []
    for layers in (0, 1, 2):
        torch._dynamo.reset()
        kept.append(kept_bytes(require_eager("plain", "selective", row, layers=layers), row))
    assert kept[0] > kept[1] > kept[2]
    assert kept[0] - kept[1] == pytest.approx(kept[1] - kept[2], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_padded_rows_have_the_eager_gradients_too(kind: str, recompute: str) -> None:
    require_eager(kind, recompute, batch([9, 14]), batch([7, 12], packing=False))


def test_rows_of_any_length_and_number_of_documents_share_one_graph() -> None:
    loss, layers = compiled("train.precision=fp32")
    check_isolation(loss, loss.model.config._attn_implementation, 256, CPU)
    draw = random.Random(0)
    for _ in range(30):
        lengths = [draw.randint(3, 60) for _ in range(draw.randint(1, 8))]
        step(loss, batch(lengths), bf16=False)
    assert layers.failure is None
    assert num_graphs() == 1


def test_a_compiler_that_is_turned_off_counts_as_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DISABLED, "1")
    loss, layers = compiled(*KINDS["plain"])
    assert layers.failure is not None and DISABLED in layers.failure
    _, expected = step(built(*KINDS["plain"]), batch([9, 5]), bf16=False)
    _, gradients = step(loss, batch([9, 5]), bf16=False)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient)


def test_beyond_the_limit_of_graphs_the_eager_layer_goes_on_and_the_failure_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ssd.train.compiled.RECOMPILE_LIMIT", 1)
    loss, layers = compiled("train.precision=fp32")
    step(loss, batch([20, 33]), bf16=False)
    padded = batch([7, 12], packing=False)  # of another graph
    value, found = step(loss, padded, bf16=False)
    assert layers.failure is not None
    assert "recompile" in layers.failure
    assert "\n" not in layers.failure
    expected_value, expected = step(built("train.precision=fp32"), padded, bf16=False)
    assert value == pytest.approx(expected_value, rel=1e-6)
    require_close(found, expected, 1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("documents", [[0, 6, 7, 12], [0, 12]])
def test_attention_as_one_operation_has_the_gradients_of_the_loop(
    documents: list[int], window: int | None
) -> None:
    torch.manual_seed(0)
    ends = torch.tensor(documents, dtype=torch.int32)
    # Laid out as a model hands them over, token by token.
    inputs = [torch.randn(1, 12, n, 8).transpose(1, 2).requires_grad_() for n in (4, 2, 2)]
    looped, _ = varlen_attention(
        torch.nn.Module(), *inputs, None, document_ends=ends, longest_document=12,
        sliding_window=window,
    )  # fmt: skip
    whole = document_attention(*inputs, ends, None, window).transpose(1, 2)
    torch.testing.assert_close(whole, looped)
    torch.library.opcheck(document_attention, (*inputs, ends, None, window))
    grad = torch.randn_like(whole)
    for a, b in zip(
        torch.autograd.grad(whole, inputs, grad), torch.autograd.grad(looped, inputs, grad),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_a_missing_compiler_is_told_in_one_line_and_training_goes_on(
    make_run: Make, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    eager = trained(make_run, "eager", *FP32)
    capfd.readouterr()
    run = trained(make_run, "run", *FP32, "hardware.devices=2", COMPILED)
    output = capfd.readouterr().out
    (line,) = [line for line in output.splitlines() if "not compiled" in line]
    assert "/nowhere/c++" in line
    assert "hardware.compile_training=false" in line
    assert losses(run) == pytest.approx(losses(eager), rel=1e-5)


def test_a_layer_that_the_compiler_does_not_know_is_told_in_one_line(
    make_run: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ("train.precision=fp32", "train.max_steps=2", COMPILED)
    trained(functools.partial(make_run, model="tiny_moe"), "run", *settings)
    captured = capfd.readouterr()
    (line,) = [line for line in captured.out.splitlines() if "not compiled" in line]
    assert "BF16" in line
    assert "Traceback" not in captured.err


def require_eager_training(make_run: Make, *changes: str) -> None:
    """A compiled training learns and exports what an eager one of one process does."""
    eager = trained(make_run, "eager", *FP32)
    run = trained(make_run, "run", *FP32, *changes, COMPILED)
    assert losses(run) == pytest.approx(losses(eager), rel=1e-5)
    expected = AutoModelForCausalLM.from_pretrained(
        lineage.model_folder(eager, "tuned")
    ).state_dict()
    found = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "tuned")).state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-3, rtol=1e-3, msg=key)


@pytest.mark.slow
def test_a_compiled_training_learns_and_exports_what_an_eager_one_does(make_run: Make) -> None:
    require_eager_training(make_run)
    assert num_graphs() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("hardware.activation_checkpointing=full",),
        ("hardware.activation_checkpointing=selective",),
        ("hardware.recompute_layers=1",),
        ("hardware.strategy=ddp",),
    ],
)
def test_two_processes_compiled_learn_what_one_does(
    make_run: Make, capfd: pytest.CaptureFixture[str], changes: tuple[str, ...]
) -> None:
    require_eager_training(make_run, "hardware.devices=2", *changes)
    assert "not compiled" not in capfd.readouterr().out


@pytest.mark.gpu
@pytest.mark.parametrize(
    "recompute", ["none", "selective", "full", "full hardware.recompute_layers=15"]
)
def test_on_a_gpu_compiled_layers_give_the_eager_gradients_with_less_memory(
    recompute: str, tmp_path: Path
) -> None:
    cuda = torch.device("cuda")
    folder = save_random(tmp_path, "HuggingFaceTB/SmolLM2-135M-Instruct")
    settings = (f"model.path={folder}", *f"hardware.activation_checkpointing={recompute}".split())
    rows = [batch([400, 700, 900]).to(cuda), batch([300, 1700]).to(cuda)]
    measured: dict[str, tuple[list[float], dict[str, Tensor], int]] = {}
    for name in ("eager", "compiled"):
        loss = built(*settings, device=cuda)
        layers = CompiledLayers(loss.body.layers) if name == "compiled" else None
        step(loss, rows[0], bf16=True)  # compiles
        torch.cuda.reset_peak_memory_stats()
        steps = [step(loss, row, bf16=True) for row in rows]
        peak = torch.cuda.max_memory_allocated()
        assert layers is None or layers.failure is None
        measured[name] = ([value for value, _ in steps], steps[-1][1], peak)
        del loss, layers, steps
    (eager, expected, more), (values, found, less) = measured["eager"], measured["compiled"]
    assert values == pytest.approx(eager, rel=1e-3)
    require_close(found, expected, 0.05)
    assert less <= 1.05 * more
