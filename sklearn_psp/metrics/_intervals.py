"""Confidence intervals of error rates, of all pairs and of groups, and of thresholds."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import beta
from sklearn.utils import check_random_state

from sklearn_psp.metrics._counts import add_up, check_thresholds, target_place, threshold_before
from sklearn_psp.utils._compat import Interval, validate_params
from sklearn_psp.utils._flags import check_pairs, check_target

__all__ = ["group_error_rates", "rate_interval", "threshold_interval"]


@validate_params({"confidence": [Interval(Real, 0, 1, closed="neither")]}, prefer_skip_nested_validation=True)
def rate_interval(n_errors: npt.ArrayLike, n: npt.ArrayLike, *, confidence: float = 0.95) -> tuple[Any, Any]:
    r"""Confidence interval of a rate of errors, after Clopper and Pearson.

    For k errors in n independent comparisons and :math:`\alpha = 1 - confidence`, with :math:`B_q(a, b)` the
    q-quantile of the beta distribution [1]_

    .. math:: \left[ B_{\alpha/2}(k, n - k + 1), \; B_{1-\alpha/2}(k + 1, n - k) \right]

    and 0 below for k = 0, 1 above for k = n. It covers the true rate at least as often as it says. Pairs that share
    people or images are not independent, and the interval is then too narrow: count people, not pairs, or draw
    people with replacement.

    Parameters
    ----------
    n_errors : int or array-like of int
        Number of errors.
    n : int >= 1 or array-like of int
        Number of comparisons that could have been errors.
    confidence : float in (0, 1), default=0.95
        Least probability that the interval covers the true rate.

    Returns
    -------
    low, high : float or ndarray, float64
        The ends of the interval.

    Raises
    ------
    ValueError
        If the numbers are not integers, or there are more errors than comparisons.

    Notes
    -----
    Without an error the one-sided limit at 95% is :math:`1 - 0.05^{1/n} \approx 3 / n`, the rule of three [2]_. The
    interval here leaves 2.5% on either side, and gives :math:`1 - 0.025^{1/n} \approx 3.7 / n`.

    References
    ----------
    .. [1] C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
       binomial", Biometrika 26(4), 1934.
    .. [2] ISO/IEC 19795-1:2021, "Biometric performance testing and reporting, part 1: Principles and framework".

    Examples
    --------
    >>> from sklearn_psp.metrics import rate_interval
    >>> low, high = rate_interval(0, 300)
    >>> low, round(high, 4)
    (0.0, 0.0122)
    """
    errors, total = np.asarray(n_errors), np.asarray(n)
    for name, numbers in (("n_errors", errors), ("n", total)):
        if numbers.dtype.kind not in "iu":
            raise ValueError(f"{name} must be an integer, or an array of them; got the dtype {numbers.dtype}")
    if not ((errors >= 0) & (total >= 1) & (errors <= total)).all():
        raise ValueError(f"n_errors must be from 0 to n, and n at least 1; got n_errors={n_errors!r} and n={n!r}")
    tail = (1 - confidence) / 2
    # scipy.stats.binomtest takes one number at a time. Where a parameter is 0 there is no such beta distribution, and
    # NaN stands for the end of all rates.
    low = np.nan_to_num(beta.ppf(tail, errors, total - errors + 1), nan=0.0)
    high = np.nan_to_num(beta.isf(tail, errors + 1, total - errors), nan=1.0)
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


@validate_params({"confidence": [Interval(Real, 0, 1, closed="neither")]}, prefer_skip_nested_validation=True)
def group_error_rates(
    y_true: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, groups: npt.ArrayLike, *, confidence: float = 0.95
) -> pd.DataFrame:
    """False acceptance and false rejection rates of each group of people, at the one threshold that all share.

    Impostor pairs must be of two people of the same group: people of different age and sex are easy to tell apart, and
    such pairs make every rate look small. A pair of two groups belongs to none: leave its group missing.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        Similarity of the two of each pair; higher is more alike. For distances pass `-distances`, and the negative
        threshold.
    threshold : float
        A pair is accepted if its score is at or above it.
    groups : array-like of shape (n_pairs,)
        The group of each pair, such as a column of a DataFrame; pairs with a missing one are left out.
    confidence : float in (0, 1), default=0.95
        Least probability that an interval covers the true rate, if pairs are independent.

    Returns
    -------
    rates : DataFrame
        One row a group, in sorted order, with the columns `group`, `n_genuine`, `n_impostor`, `far`, `far_low`,
        `far_high`, `frr`, `frr_low`, `frr_high`. Rates of no pairs are NaN.

    Raises
    ------
    ValueError
        If there is no pair of one kind, the lengths differ, a score is not a finite number, or no pair has a group.

    See Also
    --------
    far_frr : The rates of all pairs.
    rate_interval : The intervals, and what they leave out.

    References
    ----------
    P. Grother, M. Ngan and K. Hanaoka, "Face Recognition Vendor Test (FRVT) Part 3: Demographic Effects", NISTIR 8280,
    2019.

    Examples
    --------
    >>> from sklearn_psp.metrics import group_error_rates
    >>> y_true, scores = [1, 1, 0, 0, 1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1, 0.9, 0.4, 0.7, 0.1]
    >>> rates = group_error_rates(y_true, scores, 0.5, ["a"] * 4 + ["b"] * 4)
    >>> rates[["group", "n_genuine", "n_impostor", "far", "frr"]]
      group  n_genuine  n_impostor  far  frr
    0     a          2           2  0.0  0.0
    1     b          2           2  0.5  0.5
    """
    same, values, _ = check_pairs(y_true, scores)
    shared = check_thresholds(threshold)
    if shared.ndim:
        raise ValueError(f"threshold must be one number, which all groups share; got the shape {shared.shape}")
    group_of = pd.Series(groups).reset_index(drop=True)
    if len(group_of) != len(same):
        raise ValueError(f"groups must hold one group for each of the {len(same)} pairs; got {len(group_of)}")
    codes, names = pd.factorize(group_of, sort=True)
    if not len(names):
        raise ValueError("groups is missing for all pairs: no rate can be given")
    accepted = values.astype(np.float64) >= shared
    rates = {"group": names}
    wrong = {"far": (~same, accepted), "frr": (same, ~accepted)}
    counts = {
        rate: [np.bincount(codes[kind & (codes >= 0)], minlength=len(names)) for kind in (of, of & errors)]
        for rate, (of, errors) in wrong.items()
    }
    rates |= {"n_genuine": counts["frr"][0], "n_impostor": counts["far"][0]}
    for rate, (n, n_errors) in counts.items():
        low, high = rate_interval(n_errors, np.maximum(n, 1), confidence=confidence)
        share = n_errors / np.maximum(n, 1)
        rates |= {
            name: np.where(n > 0, column, np.nan)
            for name, column in ((rate, share), (f"{rate}_low", low), (f"{rate}_high", high))
        }
    return pd.DataFrame(rates)


@validate_params(
    {
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def threshold_interval(
    y_true: npt.ArrayLike,
    scores: npt.ArrayLike,
    target: str | tuple[str, float],
    *,
    items: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    n_resamples: int = 500,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[float, float]:
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
        Similarity of the two of each pair; higher is more alike. For distances pass `-distances`.
    target : {"accuracy", "eer"} or tuple ("far", rate)
        The target that the threshold is to reach, as for `threshold_at`.
    items : array-like of shape (n_pairs, 2) or None, default=None
        The two images, or people, of each pair, as numbers or names. None draws pairs, as if none shared any.
    confidence : float in (0, 1), default=0.95
        Share of the resampled thresholds that the interval holds.
    n_resamples : int, default=500
        Number of resamples.
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
    rate_interval : The interval of a rate.

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
    same, values, _ = check_pairs(y_true, scores)
    draw = _drawing(items, len(same), check_random_state(random_state))
    distinct, place = np.unique(values, return_inverse=True)
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


def _drawing(
    items: npt.ArrayLike | None, n_pairs: int, random_state: np.random.RandomState
) -> Callable[[], np.ndarray]:
    """Return a function that draws the number of times that each pair is there."""
    if items is None:
        return lambda: _draw(n_pairs, random_state)
    named = np.asarray(items)
    if named.shape != (n_pairs, 2):
        raise ValueError(f"items must hold the two images of each of the {n_pairs} pairs; got the shape {named.shape}")
    places = np.unique(named, return_inverse=True)[1].reshape(n_pairs, 2)
    n_times = np.bincount(places.ravel())
    twice = places[:, :1] == places[:, 1:]  # an image that is compared with itself
    alone = (n_times[places] == 1 + twice).all(axis=1)
    n_alone = int(alone.sum())
    names, shared = np.unique(places[~alone], return_inverse=True)
    shared = shared.reshape(-1, 2)

    def draw() -> np.ndarray:
        weights = np.empty(n_pairs)
        weights[alone] = _draw(n_alone, random_state)
        drawn = _draw(len(names), random_state)
        weights[~alone] = drawn[shared[:, 0]] * drawn[shared[:, 1]]
        return weights

    return draw


def _draw(n: int, random_state: np.random.RandomState) -> np.ndarray:
    """Draw n of n with replacement, and count the times that each was drawn."""
    return np.bincount(random_state.randint(n, size=n), minlength=n).astype(np.float64) if n else np.empty(0)
