"""What a threshold is to reach: the most right decisions, equal rates, or a false acceptance rate."""

from __future__ import annotations

import numpy as np

__all__ = ["target_place"]


def target_place(counts, kind, rate):
    """Find the threshold that reaches a target, as the first of the distinct scores that it accepts.

    Parameters
    ----------
    counts : Counts
        False decisions at all thresholds, in whole numbers.
    kind : {"accuracy", "eer", "far"}
        The target.
    rate : float or None
        The false acceptance rate of "far".

    Returns
    -------
    int
        For `threshold_before`.
    """
    accepted, rejected = counts.n_accepted, counts.n_rejected
    if kind == "far":
        # Both sides are the numbers nearest to a fraction, so that 1 of 1,000 is 0.001 and not above it.
        return int(np.argmax(counts.far <= rate))
    if kind == "accuracy":  # the highest of several
        wrong = accepted + rejected
        return len(wrong) - 1 - int(np.argmin(wrong[::-1]))
    # In whole numbers: equal differences of fractions would differ by rounding. Of several, that with fewest errors.
    accepted, rejected = accepted * counts.n_genuine, rejected * counts.n_impostor
    return int(np.lexsort((accepted, accepted + rejected, np.abs(accepted - rejected)))[0])
