from ssd.sample.filters import apply_filters, measure


def filtered(texts: list[str], names: list[str]) -> tuple[list[str], dict[str, int]]:
    kept, dropped = apply_filters(measure(texts), names)
    return [text for text, stays in zip(texts, kept, strict=True) if stays], dropped


def test_steps_apply_in_order_and_count_what_they_drop() -> None:
    texts = ["", " \n", "pass", "\npass\n\n", "a\nb"]
    assert filtered(texts, ["empty", "stub"]) == (["a\nb"], {"empty": 2, "stub": 2})
    assert filtered(texts, ["stub", "empty"])[1] == {"stub": 2, "empty": 2}


def test_the_shortest_tenth_goes_by_characters() -> None:
    kept, dropped = filtered(["x" * n for n in range(1, 21)], ["shortest_tenth"])
    assert dropped == {"shortest_tenth": 2}
    assert min(map(len, kept)) == 3


def test_the_shortest_tenth_is_that_of_what_earlier_steps_left() -> None:
    texts = [*[""] * 20, *("x" * n for n in range(1, 21))]
    assert filtered(texts, ["empty", "shortest_tenth"])[1] == {"empty": 20, "shortest_tenth": 2}
    assert filtered(["", " "], ["empty", "shortest_tenth"]) == (
        [],
        {"empty": 2, "shortest_tenth": 0},
    )


def test_no_filter_keeps_everything() -> None:
    assert filtered([""], []) == ([""], {})
    assert filtered([], ["empty"]) == ([], {"empty": 0})
