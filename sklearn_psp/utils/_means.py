"""Means over the queries of a search that have something to find, and the weights of queries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sklearn_psp.utils._flags import check_sample_weight

__all__ = ["NOTHING_RELEVANT", "NO_WEIGHT", "mean_over_queries", "query_weights"]

NOTHING_RELEVANT = (
    "No query has a relevant item in the gallery, so the mean over the queries is undefined. In cross-validation this "
    "happens when y is sorted by labels and the folds are cut in order, as plain KFold does: the labels of the queries "
    "are then missing from the gallery. Use cv=StratifiedKFold(n_splits, shuffle=True), or check that gallery and "
    "queries use the same labels"
)
NO_WEIGHT = "sample_weight must be above 0 for at least one query that has a relevant item; all of these are 0"


def mean_over_queries(values: np.ndarray, counted: np.ndarray, sample_weight: npt.ArrayLike | None = None) -> float:
    """Average over the queries that have something to find.

    Parameters
    ----------
    values : ndarray of shape (n_queries,), float64
        The score of each query; it may be NaN where the query does not count.
    counted : ndarray of shape (n_queries,), bool
        The queries that take part.
    sample_weight : array-like of shape (n_queries,), default=None
        Weights of the queries.

    Returns
    -------
    float
        The mean.

    Raises
    ------
    ValueError
        If no query takes part, or the weights of all that do are 0.
    """
    weights = query_weights(counted, sample_weight)
    return float(np.average(values[counted], weights=weights[counted]))


def query_weights(counted: np.ndarray, sample_weight: npt.ArrayLike | None) -> np.ndarray:
    """Give each query its weight, 0 where it does not count; refuse weights that leave nothing to average."""
    weights = check_sample_weight(sample_weight, len(counted))
    if not counted.any():
        raise ValueError(NOTHING_RELEVANT)
    weights = np.where(counted, 1.0 if weights is None else weights, 0.0)
    if not weights.any():
        raise ValueError(NO_WEIGHT)
    return weights
