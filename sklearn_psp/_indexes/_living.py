"""An index that grows and shrinks: a graph, the vectors added since, and what is left after removals."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sklearn_psp._indexes._distances import distance_keys, keys_to_result
from sklearn_psp._indexes._exact import WORKING_MEMORY, ExactIndex
from sklearn_psp._indexes._pynndescent import PyNNDescentIndex
from sklearn_psp._indexes._subset import Subset
from sklearn_psp._indexes._vectors import Vectors

__all__ = ["LivingIndex"]

# A graph is built anew once a tenth of it has been added, exact search once it has doubled (another engine may suit it
# better then), and either once a fifth has been removed; small ones not before so many, whose exact search takes less
# than a millisecond.
_ADDED, _DOUBLED, _REMOVED, _FEW = 0.1, 1.0, 0.2, 5_000


class LivingIndex:
    """Vectors that come and go, each found from the moment it is added and never after it is removed.

    It never changes: adding and removing return a new one, which shares all that stays. So queries that are under way
    are not disturbed, and an error loses nothing. Positions count all vectors, removed ones too.

    Parameters
    ----------
    vectors : Vectors
        All vectors, fit for search as `Index` says.
    metric : {"cosine", "euclidean"}
        The metric.
    graph : PyNNDescentIndex or None, default=None
        Approximate search over the first vectors; those after them are searched exactly. None: all are.
    mask : ndarray of shape (n_vectors,), bool, or None, default=None
        False for what has been removed; None: nothing has.
    n_built : int or None, default=None
        Number of vectors when the index was built; None: all.
    working_memory : float, default=64
        MiB for temporary arrays of exact search.
    """

    def __init__(self, vectors, *, metric, graph=None, mask=None, n_built=None, working_memory=WORKING_MEMORY):
        self._vectors = vectors
        self.metric = metric
        self.graph = graph
        self._subset = None if mask is None else Subset.of(mask)
        self._n_built = len(vectors) if n_built is None else n_built
        self._memory = working_memory

    @property
    def n_vectors(self):
        """Number of vectors, removed ones included."""
        return len(self._vectors)

    @property
    def n_samples(self):
        """Number of vectors that can be found."""
        return self.n_vectors if self._subset is None else self._subset.count

    @property
    def vectors(self):
        """All vectors, removed ones included, of shape (n_vectors, n_features)."""
        return self._vectors.rows

    @property
    def mask(self):
        """False for what has been removed, of shape (n_vectors,); None if nothing has."""
        return None if self._subset is None else self._subset.mask

    @property
    def worn(self):
        """Whether so much has come and gone that building anew pays."""
        removed, added = self.n_vectors - self.n_samples, self.n_vectors - self._n_built
        share = _DOUBLED if self.graph is None else _ADDED
        return removed > max(_FEW, _REMOVED * self.n_vectors) or added > max(_FEW, share * self._n_built)

    @cached_property
    def exact(self):
        """Exact search over all vectors; `Subset`s say which of them are to be found."""
        return self._exact_from(0)

    @cached_property
    def _added(self):
        return self._exact_from(self.graph.n_samples)

    def _exact_from(self, start):
        return ExactIndex(
            self.vectors[start:],
            metric=self.metric,
            working_memory=self._memory,
            half_norms=self._vectors.half_norms[start:],
        )

    def added(self, vectors):
        """Return an index with further vectors, at positions after all others.

        Parameters
        ----------
        vectors : ndarray of shape (n, n_features), float32
            Fit for search.

        Returns
        -------
        LivingIndex
            The new index.
        """
        mask = None if self.mask is None else np.concatenate((self.mask, np.ones(len(vectors), dtype=bool)))
        return self._with(self._vectors.added(vectors), mask)

    def removed(self, positions):
        """Return an index without some vectors.

        Parameters
        ----------
        positions : ndarray of shape (n,), int
            Which; positions of all others stay as they are.

        Returns
        -------
        LivingIndex
            The new index.
        """
        mask = np.ones(self.n_vectors, dtype=bool) if self.mask is None else self.mask.copy()
        mask[positions] = False
        return self._with(self._vectors, mask)

    def _with(self, vectors, mask):
        return LivingIndex(
            vectors,
            metric=self.metric,
            graph=self.graph,
            mask=mask,
            n_built=self._n_built,
            working_memory=self._memory,
        )

    def subset(self, mask=None):
        """Return which vectors may be found: those of a mask that have not been removed; None means all.

        Parameters
        ----------
        mask : ndarray of shape (n_vectors,), bool, or None, default=None
            A filter.

        Returns
        -------
        Subset or None
            For `query`, `query_radius` and the same of `exact`.
        """
        if mask is None:
            return self._subset
        return Subset.of(mask if self.mask is None else mask & self.mask)

    def query(self, Q, k, subset=None):
        """Find k near vectors of each query; see `Index.query`.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries.
        k : int in [0, n_samples], or in [0, subset.count]
            How many.
        subset : Subset or None, default=None
            As from `subset`; None: what has not been removed.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Sorted distances.
        positions : ndarray of shape (n_queries, k), intp
            Positions of the nearest found, ties by position.
        """
        subset = self._subset if subset is None else subset
        if self.graph is None:
            return self.exact.query(Q, k, subset)
        n = self.graph.n_samples
        if n == self.n_vectors:
            return self.graph.query(Q, k, subset)
        old, new = (None, None) if subset is None else (Subset.of(subset.mask[:n]), Subset.of(subset.mask[n:]))
        parts = []
        for engine, part, first in ((self.graph, old, 0), (self._added, new, n)):
            findable = engine.n_samples if part is None else part.count
            distances, positions = engine.query(Q, min(k, findable), part)
            parts.append(distance_keys(distances, positions + first))
        keys = np.concatenate(parts, axis=1)
        keys.sort(axis=1)
        return keys_to_result(keys[:, :k])

    def query_radius(self, Q, radius, subset=None):
        """Find all vectors within a radius, exactly; see `ExactIndex.query_radius`.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries.
        radius : float >= 0
            Largest distance.
        subset : Subset or None, default=None
            As from `subset`; None: what has not been removed.

        Returns
        -------
        counts, distances, positions : ndarray
            As from `ExactIndex.query_radius`.
        """
        return self.exact.query_radius(Q, radius, self._subset if subset is None else subset)

    def to_arrays(self):
        """Return everything as arrays, numbers and texts; for `from_arrays`."""
        return {
            "rows": self.vectors,
            "half_norms": self._vectors.half_norms,
            "metric": self.metric,
            "mask": self.mask,
            "n_built": self._n_built,
            "working_memory": self._memory,
            "graph": None if self.graph is None else {"n": self.graph.n_samples, **self.graph.to_arrays()},
        }

    @classmethod
    def from_arrays(cls, state):
        """Restore an index; see `PyNNDescentIndex.from_arrays`.

        Parameters
        ----------
        state : dict
            As from `to_arrays`.

        Returns
        -------
        LivingIndex
            The index.
        """
        rows, half_norms, metric, memory = (state[name] for name in ("rows", "half_norms", "metric", "working_memory"))
        graph = state["graph"]
        if graph is not None:
            n = graph["n"]
            exact = ExactIndex(rows[:n], metric=metric, working_memory=memory, half_norms=half_norms[:n])
            graph = PyNNDescentIndex.from_arrays(exact, graph)
        vectors, mask, n_built = Vectors.over(rows, half_norms), state["mask"], state["n_built"]
        return cls(vectors, metric=metric, graph=graph, mask=mask, n_built=n_built, working_memory=memory)

    def __getstate__(self):
        return self.to_arrays()

    def __setstate__(self, state):
        self.__dict__.update(self.from_arrays(state).__dict__)
