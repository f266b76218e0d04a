"""The loss equals the plain computation in value and gradient, however it is divided."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from ssd.config.choices import Attention, Norm, Schedule
from ssd.config.settings import TrainConfig
from ssd.method.packing import packed_rows
from ssd.train.attention import choose_attention
from ssd.train.batches import Example, MicroBatch, collate
from ssd.train.chunks import chunk_size
from ssd.train.loss import weighted_cross_entropy
from ssd.train.module import learning_rate_factor, parameter_groups
from ssd.train.network import CompletionLoss
from ssd.train.objective import WEIGHTS

VOCABULARY = 97


def small_model(attention: str = "auto", *, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
        attn_implementation=choose_attention(Attention(attention), LlamaForCausalLM),
    )
    return LlamaForCausalLM(config)


def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    return [
        Example(
            prompt_id=str(n),
            token_ids=torch.randint(VOCABULARY, (5 + n,), generator=generator).tolist(),
            num_prompt=5,
        )
        for n in (1, 4, 9, 2)
    ]


def loss_weights(rows: list[Example], norm: Norm) -> list[float]:
    return WEIGHTS[norm]([row.num_loss_tokens for row in rows])


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None])


def padded() -> MicroBatch:
    return collate(examples(), loss_weights(examples(), Norm.token), packing=False)


@pytest.mark.parametrize("chunk", [3, 1000])
@pytest.mark.parametrize("tied", [True, False])
def test_chunked_loss_equals_full_logits_in_value_and_gradient(tied: bool, chunk: int) -> None:
    model = small_model(tied=tied)
    reference = copy.deepcopy(model)
    batch = padded()
    hidden = model.model(input_ids=batch.input_ids).last_hidden_state
    value = weighted_cross_entropy(hidden, model.lm_head, batch.labels, batch.weights, chunk)
    value.backward()

    logits = reference(input_ids=batch.input_ids).logits
    expected = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100)
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradients(model), gradients(reference), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_in_bf16_the_chunked_loss_is_as_near_to_fp32_as_full_logits_are(
    tied: bool, autocast: bool
) -> None:
    def computed(*, bf16: bool, chunked: bool) -> tuple[float, Tensor]:
        model = small_model(tied=tied)
        if bf16 and not autocast:
            model = model.bfloat16()
        batch = padded()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16 and autocast):
            if chunked:
                value = CompletionLoss(model)(batch)
            else:
                logits = model(input_ids=batch.input_ids).logits.float()
                value = F.cross_entropy(
                    logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100
                )
        value.backward()
        return float(value.detach()), gradients(model)

    true_value, true_gradient = computed(bf16=False, chunked=False)
    full_value, full_gradient = computed(bf16=True, chunked=False)
    value, gradient = computed(bf16=True, chunked=True)
    assert value == pytest.approx(full_value, rel=1e-3)
    assert value == pytest.approx(true_value, rel=5e-3)
    error, full_error = (
        float((one - true_gradient).norm() / true_gradient.norm())
        for one in (gradient, full_gradient)
    )
    assert error < max(1.1 * full_error, 0.02)


def test_a_head_with_a_bias_and_single_weights_is_exact() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 5, 8, requires_grad=True)
    head = nn.Linear(8, 11)
    labels = torch.randint(11, (2, 5))
    weights = torch.rand(2, 5)
    weighted_cross_entropy(hidden, head, labels, weights, 3).backward()
    found = [hidden.grad, head.weight.grad, head.bias.grad]
    hidden.grad = head.weight.grad = head.bias.grad = None
    losses = F.cross_entropy(head(hidden).flatten(0, 1), labels.flatten(), reduction="none")
    (losses * weights.flatten()).sum().backward()
    for one, other in zip(found, [hidden.grad, head.weight.grad, head.bias.grad], strict=True):
        torch.testing.assert_close(one, other)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *made])
        return result


def test_no_tensor_of_the_head_grows_with_the_row() -> None:
    vocabulary, width, chunk = 2000, 4, 16
    head = nn.Linear(width, vocabulary, bias=False)

    def largest(tokens: int) -> int:
        hidden = torch.randn(1, tokens, width, requires_grad=True)
        labels = torch.randint(vocabulary, (1, tokens))
        with Largest() as mode:
            weighted_cross_entropy(hidden, head, labels, torch.ones(1, tokens), chunk).backward()
        return mode.elements

    assert largest(2000) == largest(100) == chunk * vocabulary
    assert largest(2000) < 2000 * vocabulary / 100


def test_logits_at_once_are_bounded_for_every_vocabulary() -> None:
    for vocabulary in (259, 49_152, 151_936, 201_088):
        assert chunk_size(vocabulary) * vocabulary <= 2**26
        assert chunk_size(vocabulary) >= 64


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("packing", [True, False])
def test_accumulated_micro_batches_give_the_gradient_of_the_whole_step(
    norm: Norm, packing: bool
) -> None:
    whole, parts = small_model(), small_model()
    rows = examples()
    weights = loss_weights(rows, norm)
    CompletionLoss(whole)(collate(rows, weights, packing=packing)).backward()
    for row, weight in zip(rows, weights, strict=True):
        CompletionLoss(parts)(collate([row], [weight], packing=packing)).backward()
    torch.testing.assert_close(gradients(whole), gradients(parts), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("attention", ["varlen", "sdpa", "eager"])
def test_packed_rows_give_the_loss_and_gradient_of_padded_ones(attention: str, norm: Norm) -> None:
    packed, apart = small_model(attention), small_model(attention)
    rows = examples()
    weights = loss_weights(rows, norm)
    loss = sum(
        CompletionLoss(packed)(
            collate([rows[i] for i in row], [weights[i] for i in row], packing=True)
        )
        for row in packed_rows([len(one.token_ids) for one in rows], 22, 1)
    )
    expected = CompletionLoss(apart)(collate(rows, weights, packing=False))
    assert isinstance(loss, Tensor)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(gradients(packed), gradients(apart), atol=1e-6, rtol=1e-4)


def test_padding_changes_nothing() -> None:
    model = small_model()
    row = examples()[0]
    alone = CompletionLoss(model)(collate([row], [1.0], packing=False))
    beside = collate([row, examples()[2]], [1.0, 0.0], packing=False)
    torch.testing.assert_close(CompletionLoss(model)(beside), alone)


def test_prompt_tokens_carry_no_loss() -> None:
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    head = nn.Linear(8, 11)
    labels = torch.tensor([[-100, -100, 3, -100]])
    weighted_cross_entropy(hidden, head, labels, torch.ones(1, 4)).backward()
    assert hidden.grad is not None
    assert hidden.grad[0, [0, 1, 3]].abs().sum() == 0
    assert hidden.grad[0, 2].abs().sum() > 0


def test_a_row_without_loss_tokens_gives_zero_and_a_gradient_of_zero() -> None:
    model = small_model()
    only_prompt = Example(prompt_id="p", token_ids=[1, 2, 3], num_prompt=3)
    loss = CompletionLoss(model)(collate([only_prompt], [0.0], packing=True))
    loss.backward()
    assert float(loss) == 0
    assert gradients(model).abs().sum() == 0


def test_the_schedule_warms_up_and_ends_at_its_floor() -> None:
    def factors(step: int) -> float:
        return learning_rate_factor(step, schedule("cosine"), floor=0.2)

    values = [factors(step) for step in range(20)]
    assert values[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert values[-1] == pytest.approx(0.2)
    assert values[12] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 8 / 15)))
    assert all(a >= b for a, b in itertools.pairwise(values[4:]))


def schedule(name: str, **settings: int) -> TrainConfig:
    return TrainConfig(
        max_steps=20, warmup_steps=4, min_lr=0, global_batch_size=1, seq_len=64,
        checkpoint_every=1, schedule=Schedule(name), **settings,
    )  # fmt: skip


def test_a_line_a_constant_and_a_late_decay_end_where_they_should() -> None:
    def values(train: TrainConfig) -> list[float]:
        return [learning_rate_factor(step, train, floor=0.2) for step in range(20)]

    line = values(schedule("linear"))
    assert line[4] == 1
    assert line[19] == pytest.approx(0.2)
    drops = [a - b for a, b in itertools.pairwise(line[4:])]
    assert drops == pytest.approx([0.8 / 15] * 15)
    assert values(schedule("constant")) == [0.25, 0.5, 0.75] + [1.0] * 17
    late = schedule("wsd", decay_steps=4)
    assert values(late)[3:16] == [1.0] * 13
    assert values(late)[16:] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert late.num_steady_steps == 16
    assert schedule("wsd").num_decay_steps == 2


def test_only_matrices_decay() -> None:
    groups = parameter_groups(small_model(), 0.1)
    assert {group["weight_decay"] for group in groups} == {0.1, 0.0}
    assert all(p.ndim >= 2 for p in groups[0]["params"])
    assert all(p.ndim == 1 for p in groups[1]["params"])
