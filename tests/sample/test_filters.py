from ssd.records.samples import Sample
from ssd.sample.filters import apply_filters


def sample(text: str, finish_reason: str = "stop") -> Sample:
    return Sample(
        prompt_id="p",
        sample_index=0,
        seed=0,
        prompt_token_ids=[1],
        completion_token_ids=[2],
        text=text,
        finish_reason=finish_reason,
    )


def test_steps_apply_in_order_and_count_what_they_drop() -> None:
    samples = [sample(text) for text in ("", " \n", "pass", "\npass\n\n", "a\nb")]
    kept, dropped = apply_filters(samples, ["empty", "stub"])
    assert [one.text for one in kept] == ["a\nb"]
    assert dropped == {"empty": 2, "stub": 2}
    assert apply_filters(samples, ["stub", "empty"])[1] == {"stub": 2, "empty": 2}


def test_length_capped_answers_are_kept() -> None:
    capped = sample("a\nb", "length")
    assert apply_filters([capped], ["empty", "stub", "shortest_tenth"])[0] == [capped]


def test_the_shortest_tenth_goes_by_characters() -> None:
    samples = [sample("x" * n) for n in range(1, 21)]
    kept, dropped = apply_filters(samples, ["shortest_tenth"])
    assert dropped == {"shortest_tenth": 2}
    assert min(len(one.text) for one in kept) == 3


def test_no_filter_keeps_everything() -> None:
    assert apply_filters([sample("")], []) == ([sample("")], {})
