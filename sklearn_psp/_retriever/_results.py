"""What a retriever gives back: neighbours without the query itself, votes, graphs and tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

__all__ = [
    "drop_self",
    "head_first",
    "image_table",
    "neighbor_graph",
    "result_table",
    "spread",
    "vote",
    "without_self",
]


def drop_self(distances, positions, selves, k):
    """Take the query itself out of its neighbours.

    By position, not by distance: copies of the query are neighbours like any other.

    Parameters
    ----------
    distances : ndarray of shape (n, m), float32
        Distances.
    positions : ndarray of shape (n, m), intp
        Positions. A row may be without the query: more copies than places come before it, or a filter left it out.
    selves : ndarray of shape (n,), intp
        Position of each query.
    k : int
        How many others to return, at most m.

    Returns
    -------
    distances, positions : ndarray of shape (n, k)
        The others; NaN and -1 where there are fewer.
    """
    is_self = positions == selves[:, None]
    if k < positions.shape[1]:
        is_self[~is_self.any(axis=1), -1] = True
        return distances[~is_self].reshape(len(selves), k), positions[~is_self].reshape(len(selves), k)
    order = np.argsort(is_self, axis=1, kind="stable")
    last = is_self.any(axis=1)
    distances, positions = np.take_along_axis(distances, order, 1), np.take_along_axis(positions, order, 1)
    distances[last, -1], positions[last, -1] = np.nan, -1
    return distances, positions


def without_self(positions, selves):
    """Take the query itself out of a full ranking."""
    return positions[positions != selves[:, None]].reshape(len(positions), -1)


def head_first(head, ranking):
    """Put some positions first, each row in its own order, and the others after them in the order they have."""
    n_rows, n_ranked = ranking.shape
    rows = np.arange(n_rows)[:, None]
    in_head = np.zeros((n_rows, int(ranking.max(initial=0)) + 1), dtype=bool)
    in_head[rows, head] = True
    others = ranking[~in_head[rows, ranking]].reshape(n_rows, n_ranked - head.shape[1])
    return np.concatenate((head, others), axis=1)


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
    if n_classes == 0:  # no image has a label
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


def result_table(queries, distances, positions, gallery):
    """Make the table of results.

    Parameters
    ----------
    queries : array-like of shape (n_queries,)
        Name of each query.
    distances, positions : ndarray of shape (n_queries, k)
        Neighbours, nearest first; position -1 where there is none.
    gallery : Gallery
        Where ids, labels and metadata are.

    Returns
    -------
    DataFrame
        One row a result: query, rank (from 1), id, distance, label if there are labels, and the metadata.
    """
    row, rank = np.nonzero(positions >= 0)
    columns = {"query": np.asarray(queries)[row], "rank": rank + 1}
    return image_table(columns, distances[row, rank], positions[row, rank], gallery)


def image_table(columns, distances, positions, gallery):
    """Make a table of images: given columns, then id, distance, label if there are labels, and the metadata."""
    rows = positions if gallery.rows is None else gallery.rows[positions]
    columns |= {"id": gallery.ids.column.take(rows), "distance": distances}
    if gallery.labels is not None:
        columns["label"] = gallery.labels.column.take(rows)
    table = pd.DataFrame(columns)
    if gallery.metadata is None:
        return table
    return pd.concat([table, gallery.metadata.take(rows)], axis=1)
