"""The scores written a second time, query by query in plain loops, straight from the papers."""

import math


def without_junk(row, junk):
    """The revisited protocol: junk images are removed from the list as if they were not in the database."""
    return [float(gain) for gain, ignored in zip(row, junk, strict=True) if not ignored]


def average_precision(row, n_relevant=None, k=None):
    n_relevant = sum(gain > 0 for gain in row) if n_relevant is None else n_relevant
    if n_relevant == 0:
        return math.nan
    found, total = 0, 0.0
    for rank, gain in enumerate(row, start=1):
        if gain > 0 and (k is None or rank <= k):
            found += 1
            total += found / rank
    return total / (n_relevant if k is None else min(k, n_relevant))


def oxford_average_precision(row, junk):
    """The area as the benchmark counts it: positions from 0, junk subtracted from the positions behind it."""
    positions, n_junk = [], 0
    for position, (gain, ignored) in enumerate(zip(row, junk, strict=True)):
        if ignored:
            n_junk += 1
        elif gain > 0:
            positions.append(position - n_junk)
    if not positions:
        return math.nan
    area = 0.0
    for n_before, position in enumerate(positions):
        left = 1.0 if position == 0 else n_before / position
        right = (n_before + 1) / (position + 1)
        area += (left + right) / 2 / len(positions)
    return area


def first_rank(row):
    return next((rank for rank, gain in enumerate(row, start=1) if gain > 0), math.inf)
