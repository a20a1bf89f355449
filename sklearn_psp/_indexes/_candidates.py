"""Lists of candidate pairs (query, vector): thinned out by score, and settled by distance."""

from __future__ import annotations

import numpy as np

from sklearn_psp._indexes._distances import distance_keys, keys_to_result, pair_distances

__all__ = ["nearest_of_candidates", "prune"]


def prune(rows, columns, scores, k, margin):
    """Drop candidates that cannot be among the k best of their query.

    Parameters
    ----------
    rows, columns : ndarray of shape (n_candidates,), int
        Query and vector of each candidate.
    scores : ndarray of shape (n_candidates,), float32
        Their scores, larger is nearer.
    k : int
        How many are wanted; each query has no candidate or at least k.
    margin : ndarray of shape (n_queries,), float64
        How far below the k-th best score a true neighbour may stand.

    Returns
    -------
    rows, columns, scores : ndarray
        The candidates that remain, sorted by query.
    threshold : ndarray of shape (n_queries,), float32
        The score a further candidate has to reach; infinite for queries without candidates.
    """
    order = np.argsort(_row_and_score_keys(rows, scores))
    rows, columns, scores = rows[order], columns[order], scores[order]
    counts = np.bincount(rows, minlength=len(margin))
    present = np.flatnonzero(counts)
    kth = scores[(np.cumsum(counts) - counts)[present] + k - 1]
    threshold = np.full(len(margin), np.inf, dtype=np.float32)
    threshold[present] = below(kth, margin[present])
    keep = scores >= threshold[rows]
    return rows[keep], columns[keep], scores[keep], threshold


def _row_and_score_keys(rows, scores):
    """Pack row and descending score into one integer; sorting those is 10 times faster than `lexsort`."""
    bits = (-scores).view(np.int32)
    bits = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # negative floats: more bits mean less
    return (rows << 32) + bits


def below(scores, margin):
    """Return `scores - margin` in float32, rounded down: a comparison in float64 would copy the whole block."""
    return np.nextafter((scores - margin).astype(np.float32), np.float32(-np.inf))


def nearest_of_candidates(Q, rows, columns, vectors, k, metric):
    """Return the k nearest of each query's candidates.

    Parameters
    ----------
    Q : ndarray of shape (n_queries, n_features), float32
        The queries.
    rows, columns : ndarray of shape (n_candidates,), int
        Pairs (query, vector) without repeats; each query has at least k.
    vectors : ndarray of shape (n_samples, n_features), float32
        The vectors.
    k : int
        How many to keep.
    metric : {"cosine", "euclidean"}
        The metric.

    Returns
    -------
    distances : ndarray of shape (n_queries, k), float32
        Sorted distances.
    positions : ndarray of shape (n_queries, k), intp
        Positions of the nearest, ties by position.
    """
    keys = distance_keys(pair_distances(Q, rows, vectors, columns, metric), columns)
    order = np.lexsort((keys, rows))
    counts = np.bincount(rows, minlength=len(Q))
    first = np.cumsum(counts) - counts
    return keys_to_result(keys[order[first[:, None] + np.arange(k)]])
