import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from ssd.config import Norm
from ssd.train import loss as loss_module
from ssd.train.data import Example, collate, loss_weights
from ssd.train.loss import weighted_cross_entropy
from ssd.train.module import CompletionLoss, learning_rate_factor, parameter_groups


def small_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    return [
        Example(
            prompt_id=str(n),
            token_ids=torch.randint(97, (5 + n,), generator=generator).tolist(),
            num_prompt=5,
        )
        for n in (1, 4, 9, 2)
    ]


def gradients(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_chunked_loss_equals_full_logits_in_value_and_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK", 3)
    model = small_model()
    reference = copy.deepcopy(model)
    batch = collate(examples(), loss_weights(examples(), Norm.token))
    value = CompletionLoss(model)(batch)
    value.backward()

    logits = reference(input_ids=batch["input_ids"]).logits
    expected = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradients(model), gradients(reference), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("norm", list(Norm))
def test_accumulated_micro_batches_give_the_gradient_of_the_whole_step(norm: Norm) -> None:
    whole, parts = small_model(), small_model()
    rows = examples()
    weights = loss_weights(rows, norm)
    CompletionLoss(whole)(collate(rows, weights)).backward()
    for row, weight in zip(rows, weights, strict=True):
        CompletionLoss(parts)(collate([row], [weight])).backward()
    torch.testing.assert_close(gradients(whole), gradients(parts), atol=1e-6, rtol=1e-4)


def test_padding_changes_nothing() -> None:
    model = small_model()
    row = examples()[0]
    alone = CompletionLoss(model)(collate([row], [1.0]))
    padded = collate([row, examples()[2]], [1.0, 0.0])
    torch.testing.assert_close(CompletionLoss(model)(padded), alone)


def test_prompt_tokens_carry_no_loss() -> None:
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    head = nn.Linear(8, 11)
    labels = torch.tensor([[-100, -100, 3, -100]])
    weighted_cross_entropy(hidden, head, labels, torch.ones(1)).backward()
    assert hidden.grad is not None
    assert hidden.grad[0, [0, 1, 3]].abs().sum() == 0
    assert hidden.grad[0, 2].abs().sum() > 0


def test_the_schedule_warms_up_and_ends_at_its_floor() -> None:
    def factors(step: int) -> float:
        return learning_rate_factor(step, warmup_steps=4, max_steps=20, floor=0.2)

    values = [factors(step) for step in range(20)]
    assert values[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert values[-1] == pytest.approx(0.2)
    assert all(a >= b for a, b in itertools.pairwise(values[4:]))


def test_only_matrices_decay() -> None:
    groups = parameter_groups(small_model(), 0.1)
    assert {group["weight_decay"] for group in groups} == {0.1, 0.0}
    assert all(p.ndim >= 2 for p in groups[0]["params"])
    assert all(p.ndim == 1 for p in groups[1]["params"])
