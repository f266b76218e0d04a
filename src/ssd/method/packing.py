"""Which samples of an optimizer step share a forward pass: packed rows, or padded batches.

Pure functions of lengths, so every process plans the same step without talking to the others.
"""

from collections.abc import Sequence

Rows = list[list[int]]
"""Indices of the samples in each row."""


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> Rows:
    """Rows of at most `capacity` tokens: longest first, each into the fullest row that takes it.

    A sample longer than `capacity` gets a row of its own.
    """
    rows: Rows = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [row for row in range(len(rows)) if room[row] >= lengths[index]]
        if fitting:
            best = min(fitting, key=lambda row: room[row])
            rows[best].append(index)
            room[best] -= lengths[index]
        else:
            rows.append([index])
            room.append(capacity - lengths[index])
    return rows


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
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if rows and (len(rows[-1]) + 1) * lengths[rows[-1][0]] <= capacity:
            rows[-1].append(index)
        else:
            rows.append([index])
    return _fill_up(rows, lengths, multiple)


def _fill_up(rows: Rows, lengths: Sequence[int], multiple: int) -> Rows:
    """Split rows until `multiple` divides their number; empty rows if no sample is left to move."""
    while len(rows) % multiple:
        longest = max(rows, key=lambda row: (len(row) > 1, sum(lengths[i] for i in row)))
        rows.append([longest.pop()] if len(longest) > 1 else [])
    return sorted(rows, key=lambda row: -sum(lengths[i] for i in row))
