"""Error rates of verification (1:1), where each pair is one of the same person or of two."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from sklearn_psp.metrics._counts import (
    check_thresholds,
    count_errors,
    shares,
    target_place,
    threshold_before,
    warn_if_few,
)
from sklearn_psp.utils._compat import Interval, validate_params
from sklearn_psp.utils._flags import check_pairs, check_target

__all__ = ["equal_error_rate", "error_rates", "far_frr", "tar_at_far", "threshold_at"]

_RATE = Interval(Real, 0, 1, closed="right")


def error_rates(
    y_true: npt.ArrayLike, scores: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""False acceptance and false rejection rates at every threshold that makes a difference.

    A pair is accepted if its score is at or above the threshold t. With G the scores of the genuine pairs and I those
    of the impostor pairs [1]_

    .. math:: FAR(t) = \frac{|\{s \in I : s \ge t\}|}{|I|}, \qquad FRR(t) = \frac{|\{s \in G : s < t\}|}{|G|}

    The rates are those of comparisons, called FMR and FNMR in the standard; a pair that could not be compared, because
    a face was not found, is not in them.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        Similarity of the two of each pair; higher is more alike, such as a cosine similarity. For distances pass
        `-distances`.
    sample_weight : array-like of shape (n_pairs,), default=None
        Weights of the pairs.

    Returns
    -------
    far : ndarray of shape (n_thresholds,), float64
        False acceptance rates, falling from 1 to 0.
    frr : ndarray of shape (n_thresholds,), float64
        False rejection rates, rising from 0 to 1.
    thresholds : ndarray of shape (n_thresholds,), floating
        Every score that occurs, rising, and infinity, which accepts nothing.

    Raises
    ------
    ValueError
        If there is no pair of one kind, the lengths differ, or a score is not a finite number.

    See Also
    --------
    far_frr : The rates at a threshold of your own.
    threshold_at : A threshold for a target.
    sklearn.metrics.det_curve : The same without the thresholds at which one of the rates does not change any more.

    References
    ----------
    .. [1] ISO/IEC 19795-1:2021, "Biometric performance testing and reporting, part 1: Principles and framework".

    Examples
    --------
    >>> from sklearn_psp.metrics import error_rates
    >>> far, frr, thresholds = error_rates([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    >>> far
    array([1. , 0.5, 0. , 0. ])
    >>> frr
    array([0. , 0. , 0.5, 1. ])
    >>> thresholds
    array([0.1, 0.4, 0.8, inf])
    """
    same, values, weights = check_pairs(y_true, scores, sample_weight)
    counts = count_errors(same, values, weights)
    thresholds = np.append(counts.distinct, counts.distinct.dtype.type(np.inf))
    return counts.far, counts.frr, thresholds


def far_frr(
    y_true: npt.ArrayLike,
    scores: npt.ArrayLike,
    threshold: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[Any, Any]:
    """False acceptance and false rejection rate at a threshold.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        Similarity of the two of each pair; higher is more alike. For distances pass `-distances`, and the negative
        threshold.
    threshold : float or array-like
        A pair is accepted if its score is at or above it.
    sample_weight : array-like of shape (n_pairs,), default=None
        Weights of the pairs.

    Returns
    -------
    far : float or ndarray of the shape of `threshold`
        Share of the impostor pairs that are accepted.
    frr : float or ndarray of the shape of `threshold`
        Share of the genuine pairs that are rejected.

    Raises
    ------
    ValueError
        If there is no pair of one kind, the lengths differ, a score is not a finite number, or a threshold is NaN.

    See Also
    --------
    error_rates : The rates at all thresholds, and their equations.
    rate_interval : The confidence interval of a rate.

    Examples
    --------
    >>> from sklearn_psp.metrics import far_frr
    >>> far_frr([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.4)
    (0.5, 0.5)
    """
    same, values, weights = check_pairs(y_true, scores, sample_weight)
    thresholds = check_thresholds(threshold)
    impostor, genuine = (
        shares(values[here], thresholds, None if weights is None else weights[here]) for here in (~same, same)
    )
    far, frr = impostor[0], genuine[1]
    return (float(far), float(frr)) if thresholds.ndim == 0 else (far, frr)


def equal_error_rate(
    y_true: npt.ArrayLike, scores: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> float:
    r"""Rate at which false acceptances are as frequent as false rejections.

    FAR falls and FRR rises with the threshold, in steps; mostly no threshold makes them equal. Between the last
    threshold with FAR > FRR, and the next, at :math:`(FAR_a, FRR_a)` and :math:`(FAR_b, FRR_b)`, the rates are
    connected by straight lines, as in a drawn curve:

    .. math:: EER = (1 - \tau) \, FAR_a + \tau \, FAR_b,
        \qquad \tau = \frac{FAR_a - FRR_a}{(FAR_a - FRR_a) - (FAR_b - FRR_b)}

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        Similarity of the two of each pair; higher is more alike. For distances pass `-distances`.
    sample_weight : array-like of shape (n_pairs,), default=None
        Weights of the pairs.

    Returns
    -------
    eer : float
        The rate; 0 if a threshold separates the pairs, about 0.5 for scores that say nothing.

    Raises
    ------
    ValueError
        If there is no pair of one kind, the lengths differ, or a score is not a finite number.

    See Also
    --------
    threshold_at : With the target "eer", the threshold.

    Examples
    --------
    >>> from sklearn_psp.metrics import equal_error_rate
    >>> equal_error_rate([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.8, 0.9])
    0.3333333333333333
    """
    same, values, weights = check_pairs(y_true, scores, sample_weight)
    counts = count_errors(same, values, weights)
    far, excess = counts.far, counts.far - counts.frr
    after = int(np.argmax(excess <= 0))  # never 0: there FAR is 1 and FRR is 0
    share = excess[after - 1] / (excess[after - 1] - excess[after])
    return float((1 - share) * far[after - 1] + share * far[after])


@validate_params({"far": [_RATE]}, prefer_skip_nested_validation=True)
def tar_at_far(y_true: npt.ArrayLike, scores: npt.ArrayLike, far: float) -> float:
    """Highest true acceptance rate whose false acceptance rate does not exceed a target.

    TAR = 1 - FRR, the share of the genuine pairs that are accepted, is read off at the lowest threshold whose FAR is
    at most `far`. Nothing is interpolated.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        Similarity of the two of each pair; higher is more alike. For distances pass `-distances`.
    far : float in (0, 1]
        The false acceptance rate that is tolerated.

    Returns
    -------
    tar : float
        The true acceptance rate.

    Raises
    ------
    ValueError
        If there is no pair of one kind, the lengths differ, a score is not a finite number, or `far` is out of range.

    Warns
    -----
    FewPairsWarning
        If there are fewer than `1 / far` impostor pairs.

    See Also
    --------
    threshold_at : With the target `("far", far)`, the threshold.

    Examples
    --------
    >>> from sklearn_psp.metrics import tar_at_far
    >>> tar_at_far([0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9], far=0.25)
    1.0
    """
    same, values, _ = check_pairs(y_true, scores)
    counts = count_errors(same, values)
    warn_if_few(int(counts.n_impostor), far, "far", "impostor pairs")
    n_rejected = counts.n_rejected[target_place(counts, "far", far)]
    return float((counts.n_genuine - n_rejected) / counts.n_genuine)


def threshold_at(y_true: npt.ArrayLike, scores: npt.ArrayLike, target: str | tuple[str, float]) -> float:
    """Threshold that reaches a target on these pairs.

    Rates that are measured on the pairs that the threshold was chosen on are too good; measure on others.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        Similarity of the two of each pair; higher is more alike. For distances pass `-distances`.
    target : {"accuracy", "eer"} or tuple ("far", rate)
        "accuracy" decides most pairs rightly; among equals it accepts the fewest. "eer" brings the false acceptance
        and the false rejection rate as close to each other as it can be. `("far", 0.001)` accepts as many genuine
        pairs as possible while the false acceptance rate is at most 0.001.

    Returns
    -------
    threshold : float
        Accept pairs whose score is at or above it. It is in the middle between two neighbouring scores where these
        pairs leave a choice. If nothing may be accepted, it is the next number above the highest score.

    Raises
    ------
    ValueError
        If there is no pair of one kind, the lengths differ, a score is not a finite number, or the target is unknown.

    Warns
    -----
    FewPairsWarning
        If there are fewer than `1 / rate` impostor pairs.

    See Also
    --------
    far_frr : The rates at the threshold.
    threshold_interval : How far the threshold may be off.

    Examples
    --------
    >>> from sklearn_psp.metrics import threshold_at
    >>> y_true, scores = [0, 0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.9]
    >>> round(threshold_at(y_true, scores, "accuracy"), 3)
    0.65
    >>> round(threshold_at(y_true, scores, ("far", 0.25)), 3)
    0.4
    """
    kind, rate = check_target(target)
    same, values, _ = check_pairs(y_true, scores)
    counts = count_errors(same, values)
    if rate is not None:
        warn_if_few(int(counts.n_impostor), rate, "far", "impostor pairs")
    return threshold_before(counts.distinct, target_place(counts, kind, rate))
