"""Results of a search as tables, sparse graphs and votes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_matrix

__all__ = ["class_shares", "image_table", "neighbor_graph", "predicted", "result_table", "spread"]


def spread(values: np.ndarray, kept: np.ndarray | None, n_rows: int, fill: float) -> np.ndarray:
    """Put rows back where they stood, with `fill` in the rows between."""
    if kept is None:
        return values
    out = np.full((n_rows, *values.shape[1:]), fill, dtype=values.dtype)
    out[kept] = values
    return out


def class_shares(distances: np.ndarray, codes: np.ndarray, n_classes: int, weights: str) -> np.ndarray:
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


def predicted(shares: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the class with the largest share of each query, the first of several.

    Parameters
    ----------
    shares : ndarray of shape (n_queries, n_classes), float64
        As from `class_shares`.
    classes : ndarray of shape (n_classes,)
        The classes.

    Returns
    -------
    ndarray of shape (n_queries,)
        The classes.

    Raises
    ------
    ValueError
        If a query has no neighbour that votes: no label is made up.
    """
    silent = np.flatnonzero(np.isnan(shares).all(axis=1))
    if len(silent):
        shown = ", ".join(map(str, silent[:10])) + (f" and {len(silent) - 10} more" if len(silent) > 10 else "")
        raise ValueError(
            f"Queries {shown} have no neighbour that votes (invalid rows under on_invalid='skip', or neighbours "
            "without a label), so they have no label. Drop them, or use predict_proba, which gives them NaN"
        )
    return classes[np.argmax(shares, axis=1)]


def neighbor_graph(distances: np.ndarray, positions: np.ndarray, n_columns: int, mode: str) -> csr_matrix:
    """Make the sparse graph of neighbours; queries that could not be searched (position -1) have empty rows."""
    found = positions >= 0
    data = distances[found] if mode == "distance" else np.ones(np.count_nonzero(found), dtype=np.float32)
    indptr = np.concatenate(([0], np.cumsum(found.sum(axis=1))))
    return csr_matrix((data, positions[found], indptr), shape=(len(positions), n_columns))


def result_table(queries: npt.ArrayLike, distances: np.ndarray, positions: np.ndarray, gallery: Any) -> pd.DataFrame:
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
    return image_table(columns, distances[row, rank], gallery.rows_at(positions[row, rank]), gallery)


def image_table(columns: dict[str, Any], distances: np.ndarray, rows: np.ndarray, gallery: Any) -> pd.DataFrame:
    """Make a table of images: given columns, then id, distance, label if there are labels, and the metadata."""
    columns |= {"id": gallery.ids.column.take(rows), "distance": distances}
    if gallery.labels is not None:
        columns["label"] = gallery.labels.column.take(rows)
    table = pd.DataFrame(columns)
    if gallery.metadata is None:
        return table
    return pd.concat([table, gallery.metadata.take(rows)], axis=1)
