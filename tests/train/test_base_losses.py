"""Losses that ask the base model equal what they are defined as, however they are divided."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_loss import examples, gradients, loss_weights, small_model
from torch import Tensor, nn

from ssd.config.choices import Norm
from ssd.method.packing import packed_rows
from ssd.method.truncation import tempered_probabilities
from ssd.run import Run, lineage
from ssd.train.base_losses import (
    BaseStates,
    SoftTarget,
    soft_cross_entropy,
    tail_cross_entropy,
)
from ssd.train.batches import MicroBatch, collate
from ssd.train.network import CompletionLoss, build

VOCABULARY, WIDTH = 41, 8
TARGET = SoftTarget(temp=1.6, top_k=10, top_p=0.8)
HALVES = {
    "both": TARGET,
    "temperature": replace(TARGET, top_k=None, top_p=1.0),
    "truncation": replace(TARGET, temp=1.0),
}


class Row:
    """Random states of two models at seven positions, four of them with a loss."""

    def __init__(self, *, bias: bool) -> None:
        torch.manual_seed(0)
        self.hidden = (3 * torch.randn(1, 7, WIDTH)).requires_grad_()
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=bias)
        base_head = nn.Linear(WIDTH, VOCABULARY, bias=bias).requires_grad_(False)
        self.base = BaseStates(3 * torch.randn(1, 7, WIDTH), base_head)
        self.labels = torch.tensor([[-100, 3, 17, -100, 40, 8, -100]])
        self.weights = torch.rand(1, 7)
        self.rows = self.labels[0] != -100

    def logits(self) -> Tensor:
        return self.head(self.hidden)[0, self.rows].float()

    def base_logits(self) -> Tensor:
        return self.base.head(self.base.hidden)[0, self.rows]

    def results(self, loss: Tensor) -> list[Tensor]:
        """The loss and its gradients, which are taken away."""
        loss.backward()
        tensors = [self.hidden, *self.head.parameters()]
        found = [tensor.grad for tensor in tensors if tensor.grad is not None]
        for tensor in tensors:
            tensor.grad = None
        return [loss.detach(), *found]


def expected_soft(row: Row, target: SoftTarget) -> Tensor:
    """The weighted loss over whole logits, through autograd."""
    q = tempered_probabilities(row.base_logits(), target.temp, target.top_k, target.top_p)
    logits, labels = row.logits(), row.labels[0, row.rows]
    hard = F.cross_entropy(logits, labels, reduction="none")
    ordinary = torch.tensor([i for i in range(VOCABULARY) if i not in target.special])
    q, logits = q[:, ordinary], logits[:, ordinary]
    q = q / q.sum(-1, keepdim=True)
    soft = -(q * logits.log_softmax(-1)).sum(-1)
    mixed = target.weight * soft + (1 - target.weight) * hard
    return (mixed * row.weights[0, row.rows]).sum()


@pytest.mark.parametrize("chunk", [3, 1000])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "target",
    [*HALVES.values(), replace(TARGET, weight=0.3), replace(TARGET, weight=0.3, special=(5, 9))],
    ids=[*HALVES, "mixed", "without special tokens"],
)
def test_the_soft_loss_equals_full_logits_in_value_and_gradient(
    target: SoftTarget, bias: bool, chunk: int
) -> None:
    row = Row(bias=bias)
    value = soft_cross_entropy(
        row.hidden, row.head, row.labels, row.weights, row.base, target=target, chunk=chunk
    )
    for a, b in zip(row.results(value), row.results(expected_soft(row, target)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_special_tokens_that_are_left_out_get_no_gradient_and_may_be_all_there_is() -> None:
    row = Row(bias=True)
    first = int(row.base_logits()[0].argmax())
    target = replace(TARGET, top_k=1, special=(first, 2))
    loss = soft_cross_entropy(
        row.hidden, row.head, row.labels, row.weights, row.base, target=target
    )
    by_hidden, by_matrix, by_bias = row.results(loss)[1:]
    assert by_bias[[first, 2]].abs().max() == 0
    assert by_matrix[[first, 2]].abs().max() == 0
    (position, *_) = row.rows.nonzero().flatten().tolist()
    assert by_hidden[0, position].abs().max() == 0
    assert by_hidden.abs().max() > 0


def test_ids_without_a_token_are_no_part_of_the_target() -> None:
    row = Row(bias=False)
    unnamed = tuple(row.base_logits().argmax(-1).tolist())
    q = replace(TARGET, unnamed=unnamed).probabilities(row.base_logits())
    assert q[:, list(unnamed)].abs().max() == 0
    torch.testing.assert_close(q.sum(-1), torch.ones(len(q)))


@pytest.mark.parametrize("chunk", [3, 1000])
def test_the_tail_loss_counts_unlikely_tokens_negatively(chunk: int) -> None:
    row = Row(bias=True)
    labels = row.labels[0, row.rows]
    base = row.base_logits().softmax(-1).gather(1, labels[:, None])[:, 0]
    threshold = float(base.median()) + 1e-4  # half of them below it
    value = tail_cross_entropy(
        row.hidden, row.head, row.labels, row.weights, row.base,
        threshold=threshold, weight=0.5, chunk=chunk,
    )  # fmt: skip
    signs = torch.where(base < threshold, -0.5, 1.0)
    assert set(signs.tolist()) == {-0.5, 1.0}
    hard = F.cross_entropy(row.logits(), labels, reduction="none")
    expected = (signs * hard * row.weights[0, row.rows]).sum()
    for a, b in zip(row.results(value), row.results(expected), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def soft_loss(target: SoftTarget, network: nn.Module, base: nn.Module) -> CompletionLoss:
    def kernel(*arguments: Any) -> Tensor:
        return soft_cross_entropy(*arguments, target=target)

    return CompletionLoss(network, kernel, reads_base=True, base=base.requires_grad_(False))


def batch(*, packing: bool = False) -> MicroBatch:
    return collate(examples(), loss_weights(examples(), Norm.token), packing=packing)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_at_temperature_one_without_truncation_the_first_gradient_is_zero(
    precision: torch.dtype,
) -> None:
    def gradient(target: SoftTarget) -> float:
        network = small_model()
        loss = soft_loss(target, network, copy.deepcopy(network))
        with torch.autocast("cpu", precision, enabled=precision is torch.bfloat16):
            loss(batch()).backward()
        return float(gradients(network).norm())

    own = SoftTarget(temp=1.0, top_k=None, top_p=1.0)
    assert gradient(own) < 1e-5 * gradient(replace(own, temp=1.6))


@pytest.mark.parametrize("packing", [True, False])
def test_packing_and_micro_batches_do_not_change_the_soft_loss(packing: bool) -> None:
    torch.manual_seed(3)
    base = small_model()
    whole, parts = (soft_loss(TARGET, changed(base), copy.deepcopy(base)) for _ in range(2))
    expected = whole(batch())
    expected.backward()
    rows, weights = examples(), loss_weights(examples(), Norm.token)
    plan = packed_rows([len(example.token_ids) for example in rows], 22, 1)
    losses = [
        parts(collate([rows[i] for i in row], [weights[i] for i in row], packing=packing))
        for row in plan
    ]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(sum(loss.detach() for loss in losses), expected.detach())
    torch.testing.assert_close(gradients(whole), gradients(parts), atol=1e-6, rtol=1e-4)


def changed(network: nn.Module) -> nn.Module:
    """The network after a step of training, always the same."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return network


DRAWS = 100


def drawn_gradients(network: nn.Module, target: SoftTarget) -> Tensor:
    """(DRAWS, parameters): hard gradients whose labels are drawn from q at fixed contexts."""
    micro_batch = batch()
    loss = CompletionLoss(network)
    marked = micro_batch.labels != -100
    with torch.no_grad():
        logits = network(input_ids=micro_batch.input_ids).logits[marked]
    q = tempered_probabilities(logits, target.temp, target.top_k, target.top_p)
    generator = torch.Generator().manual_seed(7)
    found = []
    for _ in range(DRAWS):
        labels = micro_batch.labels.clone()
        labels[marked] = torch.multinomial(q, 1, generator=generator)[:, 0]
        network.zero_grad()
        loss(replace(micro_batch, labels=labels)).backward()
        found.append(gradients(network))
    return torch.stack(found)


@pytest.mark.parametrize("half", HALVES)
def test_the_mean_hard_gradient_over_many_draws_is_the_soft_one(half: str) -> None:
    network = sharper(small_model())
    base = copy.deepcopy(network)
    drawn = drawn_gradients(network, HALVES[half])
    mean = drawn.mean(0)
    # The mean of D draws is off by V / D in expectation, where V is the variance of one draw.
    noise = float((drawn - mean).square().sum() / (DRAWS - 1) / DRAWS)

    def distance(target: SoftTarget) -> float:
        network.zero_grad()
        soft_loss(target, network, base)(batch()).backward()
        return float((gradients(network) - mean).square().sum()) / noise

    assert distance(HALVES[half]) < 1.5
    for other in HALVES.keys() - {half}:
        assert distance(HALVES[other]) > 5, other


def sharper(network: Any) -> Any:
    """The network with logits that differ more than those of a fresh one."""
    with torch.no_grad():
        network.lm_head.weight *= 6
    return network


def built(run: Run) -> CompletionLoss:
    config = run.config
    folder = lineage.model_folder(run, "base")
    settings = (folder, config.adapter, config.train, lineage.objective(run), config.hardware)
    torch.manual_seed(0)
    return build(*settings, device=torch.device("cpu"))


@pytest.mark.parametrize("name", ["soft", "tail"])
def test_with_adapters_the_first_loss_is_that_of_full_fine_tuning(
    make_run: Callable[..., Run], name: str
) -> None:
    settings = (f"objective={name}", "train.precision=fp32", "sampler.temp=1.5")
    full, adapted = built(make_run(*settings)), built(make_run(*settings, "adapter=lora"))
    assert full.base is not None
    assert adapted.base is None
    torch.testing.assert_close(adapted(batch()), full(batch()), atol=0, rtol=1e-6)


ADAPTED = {
    "with dropout": ("tiny", "adapter=lora", "adapter.dropout=0.3"),
    "experts": ("tiny_moe", "adapter=lora", "adapter.experts=true"),
    "in 4 bits": ("tiny", "adapter=qlora"),
}


@pytest.mark.parametrize("kind", ADAPTED)
def test_the_base_of_an_adapted_network_does_not_learn(
    make_run: Callable[..., Run], kind: str
) -> None:
    model, *adapter = ADAPTED[kind]
    run = make_run("objective=soft", "train.precision=fp32", *adapter, model=model)
    loss = built(run)
    kept: list[Tensor] = []
    kernel = loss.kernel

    def watched(*arguments: Any) -> Tensor:
        kept.append(arguments[-1].hidden.clone())
        return kernel(*arguments)

    loss.kernel = watched
    loss(batch()).backward()
    with torch.no_grad():
        for parameter in loss.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    before, trained = kept[0], loss(batch())
    torch.testing.assert_close(kept[1], before, atol=0, rtol=0)
    trained.backward()
    assert all(p.grad is not None for p in loss.parameters() if p.requires_grad)
