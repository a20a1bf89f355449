"""Gallery of a re-ranker: the vectors, and the neighbours and cosines found out about them so far."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from sklearn_psp.utils._arrays import first_others, row_blocks, squared_norms

__all__ = ["GalleryNeighbors", "LazyRows", "cosines", "inverse_lengths", "locate", "pair_cosines", "scale_rows"]


class GalleryNeighbors:
    """Gallery of a re-ranker, with the neighbours and cosines of its rows that have been computed so far.

    Nothing is computed before it is asked for, and nothing of it is pickled.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), float32
        The vectors.
    index : object
        Has `n_samples` and `query(Q, k)` and searches the rows of X.

    Attributes
    ----------
    X : ndarray of shape (n, n_features), float32
        The vectors.
    index : object
        The index.
    """

    def __init__(self, X: np.ndarray, index: Any):
        self.X = X
        self.index = index
        self._reset()

    def _reset(self):
        self._lock = threading.Lock()
        self._tables = {}

    def __getstate__(self):
        return {"X": self.X, "index": self.index}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._reset()

    def table(self, name: str, params: tuple, compute: Callable[[np.ndarray], tuple[np.ndarray, ...]]) -> LazyRows:
        """Return the table of this name; a new one if it was made with other parameters.

        Parameters
        ----------
        name : str
            What it holds.
        params : tuple
            What its rows depend on, apart from the gallery.
        compute : callable
            As for `LazyRows`.

        Returns
        -------
        LazyRows
            The table.
        """
        with self._lock:
            held = self._tables.get(name)
            if held is None or held[0] != params:
                held = self._tables[name] = (params, LazyRows(len(self.X), compute))
            return held[1]

    def neighbors(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
        """Return the k + 1 nearest others of gallery rows: one more than k, for the query may be among them.

        Parameters
        ----------
        rows : ndarray of shape (r,), int
            Positions in the gallery.
        k : int
            Number of neighbours.

        Returns
        -------
        positions : ndarray of shape (r, width), int32
            Nearest first; width is k + 1, or less where the gallery is smaller.
        distances : ndarray of shape (r, width), float32
            Distances as the index gives them.
        """
        return self.table("neighbors", (k,), lambda missing: self._find_neighbors(missing, k)).get(rows)

    def similarities(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
        """Return the k + 1 nearest others of gallery rows with their cosines, shaped as by `neighbors`."""

        def compute(missing):
            positions, _ = self.neighbors(missing, k)
            values = pair_cosines(self, np.repeat(missing, positions.shape[1]), positions.ravel())
            return positions, values.reshape(positions.shape).astype(np.float32)

        return self.table("similarities", (k,), compute).get(rows)

    def inverse_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return 1 / length of gallery rows, float64; 0 for rows of zeros."""
        return self.table("inverse lengths", (), lambda missing: (inverse_lengths(self.X[missing]),)).get(rows)[0]

    def _find_neighbors(self, rows, k):
        width = max(0, min(k + 1, self.index.n_samples - 1))
        if width == 0 or len(rows) == 0:
            return np.empty((len(rows), width), dtype=np.int32), np.empty((len(rows), width), dtype=np.float32)
        distances, positions = self.index.query(np.ascontiguousarray(self.X[rows]), width + 1)
        keep = first_others(positions, rows, width)
        return positions[keep].reshape(-1, width).astype(np.int32), distances[keep].reshape(-1, width)


def inverse_lengths(X: np.ndarray) -> np.ndarray:
    """1 / length of each row, float64; 0 for rows of zeros."""
    lengths = np.sqrt(squared_norms(X))
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths != 0)


def pair_cosines(gallery: GalleryNeighbors, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Cosines of pairs of gallery rows, float64; 0 where a row is all zeros."""
    values = np.empty(len(rows))
    for part in row_blocks(len(rows), gallery.X.shape[1]):
        products = np.multiply(gallery.X[rows[part]], gallery.X[columns[part]], dtype=np.float64)
        values[part] = products.sum(axis=1)
    return values * gallery.inverse_lengths(rows) * gallery.inverse_lengths(columns)


def cosines(gallery: GalleryNeighbors, positions: np.ndarray, unit_query: np.ndarray) -> np.ndarray:
    """Cosines of gallery rows with one query of length 1 (float64), float64.

    Not a matrix product: that would give copies of one vector results that differ in the last bits.
    """
    values = np.empty(len(positions))
    for part in row_blocks(len(positions), len(unit_query)):
        values[part] = (gallery.X[positions[part]] * unit_query).sum(axis=1)
    return values * gallery.inverse_lengths(positions)


def locate(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Find where values stand in `ids`.

    Parameters
    ----------
    ids : ndarray of shape (n,), int
        Ascending, without repeats.
    values : ndarray of int
        What to look for.

    Returns
    -------
    ndarray of intp, shaped like values
        Places in ids, -1 for values that are not there.
    """
    at = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[at] == values, at, -1)


def scale_rows(matrix: csr_array, factors: np.ndarray) -> csr_array:
    """Multiply each row of a csr array by a number; a new array."""
    data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
    return csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


class LazyRows:
    """Arrays of n rows that are filled on demand; several threads may ask at once.

    Parameters
    ----------
    n : int
        Number of rows.
    compute : callable
        Takes the positions of rows, ascending and without repeats, and returns a tuple of arrays, one row each.
    """

    def __init__(self, n: int, compute: Callable[[np.ndarray], tuple[np.ndarray, ...]]):
        self._n = n
        self._compute = compute
        self._lock = threading.Lock()
        self._known = np.zeros(n, dtype=bool)
        self._arrays: tuple[np.ndarray, ...] | None = None

    def get(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return copies of these rows of each array, computing in one go those that are not known."""
        with self._lock:
            return tuple(array[rows] for array in self._filled(rows))

    def fill(self, rows: np.ndarray) -> None:
        """Compute those of these rows that are not known."""
        with self._lock:
            self._filled(rows)

    def _filled(self, rows):
        missing = np.unique(rows[~self._known[rows]])
        if len(missing) == 0 and self._arrays is not None:
            return self._arrays
        computed = self._compute(missing)
        if self._arrays is None:
            self._arrays = tuple(np.empty((self._n, *a.shape[1:]), dtype=a.dtype) for a in computed)
        for array, values in zip(self._arrays, computed, strict=True):
            array[missing] = values
        self._known[missing] = True
        return self._arrays
