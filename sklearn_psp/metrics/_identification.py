"""Error rates of open-set identification (1:N), where a probe is one of the enrolled identities, or of nobody's."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from sklearn_psp.metrics._counts import check_thresholds, shares, threshold_before, warn_if_few
from sklearn_psp.utils._compat import Interval, validate_params
from sklearn_psp.utils._flags import as_flags, as_scores

__all__ = ["fpir_fnir", "identification_error_rates", "threshold_at_fpir"]


def fpir_fnir(
    mated_scores: npt.ArrayLike, mated_first: npt.ArrayLike, nonmated_scores: npt.ArrayLike, threshold: npt.ArrayLike
) -> tuple[Any, Any]:
    r"""False positive and false negative identification rate at a threshold.

    A search names the most alike of the enrolled identities if its score is at or above the threshold t, else nobody. A
    mated probe shows a person who is enrolled, a non-mated probe one who is not. With rank 1 as the only one that is
    named (R = 1 in [1]_)

    .. math:: FPIR(t) = \frac{|\{\text{non-mated probes with best score} \ge t\}|}{|\{\text{non-mated probes}\}|}

    .. math:: FNIR(t) = 1 - \frac{|\{\text{mated probes whose own identity ranks first, with score} \ge t\}|}
        {|\{\text{mated probes}\}|}

    Both depend on the number of enrolled identities: the more there are, the higher the rates.

    Parameters
    ----------
    mated_scores : array-like of shape (n_mated,), float
        For each mated probe the score of its own identity; higher is more alike. For distances pass `-distances`. It
        may be NaN where that identity does not rank first.
    mated_first : array-like of shape (n_mated,), bool or 0 and 1
        Whether the own identity ranks first.
    nonmated_scores : array-like of shape (n_nonmated,), float
        For each non-mated probe the best score of all identities.
    threshold : float or array-like
        Scores at or above it are accepted.

    Returns
    -------
    fpir : float or ndarray of the shape of `threshold`
        Share of the non-mated probes that are given a name.
    fnir : float or ndarray of the shape of `threshold`
        Share of the mated probes that are not given theirs.

    Raises
    ------
    ValueError
        If an array is empty, the lengths differ, a score is not a finite number, or a threshold is NaN.

    See Also
    --------
    identification_error_rates : The rates at all thresholds.
    threshold_at_fpir : A threshold for a false positive identification rate.

    References
    ----------
    .. [1] P. Grother, M. Ngan and K. Hanaoka, "Face Recognition Vendor Test (FRVT) Part 2: Identification", NISTIR
       8271, 2019.
    .. [2] ISO/IEC 19795-1:2021, "Biometric performance testing and reporting, part 1: Principles and framework".

    Examples
    --------
    >>> from sklearn_psp.metrics import fpir_fnir
    >>> fpir_fnir([0.9, 0.8, 0.7, 0.4], [True, True, False, True], [0.1, 0.5], threshold=0.5)
    (0.5, 0.5)
    """
    found, n_mated, nonmated = _check_probes(mated_scores, mated_first, nonmated_scores)
    thresholds = check_thresholds(threshold)
    fpir, fnir = _rates(found, n_mated, nonmated, thresholds)
    return (float(fpir), float(fnir)) if thresholds.ndim == 0 else (fpir, fnir)


def identification_error_rates(
    mated_scores: npt.ArrayLike, mated_first: npt.ArrayLike, nonmated_scores: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False positive and false negative identification rates at every threshold that makes a difference.

    Parameters
    ----------
    mated_scores : array-like of shape (n_mated,), float
        For each mated probe the score of its own identity; higher is more alike. For distances pass `-distances`. It
        may be NaN where that identity does not rank first.
    mated_first : array-like of shape (n_mated,), bool or 0 and 1
        Whether the own identity ranks first.
    nonmated_scores : array-like of shape (n_nonmated,), float
        For each non-mated probe the best score of all identities.

    Returns
    -------
    fpir : ndarray of shape (n_thresholds,), float64
        Shares of the non-mated probes that are given a name, falling from 1 to 0.
    fnir : ndarray of shape (n_thresholds,), float64
        Shares of the mated probes that are not given theirs, rising from the share that does not rank first to 1.
    thresholds : ndarray of shape (n_thresholds,), floating
        Every score that decides something, rising, and infinity, which names nobody.

    Raises
    ------
    ValueError
        If an array is empty, the lengths differ, or a score is not a finite number.

    See Also
    --------
    fpir_fnir : The rates at a threshold of your own, and their equations.

    Examples
    --------
    >>> from sklearn_psp.metrics import identification_error_rates
    >>> fpir, fnir, thresholds = identification_error_rates([0.9, 0.7, 0.2], [1, 1, 0], [0.1, 0.7])
    >>> fpir
    array([1. , 0.5, 0. , 0. ])
    >>> fnir.round(2)
    array([0.33, 0.33, 0.67, 1.  ])
    >>> thresholds
    array([0.1, 0.7, 0.9, inf])
    """
    found, n_mated, nonmated = _check_probes(mated_scores, mated_first, nonmated_scores)
    thresholds = np.unique(np.concatenate([found, nonmated]))
    thresholds = np.append(thresholds, thresholds.dtype.type(np.inf))
    return *_rates(found, n_mated, nonmated, thresholds.astype(np.float64)), thresholds


@validate_params({"fpir": [Interval(Real, 0, 1, closed="right")]}, prefer_skip_nested_validation=True)
def threshold_at_fpir(nonmated_scores: npt.ArrayLike, fpir: float) -> float:
    """Threshold at which not more than a share of non-mated probes is given a name.

    The rate is an honest one only for other people than these, and for a gallery as large.

    Parameters
    ----------
    nonmated_scores : array-like of shape (n_nonmated,), float
        For each non-mated probe the best score of all identities.
    fpir : float in (0, 1]
        The false positive identification rate that is tolerated.

    Returns
    -------
    threshold : float
        The threshold: in the middle between the lowest score that is accepted and the next below it. If none may be,
        it is the next number above the highest.

    Raises
    ------
    ValueError
        If the array is empty, a score is not a finite number, or `fpir` is out of range.

    Warns
    -----
    FewPairsWarning
        If there are fewer than `1 / fpir` non-mated probes.

    See Also
    --------
    fpir_fnir : The rates at the threshold.

    Examples
    --------
    >>> from sklearn_psp.metrics import threshold_at_fpir
    >>> threshold_at_fpir([0.125, 0.25, 0.5, 0.75], fpir=0.25)
    0.625
    """
    distinct, counts = np.unique(as_scores(nonmated_scores, "nonmated_scores"), return_counts=True)
    n_accepted = np.concatenate([np.cumsum(counts[::-1])[::-1], [0]])
    warn_if_few(int(n_accepted[0]), fpir, "fpir", "non-mated probes")
    return threshold_before(distinct, int(np.argmax(n_accepted / n_accepted[0] <= fpir)))


def _check_probes(
    mated_scores: npt.ArrayLike, mated_first: npt.ArrayLike, nonmated_scores: npt.ArrayLike
) -> tuple[np.ndarray, int, np.ndarray]:
    """Check the arrays.

    Returns the scores of the mated probes whose own identity ranks first, the number of mated probes, and the scores
    of the non-mated ones.
    """
    first = as_flags(mated_first, "mated_first", "1 where the own identity ranks first")
    if np.shape(mated_scores) != first.shape:
        raise ValueError(
            f"mated_scores must hold one number for each of the {len(first)} probes of mated_first; "
            f"got the shape {np.shape(mated_scores)}"
        )
    found = as_scores(mated_scores, "mated_scores", required=first)[first]
    return found, len(first), as_scores(nonmated_scores, "nonmated_scores")


def _rates(
    found: np.ndarray, n_mated: int, nonmated: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    n_below = np.searchsorted(np.sort(found).astype(np.float64), thresholds, side="left")
    return shares(nonmated, thresholds)[0], (n_mated - len(found) + n_below) / n_mated
