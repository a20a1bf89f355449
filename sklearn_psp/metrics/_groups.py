"""Error rates by group: one threshold, many kinds of people."""

from __future__ import annotations

from numbers import Real

import numpy as np
import pandas as pd

from sklearn_psp.metrics._pairs import check_thresholds
from sklearn_psp.metrics._verification import rate_interval
from sklearn_psp.utils._compat import Interval, validate_params
from sklearn_psp.utils._flags import check_pairs

__all__ = ["group_error_rates"]


@validate_params({"confidence": [Interval(Real, 0, 1, closed="neither")]}, prefer_skip_nested_validation=True)
def group_error_rates(y_true, scores, threshold, groups, *, confidence=0.95):
    """False acceptance and false rejection rates of each group of people, at the one threshold that all share.

    Impostor pairs must be of two people of the same group: people of different age and sex are easy to tell apart, and
    such pairs make every rate look small. A pair of two groups belongs to none: leave its group missing.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        How alike the two of a pair are; higher is more alike. For distances pass `-distances`, and the negative
        threshold.
    threshold : float
        A pair is accepted if its score is at or above it.
    groups : array-like of shape (n_pairs,)
        The group of each pair, such as a column of a DataFrame; pairs with a missing one are left out.
    confidence : float in (0, 1), default=0.95
        How often the intervals cover the true rates, at least, if pairs are independent.

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
    same, scores, _ = check_pairs(y_true, scores)
    threshold = check_thresholds(threshold)
    if threshold.ndim:
        raise ValueError(f"threshold must be one number, which all groups share; got the shape {threshold.shape}")
    groups = pd.Series(groups).reset_index(drop=True)
    if len(groups) != len(same):
        raise ValueError(f"groups must hold one group for each of the {len(same)} pairs; got {len(groups)}")
    codes, names = pd.factorize(groups, sort=True)
    if not len(names):
        raise ValueError("groups is missing for all pairs: no rate can be given")
    accepted = scores.astype(np.float64) >= threshold
    rates = {"group": names}
    wrong = {"far": (~same, accepted), "frr": (same, ~accepted)}
    counts = {
        rate: [np.bincount(codes[kind & (codes >= 0)], minlength=len(names)) for kind in (of, of & errors)]
        for rate, (of, errors) in wrong.items()
    }
    rates |= {"n_genuine": counts["frr"][0], "n_impostor": counts["far"][0]}
    for rate, (n, n_errors) in counts.items():
        low, high = rate_interval(n_errors, np.maximum(n, 1), confidence=confidence)
        values = n_errors / np.maximum(n, 1)
        rates |= {
            name: np.where(n > 0, column, np.nan)
            for name, column in ((rate, values), (f"{rate}_low", low), (f"{rate}_high", high))
        }
    return pd.DataFrame(rates)
