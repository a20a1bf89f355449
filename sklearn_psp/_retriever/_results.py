"""What a retriever gives back: neighbours without the query itself, votes, graphs and tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

__all__ = ["drop_self", "neighbor_graph", "result_table", "spread", "vote", "without_self"]


def drop_self(distances, positions):
    """Take the query itself out of its neighbours; query i is the vector at position i.

    By position, not by distance: copies of the query are neighbours like any other.

    Parameters
    ----------
    distances : ndarray of shape (n, k + 1), float32
        Distances.
    positions : ndarray of shape (n, k + 1), intp
        Positions. A row without the query (more than k copies come before it) loses its last.

    Returns
    -------
    distances, positions : ndarray of shape (n, k)
        The others.
    """
    n, k = positions.shape
    drop = positions == np.arange(n)[:, None]
    drop[~drop.any(axis=1), -1] = True
    return distances[~drop].reshape(n, k - 1), positions[~drop].reshape(n, k - 1)


def without_self(positions, first):
    """Take query `first + i` out of row i of a full ranking, or of one that is k + 1 long."""
    n, k = positions.shape
    drop = positions == np.arange(first, first + n)[:, None]
    drop[~drop.any(axis=1), -1] = True
    return positions[~drop].reshape(n, k - 1)


def spread(values, kept, n_rows, fill):
    """Put rows back where they stood, with `fill` in the rows between."""
    if kept is None:
        return values
    out = np.full((n_rows, *values.shape[1:]), fill, dtype=values.dtype)
    out[kept] = values
    return out


def vote(distances, codes, n_classes, weights):
    r"""Share of the neighbours' votes that each class has.

    .. math:: p(c | x) = \frac{\sum_{i: y_i = c} w_i}{\sum_i w_i}, \qquad w_i = 1 \text{ or } 1 / d(x, x_i)

    As in `sklearn.neighbors.KNeighborsClassifier`: where neighbours are at a distance of 0, they alone vote.

    Parameters
    ----------
    distances : ndarray of shape (n_queries, k), float32
        Distances of the neighbours.
    codes : ndarray of shape (n_queries, k), int
        Their classes; -1 casts no vote.
    n_classes : int
        Number of classes.
    weights : {"uniform", "distance"}
        The weights.

    Returns
    -------
    shares : ndarray of shape (n_queries, n_classes), float64
        Rows that add up to 1, or of NaN where nobody votes.
    """
    if n_classes == 0:  # no picture has a label
        return np.empty((len(codes), 0))
    votes = (codes >= 0).astype(np.float64)
    if weights == "distance":
        zero = (distances == 0) & (votes > 0)
        closest = zero.any(axis=1, keepdims=True)
        # float64: 1 / d of a float32 below 3e-39 is infinite.
        inverse = 1 / np.where(distances == 0, 1, distances).astype(np.float64)
        votes *= np.where(closest, zero, inverse)
    rows = np.arange(len(codes))[:, None] * n_classes
    shares = np.bincount(
        (rows + np.maximum(codes, 0)).ravel(), weights=votes.ravel(), minlength=len(codes) * n_classes
    ).reshape(len(codes), n_classes)
    total = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, total, out=np.full_like(shares, np.nan), where=total > 0)


def neighbor_graph(distances, positions, n_columns, mode):
    """Make the sparse graph of neighbours; queries that could not be searched (position -1) have empty rows."""
    found = positions >= 0
    data = distances[found] if mode == "distance" else np.ones(np.count_nonzero(found), dtype=np.float32)
    indptr = np.concatenate(([0], np.cumsum(found.sum(axis=1))))
    return csr_matrix((data, positions[found], indptr), shape=(len(positions), n_columns))


def result_table(queries, distances, positions, *, ids, labels, metadata):
    """Make the table of results.

    Parameters
    ----------
    queries : array-like of shape (n_queries,)
        Name of each query.
    distances, positions : ndarray of shape (n_queries, k)
        Neighbours, nearest first; position -1 where there is none.
    ids : ndarray of shape (n_samples,)
        Ids of the gallery.
    labels : ndarray of shape (n_samples,) or None
        Labels of the gallery.
    metadata : DataFrame of n_samples rows, or None
        Table of the gallery.

    Returns
    -------
    DataFrame
        One row a result: query, rank (from 1), id, distance, label if there are labels, and the metadata.
    """
    found = positions >= 0
    row, rank = np.nonzero(found)
    at = positions[found]
    columns = {"query": np.asarray(queries)[row], "rank": rank + 1, "id": ids[at], "distance": distances[found]}
    if labels is not None:
        columns["label"] = labels[at]
    table = pd.DataFrame(columns)
    if metadata is None:
        return table
    return pd.concat([table, metadata.take(at).reset_index(drop=True)], axis=1)
