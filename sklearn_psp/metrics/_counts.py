"""False decisions counted at every threshold, and the threshold that reaches a target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sklearn_psp.exceptions import FewPairsWarning
from sklearn_psp.utils._warnings import warn_user

__all__ = [
    "Counts",
    "add_up",
    "check_thresholds",
    "count_errors",
    "shares",
    "target_place",
    "threshold_before",
    "warn_if_few",
]


@dataclass(frozen=True)
class Counts:
    """False decisions at every threshold that makes a difference, from accepting all to accepting nothing."""

    distinct: np.ndarray  # (n_distinct,), the scores that occur, rising
    n_accepted: np.ndarray  # (n_distinct + 1,), impostors at or above each; the last is 0: a threshold above all
    n_rejected: np.ndarray  # (n_distinct + 1,), genuine ones below each

    @property
    def n_impostor(self) -> np.integer | np.floating:
        """Impostor pairs, or their weight."""
        return self.n_accepted[0]

    @property
    def n_genuine(self) -> np.integer | np.floating:
        """Genuine pairs, or their weight."""
        return self.n_rejected[-1]

    @property
    def far(self) -> np.ndarray:
        """False acceptance rates, falling from 1 to 0."""
        return self.n_accepted / self.n_impostor

    @property
    def frr(self) -> np.ndarray:
        """False rejection rates, rising from 0 to 1."""
        return self.n_rejected / self.n_genuine


def check_thresholds(threshold: npt.ArrayLike) -> np.ndarray:
    """Make thresholds an array of float64 without NaN; infinity is allowed."""
    thresholds = np.asarray(threshold, dtype=np.float64)
    if np.isnan(thresholds).any():
        raise ValueError("threshold must be a number or an array of numbers; got NaN")
    return thresholds


def count_errors(same: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Counts:
    """Count false decisions at all thresholds.

    Parameters
    ----------
    same : ndarray of shape (n_pairs,), bool
        Whether a pair is genuine.
    scores : ndarray of shape (n_pairs,)
        The scores.
    weights : ndarray of shape (n_pairs,) or None, default=None
        Weights of the pairs; None counts each once, in integers.

    Returns
    -------
    Counts
        False acceptances and false rejections.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    genuine, impostor = (
        np.bincount(place[here], weights=None if weights is None else weights[here], minlength=len(distinct))
        for here in (same, ~same)
    )
    return add_up(distinct, genuine, impostor)


def add_up(distinct: np.ndarray, genuine: np.ndarray, impostor: np.ndarray) -> Counts:
    """Count false decisions from the numbers of genuine and impostor pairs at each of the distinct scores, rising."""
    return Counts(
        distinct=distinct,
        n_accepted=np.concatenate([np.cumsum(impostor[::-1])[::-1], [0]]),
        n_rejected=np.concatenate([[0], np.cumsum(genuine)]),
    )


def shares(
    scores: np.ndarray, thresholds: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Give the shares of scores that each threshold accepts and rejects.

    Parameters
    ----------
    scores : ndarray of shape (n_scores,)
        The scores, at least one.
    thresholds : ndarray, float64
        Thresholds, in any shape.
    weights : ndarray of shape (n_scores,) or None, default=None
        Weights of the scores.

    Returns
    -------
    accepted, rejected : ndarray of the shape of `thresholds`, float64
        The shares in [0, 1], at or above and below the thresholds.
    """
    order = np.argsort(scores)
    below = np.arange(len(scores) + 1) if weights is None else np.concatenate([[0.0], np.cumsum(weights[order])])
    place = np.searchsorted(scores[order].astype(np.float64), thresholds, side="left")
    # Each from its own count: 1 - accepted would be a rounded number where the other is exact.
    return (below[-1] - below[place]) / below[-1], below[place] / below[-1]


def threshold_before(distinct: np.ndarray, place: int) -> float:
    """Give a threshold that accepts the scores from a place on.

    All numbers between two neighbouring scores decide the same pairs alike; their middle leaves both sides the same
    room for pairs that were not seen.

    Parameters
    ----------
    distinct : ndarray of shape (n_distinct,), floating
        Scores, rising, each once.
    place : int from 0 to n_distinct
        The first score to be accepted. n_distinct accepts none: the next number above the highest.

    Returns
    -------
    float
        The threshold, a number of the precision of the scores.
    """
    if place == 0:
        return float(distinct[0])
    if place == len(distinct):
        return float(np.nextafter(distinct[-1], distinct.dtype.type(np.inf)))
    low, high = distinct[place - 1], distinct[place]
    middle = low / 2 + high / 2
    # Between neighbouring numbers there is none: the middle would be rounded, maybe to the one to be rejected.
    return float(middle if low < middle else high)


def target_place(counts: Counts, kind: str, rate: float | None) -> int:
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


def warn_if_few(n: int, rate: float, name: str, what: str) -> None:
    """Warn if a rate is below what n comparisons can show.

    Parameters
    ----------
    n : int
        Number of comparisons.
    rate : float in (0, 1]
        The rate that was asked for.
    name, what : str
        Name of the rate, and of what is counted.
    """
    if 1 / n <= rate:
        return
    at_least, to_show = (math.ceil(errors / rate * (1 - 1e-12)) for errors in (1, 3))
    warn_user(
        FewPairsWarning(
            f"{name}={rate:g} cannot be measured with {n:,} {what}: a single one that is accepted is already "
            f"{1 / n:.2g}, so the threshold is set where none is. {at_least:,} are needed for the rate to allow one, "
            f"and {to_show:,} of which none is accepted to say with a confidence of 95% that the rate is not higher "
            "(the rule of three)"
        )
    )
