"""The gallery as a re-ranker sees it: vectors, who is near whom, and the search without the query itself."""

from __future__ import annotations

import threading

import numpy as np
from sklearn.neighbors import NearestNeighbors

from sklearn_psp.reranking._lazy import LazyRows
from sklearn_psp.utils._arrays import row_blocks, squared_norms

__all__ = ["BruteIndex", "Gallery", "cosines", "first_others", "pair_cosines", "search_others"]


class BruteIndex:
    """Exact Euclidean search with scikit-learn, for re-rankers that are given no index.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), float32
        The gallery.
    """

    def __init__(self, X):
        self._X = X
        self._search = NearestNeighbors(algorithm="brute").fit(X)

    @property
    def n_samples(self):
        """Number of vectors that can be found."""
        return len(self._X)

    def query(self, Q, k):
        """Find the k nearest rows; ties go to the smaller position."""
        positions = self._search.kneighbors(Q, n_neighbors=k, return_distance=False)
        distances = np.empty(positions.shape, dtype=np.float32)
        for i, row in enumerate(positions):
            # From differences: scikit-learn's |a|^2 - 2ab + |b|^2 leaves copies of one vector at unequal distances.
            for part in row_blocks(len(row), Q.shape[1]):
                difference = np.subtract(self._X[row[part]], Q[i], dtype=np.float64)
                distances[i, part] = np.sqrt((difference * difference).sum(axis=1))
        order = np.lexsort((positions, distances), axis=1)
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(positions, order, axis=1)


class Gallery:
    """The gallery of a re-ranker, and what has been found out about its rows so far.

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

    def __init__(self, X, index):
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

    def table(self, name, params, compute):
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

    def neighbors(self, rows, k):
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

    def similarities(self, rows, k):
        """Return the k + 1 nearest others of gallery rows with their cosines, shaped as by `neighbors`."""

        def compute(missing):
            positions, _ = self.neighbors(missing, k)
            values = pair_cosines(self, np.repeat(missing, positions.shape[1]), positions.ravel())
            return positions, values.reshape(positions.shape).astype(np.float32)

        return self.table("similarities", (k,), compute).get(rows)

    def inverse_lengths(self, rows):
        """Return 1 / length of gallery rows, float64; 0 for rows of zeros."""
        return self.table("inverse lengths", (), lambda missing: (inverse_lengths(self.X[missing]),)).get(rows)[0]

    def _find_neighbors(self, rows, k):
        width = max(0, min(k + 1, self.index.n_samples - 1))
        if width == 0 or len(rows) == 0:
            return np.empty((len(rows), width), dtype=np.int32), np.empty((len(rows), width), dtype=np.float32)
        distances, positions = self.index.query(np.ascontiguousarray(self.X[rows]), width + 1)
        keep = first_others(positions, rows, width)
        return positions[keep].reshape(-1, width).astype(np.int32), distances[keep].reshape(-1, width)


def inverse_lengths(X):
    """1 / length of each row, float64; 0 for rows of zeros."""
    lengths = np.sqrt(squared_norms(X))
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths != 0)


def pair_cosines(gallery, rows, columns):
    """Cosines of pairs of gallery rows, float64; 0 where a row is all zeros."""
    values = np.empty(len(rows))
    for part in row_blocks(len(rows), gallery.X.shape[1]):
        products = np.multiply(gallery.X[rows[part]], gallery.X[columns[part]], dtype=np.float64)
        values[part] = products.sum(axis=1)
    return values * gallery.inverse_lengths(rows) * gallery.inverse_lengths(columns)


def cosines(gallery, positions, unit_query):
    """Cosines of gallery rows with one query of length 1 (float64), float64.

    Not a matrix product: that would give copies of one vector results that differ in the last bits.
    """
    values = np.empty(len(positions))
    for part in row_blocks(len(positions), len(unit_query)):
        values[part] = (gallery.X[positions[part]] * unit_query).sum(axis=1)
    return values * gallery.inverse_lengths(positions)


def first_others(positions, own, k):
    """Mark the first k in each row of a ranking that are not the row's own position.

    Parameters
    ----------
    positions : ndarray of shape (m, width), int
        Positions.
    own : int, or ndarray of shape (m,), int
        The position to leave out; -1 leaves out none.
    k : int
        How many to mark.

    Returns
    -------
    ndarray of shape (m, width), bool
        Exactly k a row, or all others where there are fewer.
    """
    others = positions != np.reshape(own, (-1, 1))
    return others & (np.cumsum(others, axis=1) <= k)


def search_others(index, Q, k, own):
    """Find the k nearest rows of each query, the query itself left out.

    Parameters
    ----------
    index : object
        The index.
    Q : ndarray of shape (m, n_features), float32
        Queries.
    k : int
        How many to find; as many as there are where there are fewer.
    own : ndarray of shape (m,), int
        Position of each query in the gallery, -1 for none.

    Returns
    -------
    list of tuple of (positions, distances)
        One a query, at most k long, sorted by distance and then position.
    """
    distances, positions = index.query(Q, min(k + bool((own >= 0).any()), index.n_samples))
    keep = first_others(positions, own, k)
    found = []
    for i in range(len(Q)):
        p, d = positions[i, keep[i]].astype(np.intp), distances[i, keep[i]]
        order = np.lexsort((p, d))
        found.append((p[order], d[order]))
    return found
