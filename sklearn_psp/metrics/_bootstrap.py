"""How far a threshold may be off: thresholds of resampled pairs."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state

from sklearn_psp.metrics._pairs import add_up, threshold_before
from sklearn_psp.metrics._targets import target_place
from sklearn_psp.utils._compat import Interval, validate_params
from sklearn_psp.utils._flags import check_pairs, check_target

__all__ = ["threshold_interval"]


@validate_params(
    {
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def threshold_interval(y_true, scores, target, *, items=None, confidence=0.95, n_resamples=500, random_state=None):
    r"""Confidence interval of the threshold that reaches a target, by the bootstrap.

    The threshold is chosen on resampled pairs, again and again; the interval holds the middle share of what comes out.
    Pairs that share images are not independent, and an interval that takes them for it is too narrow. Where it is
    told which images they are of, images are drawn with replacement, and a pair of the images a and b is there as
    often as both were drawn, :math:`w_{ab} = w_a w_b` [1]_. A pair whose images are in no other is drawn by itself.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        How alike the two of a pair are; higher is more alike. For distances pass `-distances`.
    target : {"accuracy", "eer"} or tuple ("far", rate)
        What the threshold is to reach, as for `threshold_at`.
    items : array-like of shape (n_pairs, 2) or None, default=None
        The two images, or people, of each pair, as numbers or names. None draws pairs, as if none shared any.
    confidence : float in (0, 1), default=0.95
        Share of the resampled thresholds that the interval holds.
    n_resamples : int, default=500
        How often pairs are drawn.
    random_state : int, RandomState instance or None, default=None
        Seed of the drawing.

    Returns
    -------
    low, high : float
        The ends of the interval.

    Raises
    ------
    ValueError
        If there is no pair of one kind, the lengths differ, a score is not a finite number, or the target is unknown.

    See Also
    --------
    threshold_at : The threshold itself.
    rate_interval : How far a rate may be off.

    Notes
    -----
    A threshold for a rate that only a few pairs decide depends on the highest scores that happen to be there. No
    resample goes beyond them, and the interval is then too narrow at its upper end.

    References
    ----------
    .. [1] T. A. B. Snijders and S. P. Borgatti, "Non-parametric standard errors and tests for network statistics",
       Connections 22(2), 1999, for drawing the vertices of a network.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp.metrics import threshold_interval
    >>> rng = np.random.default_rng(0)
    >>> y_true = np.repeat([1, 0], 500)
    >>> scores = np.r_[rng.normal(0.6, 0.1, 500), rng.normal(0.2, 0.1, 500)]
    >>> low, high = threshold_interval(y_true, scores, ("far", 0.01), random_state=0)
    >>> bool(low < 0.2 + 2.33 * 0.1 < high)
    True
    """
    kind, rate = check_target(target)
    same, scores, _ = check_pairs(y_true, scores)
    draw = _drawing(items, len(same), check_random_state(random_state))
    distinct, place = np.unique(scores, return_inverse=True)
    kinds = [np.flatnonzero(here) for here in (same, ~same)]
    thresholds = np.empty(n_resamples)
    for i in range(n_resamples):
        weights = draw()
        while not all(weights[here].any() for here in kinds):  # a rate of nothing is none
            weights = draw()
        genuine, impostor = (np.bincount(place[here], weights=weights[here], minlength=len(distinct)) for here in kinds)
        there = genuine + impostor > 0
        counts = add_up(distinct[there], genuine[there], impostor[there])
        thresholds[i] = threshold_before(counts.distinct, target_place(counts, kind, rate))
    low, high = np.quantile(thresholds, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _drawing(items, n_pairs, random_state):
    """Return a function that draws how often each pair is there."""
    if items is None:
        return lambda: _draw(n_pairs, random_state)
    items = np.asarray(items)
    if items.shape != (n_pairs, 2):
        raise ValueError(f"items must hold the two images of each of the {n_pairs} pairs; got the shape {items.shape}")
    places = np.unique(items, return_inverse=True)[1].reshape(n_pairs, 2)
    n_times = np.bincount(places.ravel())
    twice = places[:, :1] == places[:, 1:]  # an image that is compared with itself
    alone = (n_times[places] == 1 + twice).all(axis=1)
    n_alone = int(alone.sum())
    names, shared = np.unique(places[~alone], return_inverse=True)
    shared = shared.reshape(-1, 2)

    def draw():
        weights = np.empty(n_pairs)
        weights[alone] = _draw(n_alone, random_state)
        drawn = _draw(len(names), random_state)
        weights[~alone] = drawn[shared[:, 0]] * drawn[shared[:, 1]]
        return weights

    return draw


def _draw(n, random_state):
    """Draw n of n with replacement, and count how often each was."""
    return np.bincount(random_state.randint(n, size=n), minlength=n).astype(np.float64) if n else np.empty(0)
