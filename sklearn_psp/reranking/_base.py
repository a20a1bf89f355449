"""Base class of the re-rankers: the promises they keep, and the search that gives them a shortlist."""

from __future__ import annotations

import numbers
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_psp._indexes import ExactIndex
from sklearn_psp.reranking._neighbors import GalleryNeighbors
from sklearn_psp.utils._arrays import blocks, first_others
from sklearn_psp.utils._compat import _fit_context

__all__ = ["Reranker", "in_order", "search_others"]

# Numbers of one block of queries, 16 MiB in float32: vectors and shortlists together.
_BLOCK = 1 << 22
# Below it, differences are rounding: equal candidates keep the order of the plain search.
_DECIMALS = 12


class Reranker(BaseEstimator):
    """Base of the re-rankers: a plain search gives a shortlist, the re-ranker its new order.

    To write one, derive from this class and implement `shortlist_distances`; the length of the shortlist is the
    parameter or attribute `shortlist`, 1,000 by default. The promises:

    - `fit` keeps references to the gallery and its index and computes nothing about the gallery. A changed gallery is a
      new `fit`.
    - Neighbours of gallery vectors are found when they are first needed, and kept: memory is of order n k. They are
      left out of pickles and clones, and several threads may re-rank at once.
    - A query that is itself part of the gallery (`own`) is left out of its results, of its neighbours and of the
      neighbours of every other vector: the results are those of a gallery without it.
    - Results have no repeats and are sorted by the re-ranker's distance; ties by the distance of the plain search,
      then by position.

    Similarities are cosines, also where the index has another metric.

    Attributes
    ----------
    gallery_ : object
        The gallery: its vectors `X`, its `index`, and `neighbors(rows, k)`.
    n_features_in_ : int
        Number of features of the gallery.
    """

    _parameter_constraints: dict = {}
    shortlist: float = 1000  # infinity: all results are put in a new order

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: npt.ArrayLike, y: Any = None, *, index: Any = None) -> Self:
        """Take the gallery; nothing is computed.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32
            The gallery, prepared as for the index: rows of unit length for cosine distances. An array of float32 is
            kept by reference.
        y : None
            Not used.
        index : object, default=None
            Searches the rows of X: has `n_samples`, the number of rows that can be found (rows may have been removed),
            and `query(Q, k)`, which returns distances (float32, ascending) and positions of shape (n_queries, k). None
            searches exactly, by Euclidean distance.

        Returns
        -------
        self : object
            The re-ranker.

        Raises
        ------
        ValueError
            If a parameter is out of range, or X is not a matrix.
        TypeError
            If the index has no `n_samples` or no `query`.
        """
        if index is not None and not (hasattr(index, "query") and hasattr(index, "n_samples")):
            raise TypeError(f"index has to have n_samples and query(Q, k), got {index!r}; None searches exactly")
        # With an index the vectors have been checked by whoever built it, and removed rows may hold anything.
        vectors = validate_data(self, X, dtype=np.float32, order="C", ensure_all_finite=index is None)
        self.gallery_ = GalleryNeighbors(vectors, ExactIndex(vectors, metric="euclidean") if index is None else index)
        return self

    def rerank(
        self, Q: npt.ArrayLike, n_neighbors: int = 10, *, index: Any = None, own: npt.ArrayLike | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest gallery vectors of each query by the re-ranker's distance.

        Parameters
        ----------
        Q : array-like of shape (n_queries, n_features), float32
            Queries, prepared like the gallery.
        n_neighbors : int, default=10
            Number of results.
        index : object, default=None
            Searches for the shortlist of the queries instead of the index given to `fit`: a view of the same gallery,
            in the same metric, that finds only some of its rows. Only these can be results, and only these are
            neighbours of a query; neighbours of gallery vectors come from the whole gallery.
        own : array-like of shape (n_queries,), int, default=None
            Position of each query in the gallery, -1 for a query that is not part of it. None is -1 for all.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), float32
            Distances of the re-ranker, ascending.
        positions : ndarray of shape (n_queries, n_neighbors), intp
            Positions in the gallery.

        Raises
        ------
        ValueError
            If Q has another number of features than the gallery, or there are fewer than `n_neighbors` rows to find.
        """
        check_is_fitted(self)
        queries = validate_data(self, Q, dtype=np.float32, order="C", reset=False)
        check_scalar(n_neighbors, "n_neighbors", numbers.Integral, min_val=1)
        index = self.gallery_.index if index is None else index
        places = _check_own(own, len(queries), len(self.gallery_.X))
        if n_neighbors > index.n_samples:
            raise ValueError(_too_few(n_neighbors, index.n_samples))
        distances = np.empty((len(queries), n_neighbors), dtype=np.float32)
        positions = np.empty((len(queries), n_neighbors), dtype=np.intp)
        width = queries.shape[1] + 4 * min(index.n_samples, max(n_neighbors, self.shortlist))
        for rows in blocks(len(queries), max(1, _BLOCK // width)):
            ranked = self._rank(queries[rows], places[rows], index, n_neighbors)
            for i, (found, values) in enumerate(ranked, start=rows.start):
                if len(found) < n_neighbors:
                    raise ValueError(_too_few(n_neighbors, len(found), i))
                distances[i], positions[i] = values[:n_neighbors], found[:n_neighbors]
        return distances, positions

    def shortlist_distances(
        self, query: np.ndarray, positions: np.ndarray, distances: np.ndarray, own: int = -1
    ) -> np.ndarray:
        """Compute the re-ranker's distances of one query to its shortlist.

        Parameters
        ----------
        query : ndarray of shape (n_features,), float32
            The query.
        positions : ndarray of shape (n_candidates,), intp
            The shortlist: positions in the gallery, nearest first, without the query itself.
        distances : ndarray of shape (n_candidates,), float32
            Distances of the plain search.
        own : int, default=-1
            Position of the query in the gallery, -1 for none. It must not count as a neighbour of anything.

        Returns
        -------
        ndarray of shape (n_candidates,), float64
            The new distances, smaller for what should come first.
        """
        raise NotImplementedError(f"{type(self).__name__} has to implement shortlist_distances")

    def _rank(self, Q, own, index, n_neighbors):
        """Yield positions and distances of each query of a block, in order."""
        found = search_others(index, Q, max(self.shortlist, n_neighbors), own)
        self._prepare(np.unique(np.concatenate([positions for positions, _ in found])))
        for query, itself, (positions, plain) in zip(Q, own.tolist(), found, strict=True):
            if len(positions):
                yield in_order(self.shortlist_distances(query, positions, plain, itself), plain, positions)
            else:
                yield positions, plain

    def _prepare(self, candidates):
        """Find out in one go what the queries of a block need to know about the union of their shortlists."""


def in_order(distances: np.ndarray, plain: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort by distance, then by that of the plain search, then by position."""
    # Before the rounding to float32, which near 1 would make equal what diffusion can still tell apart.
    order = np.lexsort((positions, plain, np.round(distances, _DECIMALS)))
    return positions[order], distances[order]


def search_others(index: Any, Q: np.ndarray, k: float, own: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
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
    distances, positions = index.query(Q, int(min(k + bool((own >= 0).any()), index.n_samples)))
    keep = first_others(positions, own, k)
    found = []
    for i in range(len(Q)):
        p, d = positions[i, keep[i]].astype(np.intp), distances[i, keep[i]]
        order = np.lexsort((p, d))
        found.append((p[order], d[order]))
    return found


def _check_own(own, n_queries, n_samples):
    if own is None:
        return np.full(n_queries, -1)
    own = np.asarray(own)
    if own.shape != (n_queries,) or own.dtype.kind not in "iu":
        raise ValueError(
            f"own has to be {n_queries} integers, the position of each query in the gallery, got an array of shape "
            f"{own.shape} and type {own.dtype}; -1 stands for a query that is not in the gallery"
        )
    outside = (own < -1) | (own >= n_samples)
    if outside.any():
        i = int(outside.argmax())
        raise ValueError(
            f"own[{i}] = {own[i]} is not a position in the gallery of {n_samples}; -1 stands for a query that is not "
            "in the gallery"
        )
    return own.astype(np.intp)


def _too_few(n_neighbors, found, query=None):
    whose = "" if query is None else f" for Q[{query}], which is not among its own results"
    return f"n_neighbors={n_neighbors}, but only {found} can be found{whose}; ask for at most {found}"
