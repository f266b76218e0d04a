import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.method.packing import best_fit_decreasing, packed_rows, padded_rows

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def test_best_fit_decreasing_fills_the_fullest_row_that_takes_a_sample() -> None:
    # 6, then 5 (no room beside 6), 4 beside 6 (fuller than 5), 3 beside 5, 2 beside 5 + 3.
    assert best_fit_decreasing([2, 6, 3, 5, 4], 10) == [[1, 4], [3, 2, 0]]


def test_a_sample_beyond_the_capacity_gets_a_row_of_its_own() -> None:
    assert best_fit_decreasing([3, 20, 4], 10) == [[1], [2, 0]]


@given(LENGTHS, st.integers(60, 200), st.integers(1, 5))
@settings(deadline=None)
def test_rows_hold_every_sample_once_within_the_capacity(
    lengths: list[int], capacity: int, multiple: int
) -> None:
    for plan in (packed_rows, padded_rows):
        rows = plan(lengths, capacity, multiple)
        assert sorted(itertools.chain(*rows)) == list(range(len(lengths)))
        assert len(rows) % multiple == 0
        for row in rows:
            sizes = [lengths[i] for i in row]
            used = sum(sizes) if plan is packed_rows else len(sizes) * max(sizes, default=0)
            assert used <= capacity
        assert rows == plan(lengths, capacity, multiple)


@given(LENGTHS, st.integers(60, 200), st.integers(1, 5))
@settings(deadline=None)
def test_no_process_gets_an_empty_row_while_another_holds_two_samples(
    lengths: list[int], capacity: int, multiple: int
) -> None:
    for plan in (packed_rows, padded_rows):
        rows = plan(lengths, capacity, multiple)
        if any(not row for row in rows):
            assert all(len(row) <= 1 for row in rows)


def test_rows_are_spread_evenly_over_processes_though_one_would_hold_all() -> None:
    rows = packed_rows([30, 30, 20, 20, 10, 10], 1000, 2)
    assert [sum([30, 30, 20, 20, 10, 10][i] for i in row) for row in rows] == [60, 60]


@given(LENGTHS, st.integers(60, 200))
@settings(deadline=None)
def test_balancing_needs_no_more_rows_than_best_fit_decreasing(
    lengths: list[int], capacity: int
) -> None:
    assert len(packed_rows(lengths, capacity, 1)) <= len(best_fit_decreasing(lengths, capacity))
