"""Labels -> relevance: which item of a ranking is what the query asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sklearn_psp.utils._labels import as_label_array

__all__ = ["relevance_from_labels"]

# Never equal to a label, nor to each other.
_MISSING_QUERY, _MISSING_ITEM = object(), object()


def relevance_from_labels(y_query, y_ranked):
    """Say which ranked items have the label of their query.

    Parameters
    ----------
    y_query : array-like of shape (n_queries,)
        The label of each query: integers, strings or any objects that can be compared.
    y_ranked : array-like of shape (n_queries, n_ranked) or (n_ranked,)
        The labels of the ranked items, best first. One row alone is taken as the ranking of every query.

    Returns
    -------
    relevance : ndarray of shape (n_queries, n_ranked), bool
        True where the labels are equal. A missing label (None, NaN, NaT, `pandas.NA`) equals nothing, not even
        another one.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> from sklearn_psp.metrics import relevance_from_labels
    >>> relevance_from_labels(["cat", "dog"], [["cat", "dog", "cat"], ["cat", "dog", None]])
    array([[ True, False,  True],
           [False,  True, False]])
    """
    query, ranked = as_label_array(y_query), as_label_array(y_ranked)
    if query.ndim != 1:
        raise ValueError(f"y_query must have the shape (n_queries,), one label a query; got the shape {query.shape}")
    if ranked.ndim not in (1, 2) or (ranked.ndim == 2 and len(ranked) != len(query)):
        raise ValueError(
            f"y_ranked must have the shape (n_queries, n_ranked) = ({len(query)}, n_ranked), one row for each "
            "label of y_query, "
            f"or (n_ranked,); got the shape {ranked.shape}"
        )
    query, ranked = query[:, np.newaxis], np.atleast_2d(ranked)
    if _natively_comparable(query.dtype, ranked.dtype):
        return query == ranked
    equal = _hide_missing(query, _MISSING_QUERY) == _hide_missing(ranked, _MISSING_ITEM)
    return equal.astype(bool, copy=False)


def _natively_comparable(a, b):
    """Whether numpy compares the dtypes element by element with missing values unequal, as NaN and NaT are."""
    numeric = "biuf"
    return (a.kind in numeric and b.kind in numeric) or (a.kind == b.kind and a.kind in "UMm")


def _hide_missing(labels, stand_in):
    """Put `stand_in` where a label is missing: `pandas.NA == x` is neither true nor false, and None equals None."""
    missing = pd.isna(labels)
    labels = labels.astype(object)
    labels[missing] = stand_in
    return labels
