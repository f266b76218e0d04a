import pytest
import torch
from corpora import stored, stored_examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.config.choices import LongSamples, Norm
from ssd.errors import DataError
from ssd.records.samples import Sample
from ssd.train.batches import Example, collate
from ssd.train.data import Steps, step_indices
from ssd.train.examples import make_examples
from ssd.train.objective import WEIGHTS


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
    )


def steps(examples: list[Example], **changes: object) -> Steps:
    settings = {
        "batch_size": 4,
        "micro_batch_tokens": 20,
        "packing": True,
        "norm": Norm.token,
        "seed": 1,
        "max_steps": 5,
    }
    return Steps(stored_examples(examples), **{**settings, **changes})  # type: ignore[arg-type]


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_every_epoch_visits_every_example_once(
    num_examples: int, batch_size: int, seed: int
) -> None:
    num_steps = 3 * num_examples
    order = [
        i for step in range(num_steps) for i in step_indices(num_examples, batch_size, step, seed)
    ]
    for epoch in range(len(order) // num_examples):
        assert sorted(order[epoch * num_examples : (epoch + 1) * num_examples]) == list(
            range(num_examples)
        )


def test_the_order_changes_with_seed_and_epoch() -> None:
    orders = {tuple(step_indices(20, 20, step, seed)) for step in range(3) for seed in range(3)}
    assert len(orders) == 9


def test_labels_are_the_completion_and_nothing_else() -> None:
    batch = collate([example(3, 2), example(1, 1)], [0.5, 0.25], packing=False)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 0, 0, 0]]
    assert batch.labels.tolist() == [[-100, -100, 4, 5, -100], [2, -100, -100, -100, -100]]
    assert batch.weights[batch.labels >= 0].tolist() == [0.5, 0.5, 0.25]
    assert batch.input_ids.dtype == torch.long
    assert batch.lengths is None


def test_a_packed_row_restarts_positions_and_predicts_across_no_border() -> None:
    batch = collate([example(3, 2), example(1, 1)], [0.5, 0.25], packing=True)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 1, 2]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert batch.labels.tolist() == [[-100, -100, 4, 5, -100, 2, -100]]
    assert batch.weights[batch.labels >= 0].tolist() == [0.5, 0.5, 0.25]
    assert batch.lengths == [5, 2]


@pytest.mark.parametrize("norm", list(Norm))
def test_weights_of_a_step_sum_to_one(norm: Norm) -> None:
    examples = [example(2, n) for n in (1, 5, 9)]
    weights = WEIGHTS[norm]([example.num_loss_tokens for example in examples])
    assert sum(
        w * e.num_loss_tokens for w, e in zip(weights, examples, strict=True)
    ) == pytest.approx(1.0)


def test_sample_norm_weighs_samples_alike_and_token_norm_weighs_tokens_alike() -> None:
    by_sample, by_token = (WEIGHTS[norm]([1, 9]) for norm in (Norm.sample, Norm.token))
    assert by_sample[0] * 1 == pytest.approx(by_sample[1] * 9)
    assert by_token[0] == by_token[1]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(("tokens", "world"), [(1, 1), (15, 1), (100, 1), (15, 2), (15, 3), (1, 4)])
def test_every_division_of_a_step_holds_the_same_weighted_tokens(
    packing: bool, tokens: int, world: int
) -> None:
    examples = [example(2, 3 + i, f"p{i}") for i in range(10)]

    def weighted_tokens(packing: bool, tokens: int, world: int) -> list[tuple[int, float]]:
        found = []
        counts = set()
        for rank in range(world):
            settings = {"packing": packing, "micro_batch_tokens": tokens}
            step = steps(examples, **settings, rank=rank, world_size=world).step(2)
            counts.add(len(step.micro_batches))
            for batch in step.micro_batches:
                kept = (batch.labels >= 0) & (batch.weights > 0)
                found += zip(
                    batch.labels[kept].tolist(),
                    [round(weight, 7) for weight in batch.weights[kept].tolist()],
                    strict=True,
                )
        assert len(counts) == 1  # or processes would wait for each other for ever
        return sorted(found)

    assert weighted_tokens(packing, tokens, world) == weighted_tokens(False, 1000, 1)


def test_a_process_without_a_sample_computes_one_that_weighs_nothing() -> None:
    batches = steps([example(2, 3)], batch_size=5, micro_batch_tokens=1, rank=1, world_size=2)
    idle = batches.step(0).micro_batches[-1]
    assert idle.weights.sum() == 0
    assert idle.input_ids.numel() == 5


def test_steps_begin_where_a_resumed_training_stands() -> None:
    examples = [example(2, 3 + i, f"p{i}") for i in range(10)]
    whole = [step.prompt_ids() for step in steps(examples)]
    assert [step.prompt_ids() for step in steps(examples, first=3)] == whole[3:]
    assert len(steps(examples, first=3)) == 2


def test_fill_counts_padding_and_waiting() -> None:
    examples = [example(2, 3), example(2, 8), example(2, 3), example(2, 8)]
    everything = {"batch_size": 4, "micro_batch_tokens": 1000}
    assert steps(examples, **everything).step(0).fill == 1
    assert steps(examples, **everything, packing=False).step(0).fill == 30 / 40
    assert steps(examples, **everything, world_size=2).step(0).fill == 1
    assert steps(examples, **everything, world_size=3).step(0).fill == pytest.approx(30 / 30)
    assert steps(examples, **everything, world_size=4).step(0).fill == 30 / 40


def test_a_long_sample_stops_or_is_counted() -> None:
    samples = [sample(4, 4), sample(2, 2), sample(6, 1)]
    with pytest.raises(
        DataError, match=r"has 8 tokens, train.seq_len is 6.*train.long_samples=skip"
    ):
        make_examples(stored(samples), 6, LongSamples.error, 100)
    examples, counts = make_examples(stored(samples), 6, LongSamples.skip, 100)
    assert len(examples) == 1
    assert counts == {"skipped_long_samples": 2, "truncated_samples": 0}
    examples, counts = make_examples(stored(samples), 6, LongSamples.truncate, 100)
    assert examples.num_loss_tokens.tolist() == [2, 2]
    assert counts == {"skipped_long_samples": 1, "truncated_samples": 1}


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(DataError, match="token id 300, the model knows 259"):
        make_examples(stored([sample(2, 2, top=300)]), 10, LongSamples.error, 259)


def test_nothing_left_is_refused() -> None:
    with pytest.raises(DataError, match=r"no sample fits train.seq_len=3"):
        make_examples(stored([sample(4, 4)]), 3, LongSamples.skip, 100)


def test_samples_with_ids_that_no_token_has_are_counted_and_left_out() -> None:
    samples = [sample(2, 2, top=95), sample(2, 2), sample(3, 1, top=99)]
    examples, counts = make_examples(stored(samples), 10, LongSamples.error, 100, unnamed=(95, 99))
    assert [max(examples[i].token_ids) for i in range(len(examples))] == [5]
    assert counts["skipped_unnamed_ids"] == 2
