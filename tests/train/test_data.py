import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.config import LongPolicy, Norm
from ssd.errors import DataError
from ssd.generation import Sample
from ssd.train.data import Example, MicroBatches, collate, loss_weights, make_examples, step_indices


def example(prompt: int, completion: int, name: str = "p") -> Example:
    return Example(
        prompt_id=name, token_ids=list(range(1, prompt + completion + 1)), num_prompt=prompt
    )


def sample(prompt: int, completion: int, top: int = 5) -> Sample:
    return Sample(
        prompt_id="p",
        sample_index=0,
        seed=0,
        prompt_token_ids=[1] * prompt,
        completion_token_ids=[top] * completion,
        text="",
        finish_reason="stop",
        logprob_sum=0.0,
    )


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_every_epoch_visits_every_example_once(
    num_examples: int, batch_size: int, seed: int
) -> None:
    steps = 3 * num_examples
    order = [i for step in range(steps) for i in step_indices(num_examples, batch_size, step, seed)]
    for epoch in range(len(order) // num_examples):
        assert sorted(order[epoch * num_examples : (epoch + 1) * num_examples]) == list(
            range(num_examples)
        )


def test_the_order_changes_with_seed_and_epoch() -> None:
    orders = {tuple(step_indices(20, 20, step, seed)) for step in range(3) for seed in range(3)}
    assert len(orders) == 9


def test_labels_are_the_completion_and_nothing_else() -> None:
    batch = collate([example(3, 2), example(1, 1)], [1.0, 1.0])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [1, 2, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 4, 5, -100], [2, -100, -100, -100, -100]]


@pytest.mark.parametrize("norm", list(Norm))
def test_weights_of_a_step_sum_to_one(norm: Norm) -> None:
    examples = [example(2, n) for n in (1, 5, 9)]
    weights = loss_weights(examples, norm)
    assert sum(
        w * e.num_loss_tokens for w, e in zip(weights, examples, strict=True)
    ) == pytest.approx(1.0)


def test_sample_norm_weighs_samples_alike_and_token_norm_weighs_tokens_alike() -> None:
    examples = [example(2, 1), example(2, 9)]
    by_sample, by_token = loss_weights(examples, Norm.sample), loss_weights(examples, Norm.token)
    assert by_sample[0] * 1 == pytest.approx(by_sample[1] * 9)
    assert by_token[0] == by_token[1]


@pytest.mark.parametrize(("micro", "world"), [(1, 1), (2, 1), (4, 1), (2, 2), (1, 4)])
def test_every_division_of_a_step_holds_the_same_weighted_tokens(micro: int, world: int) -> None:
    examples = [example(2, 3 + i, f"p{i}") for i in range(10)]

    def tokens(micro: int, world: int) -> list[tuple[int, float]]:
        found = []
        for rank in range(world):
            batches = MicroBatches(
                examples,
                batch_size=4,
                micro_batch_size=micro,
                max_steps=5,
                norm=Norm.token,
                seed=1,
                rank=rank,
                world_size=world,
            )
            per_step = 4 // (micro * world)
            assert len(batches) == 5 * per_step
            for index in range(2 * per_step, 3 * per_step):  # the third step
                batch = batches[index]
                for row, weight in zip(batch["labels"], batch["weights"], strict=True):
                    found += [(int(token), round(float(weight), 7)) for token in row[row != -100]]
        return sorted(found)

    assert tokens(micro, world) == tokens(4, 1)


def test_a_long_sample_stops_or_is_counted() -> None:
    samples = [sample(4, 4), sample(2, 2)]
    with pytest.raises(
        DataError, match=r"has 8 tokens, train.seq_len is 6.*train.long_samples=skip"
    ):
        make_examples(samples, 6, LongPolicy.error, 100)
    examples, skipped = make_examples(samples, 6, LongPolicy.skip, 100)
    assert (len(examples), skipped) == (1, 1)


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(DataError, match="token id 300, the model knows 259"):
        make_examples([sample(2, 2, top=300)], 10, LongPolicy.error, 259)


def test_nothing_left_is_refused() -> None:
    with pytest.raises(DataError, match=r"no sample fits train.seq_len=3"):
        make_examples([sample(4, 4)], 3, LongPolicy.skip, 100)


def test_collated_tensors_have_integer_ids() -> None:
    assert collate([example(1, 1)], [1.0])["input_ids"].dtype == torch.long
