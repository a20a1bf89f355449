"""A ranked relevance array, checked and reduced to its hits: the few cells that every score is a sum over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklearn_psp.utils._flags import check_sample_weight

__all__ = [
    "NOTHING_RELEVANT",
    "NO_WEIGHT",
    "Hits",
    "find_hits",
    "mean_over_queries",
    "query_weights",
]

NOTHING_RELEVANT = (
    "No query has a relevant item in the gallery, so the mean over the queries is undefined. In cross-validation this "
    "happens when y is sorted by labels and the folds are cut in order, as plain KFold does: the labels of the queries "
    "are then missing from the gallery. Use cv=StratifiedKFold(n_splits, shuffle=True), or check that gallery and "
    "queries use the same labels"
)
NO_WEIGHT = "sample_weight must be above 0 for at least one query that has a relevant item; all of these are 0"


@dataclass(frozen=True)
class Hits:
    """The relevant items of all rankings, query by query and best first, once junk is taken out."""

    query: np.ndarray  # (n_hits,), row of the hit
    rank: np.ndarray  # (n_hits,), from 1, junk not counted
    nth: np.ndarray  # (n_hits,), its number from 1 among the hits of its query
    gain: np.ndarray  # (n_hits,), float64, how relevant it is
    n_found: np.ndarray  # (n_queries,), hits of each query
    n_relevant: np.ndarray  # (n_queries,), relevant items of each query in the whole gallery

    def sum_by_query(self, values):
        """Add up one value a hit for each query."""
        # Without a single hit bincount gives integers, whatever the weights.
        return np.bincount(self.query, weights=values, minlength=len(self.n_found)).astype(np.float64, copy=False)

    def first_rank(self):
        """Give the rank of the first hit of each query, infinity where there is none."""
        ranks = np.full(len(self.n_found), np.inf)
        first = self.nth == 1
        ranks[self.query[first]] = self.rank[first]
        return ranks


def find_hits(relevance, *, junk=None, n_relevant=None):
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
    relevance = _check_relevance(relevance)
    relevant = relevance if relevance.dtype == bool else relevance > 0
    junk = _check_junk(junk, relevance.shape)
    if junk is not None:
        relevant = relevant & ~junk

    query, position = np.nonzero(relevant)
    rank = position + 1
    if junk is not None:
        rank -= np.cumsum(junk, axis=1, dtype=np.int32)[query, position]
    n_found = np.bincount(query, minlength=len(relevance))
    nth = np.arange(1, len(query) + 1) - (np.cumsum(n_found) - n_found)[query]
    return Hits(
        query=query,
        rank=rank,
        nth=nth,
        gain=relevance[query, position].astype(np.float64),
        n_found=n_found,
        n_relevant=_check_n_relevant(n_relevant, n_found),
    )


def mean_over_queries(values, counted, sample_weight=None):
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
    """
    weights = query_weights(counted, sample_weight)
    return float(np.average(values[counted], weights=weights[counted]))


def query_weights(counted, sample_weight):
    """Give each query its weight, 0 where it does not count; refuse weights that leave nothing to average."""
    weights = check_sample_weight(sample_weight, len(counted))
    if not counted.any():
        raise ValueError(NOTHING_RELEVANT)
    weights = np.where(counted, 1.0 if weights is None else weights, 0.0)
    if not weights.any():
        raise ValueError(NO_WEIGHT)
    return weights


def _check_relevance(relevance):
    relevance = np.asarray(relevance)
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


def _check_junk(junk, shape):
    if junk is None:
        return None
    junk = np.asarray(junk)
    if junk.dtype != bool:
        # The files of the revisited Oxford protocol list indices; read as a mask they would be wrong in silence.
        raise ValueError(
            f"junk must be a boolean mask of the shape of relevance, not indices; got the dtype {junk.dtype}"
        )
    if junk.shape != shape:
        raise ValueError(f"junk must have the shape of relevance, {shape}; got the shape {junk.shape}")
    return junk


def _check_n_relevant(n_relevant, n_found):
    if n_relevant is None:
        return n_found
    n_relevant = np.asarray(n_relevant)
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
