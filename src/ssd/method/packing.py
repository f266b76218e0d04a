"""Which samples of an optimizer step share a forward pass: packed rows, or padded batches.

Pure functions of lengths, so every process plans the same step without talking to the others.
"""

import bisect
import heapq
from collections.abc import Sequence

Rows = list[list[int]]
"""Indices of the samples in each row."""


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> Rows:
    """Rows of at most `capacity` tokens: longest first, each into the fullest row that takes it.

    A sample longer than `capacity` gets a row of its own.
    """
    rows: Rows = []
    rooms: list[tuple[int, int]] = []  # what each row still takes, and the row; ascending
    for index in longest_first(lengths):
        length = lengths[index]
        place = bisect.bisect_left(rooms, (length, 0))  # of equally full rows the first
        if place < len(rooms):
            room, row = rooms.pop(place)
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        bisect.insort(rooms, (room - length, row))
    return rows


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Indices by falling length, equals in their order."""
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])


def packed_rows(lengths: Sequence[int], capacity: int, multiple: int) -> Rows:
    """Rows of at most `capacity` tokens, in a number that `multiple` processes can share, evenly
    long, longest first.

    The fewest rows that best-fit decreasing needs, rounded up; then the smallest capacity at which
    it still needs no more (MULTIFIT: Coffman, Garey and Johnson 1978, with best fit for first fit).
    """
    most = -(-len(best_fit_decreasing(lengths, capacity)) // multiple) * multiple
    low, high = max(-(-sum(lengths) // most), max(lengths)), max(capacity, max(lengths))
    while low < high:
        middle = (low + high) // 2
        if len(best_fit_decreasing(lengths, middle)) <= most:
            high = middle
        else:
            low = middle + 1
    return _fill_up(best_fit_decreasing(lengths, high), lengths, multiple)


def padded_rows(lengths: Sequence[int], capacity: int, multiple: int) -> Rows:
    """Batches of samples of like length, whose padded size stays within `capacity` tokens."""
    rows: Rows = []
    for index in longest_first(lengths):
        if rows and (len(rows[-1]) + 1) * lengths[rows[-1][0]] <= capacity:
            rows[-1].append(index)
        else:
            rows.append([index])
    return _fill_up(rows, lengths, multiple)


def _fill_up(rows: Rows, lengths: Sequence[int], multiple: int) -> Rows:
    """Split rows until `multiple` divides their number; empty rows if no sample is left to move."""
    totals = [sum(lengths[i] for i in row) for row in rows]
    # The longest row that holds two samples or more; of equals the first.
    divisible = [(-totals[i], i) for i, row in enumerate(rows) if len(row) > 1]
    heapq.heapify(divisible)
    while len(rows) % multiple:
        if not divisible:
            rows.append([])
            totals.append(0)
            continue
        _, longest = heapq.heappop(divisible)
        index = rows[longest].pop()
        totals[longest] -= lengths[index]
        if len(rows[longest]) > 1:
            heapq.heappush(divisible, (-totals[longest], longest))
        rows.append([index])
        totals.append(lengths[index])
    return [rows[i] for i in longest_first(totals)]
