"""Relevance of ranked items: made from labels, checked, and reduced to hits, the cells that scores are sums over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from sklearn_psp.utils._labels import as_label_array

__all__ = ["Hits", "find_hits", "relevance_from_labels"]

# Never equal to a label, nor to each other.
_MISSING_QUERY, _MISSING_ITEM = object(), object()


def relevance_from_labels(y_query: npt.ArrayLike, y_ranked: npt.ArrayLike) -> np.ndarray:
    """Compare the labels of ranked items with those of their queries.

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


def _natively_comparable(a: np.dtype, b: np.dtype) -> bool:
    """Tell whether numpy compares the dtypes element by element, with missing values (NaN, NaT) unequal."""
    numeric = "biuf"
    return (a.kind in numeric and b.kind in numeric) or (a.kind == b.kind and a.kind in "UMm")


def _hide_missing(labels: np.ndarray, stand_in: object) -> np.ndarray:
    """Put `stand_in` where a label is missing: `pandas.NA == x` is neither true nor false, and None equals None."""
    missing = pd.isna(labels)
    labels = labels.astype(object)
    labels[missing] = stand_in
    return labels


@dataclass(frozen=True)
class Hits:
    """The relevant items of all rankings, query by query and best first, once junk is taken out."""

    query: np.ndarray  # (n_hits,), row of the hit
    rank: np.ndarray  # (n_hits,), from 1, junk not counted
    nth: np.ndarray  # (n_hits,), its number from 1 among the hits of its query
    gain: np.ndarray  # (n_hits,), float64, how relevant it is
    n_found: np.ndarray  # (n_queries,), hits of each query
    n_relevant: np.ndarray  # (n_queries,), relevant items of each query in the whole gallery

    def sum_by_query(self, values: np.ndarray) -> np.ndarray:
        """Add up one value a hit for each query."""
        # Without a single hit bincount gives integers, whatever the weights.
        return np.bincount(self.query, weights=values, minlength=len(self.n_found)).astype(np.float64, copy=False)

    def first_rank(self) -> np.ndarray:
        """Give the rank of the first hit of each query, infinity where there is none."""
        ranks = np.full(len(self.n_found), np.inf)
        first = self.nth == 1
        ranks[self.query[first]] = self.rank[first]
        return ranks


def find_hits(
    relevance: npt.ArrayLike, *, junk: npt.ArrayLike | None = None, n_relevant: npt.ArrayLike | None = None
) -> Hits:
    """Check the arrays every score takes and find the hits.

    Hits are few beside the cells of a full ranking, so sums over them cost little more than reading the array once.

    Parameters
    ----------
    relevance : array-like of shape (n_queries, n_ranked), bool or number >= 0
        Relevance of the ranked items, best first.
    junk : array-like of shape (n_queries, n_ranked), bool, default=None
        Items to remove from the ranking.
    n_relevant : array-like of shape (n_queries,), int, default=None
        Relevant items in the whole gallery; those in the ranking if None.

    Returns
    -------
    Hits
        The hits.
    """
    gains = _check_relevance(relevance)
    relevant = gains if gains.dtype == bool else gains > 0
    ignored = _check_junk(junk, gains.shape)
    if ignored is not None:
        relevant = relevant & ~ignored

    query, position = np.nonzero(relevant)
    rank = position + 1
    if ignored is not None:
        rank -= np.cumsum(ignored, axis=1, dtype=np.int32)[query, position]
    n_found = np.bincount(query, minlength=len(gains))
    nth = np.arange(1, len(query) + 1) - (np.cumsum(n_found) - n_found)[query]
    return Hits(
        query=query,
        rank=rank,
        nth=nth,
        gain=gains[query, position].astype(np.float64),
        n_found=n_found,
        n_relevant=_check_n_relevant(n_relevant, n_found),
    )


def _check_relevance(values: npt.ArrayLike) -> np.ndarray:
    relevance = np.asarray(values)
    if relevance.ndim != 2:
        remedy = "; for a single query use relevance.reshape(1, -1)" if relevance.ndim == 1 else ""
        raise ValueError(
            "relevance must have the shape (n_queries, n_ranked), one ranking a row; "
            f"got the shape {relevance.shape}{remedy}"
        )
    if relevance.dtype.kind not in "biuf":
        raise ValueError(
            f"relevance must be bool or numbers; got the dtype {relevance.dtype}; "
            "relevance_from_labels makes it from labels"
        )
    if relevance.dtype.kind in "if":
        wrong = ~(relevance >= 0)  # NaN too
        if relevance.dtype.kind == "f":
            wrong |= np.isinf(relevance)
        if wrong.any():
            row, column = (int(i) for i in np.unravel_index(np.argmax(wrong), wrong.shape))
            raise ValueError(
                f"relevance must be finite and not negative; relevance[{row}, {column}] is {relevance[row, column]}; "
                "items to ignore are marked by junk=, not by -1 or NaN"
            )
    return relevance


def _check_junk(values: npt.ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if values is None:
        return None
    junk = np.asarray(values)
    if junk.dtype != bool:
        # The files of the revisited Oxford protocol list indices; read as a mask they would be wrong in silence.
        raise ValueError(
            f"junk must be a boolean mask of the shape of relevance, not indices; got the dtype {junk.dtype}"
        )
    if junk.shape != shape:
        raise ValueError(f"junk must have the shape of relevance, {shape}; got the shape {junk.shape}")
    return junk


def _check_n_relevant(values: npt.ArrayLike | None, n_found: np.ndarray) -> np.ndarray:
    if values is None:
        return n_found
    n_relevant = np.asarray(values)
    if n_relevant.shape != n_found.shape or n_relevant.dtype.kind not in "iu":
        raise ValueError(
            f"n_relevant must be integers of the shape (n_queries,) = {n_found.shape}; "
            f"got the shape {n_relevant.shape} and the dtype {n_relevant.dtype}"
        )
    if (n_relevant < n_found).any():
        row = int(np.argmax(n_relevant < n_found))
        raise ValueError(
            f"n_relevant must count the relevant items of the whole gallery, junk left out; n_relevant[{row}] is "
            f"{n_relevant[row]}, but the ranking of that query holds {n_found[row]}"
        )
    return n_relevant
