"""Protocols of the search: what an index promises, what an engine needs to build one, and the values they exchange.

Vectors are fit for search when they come here: float32, C-contiguous, finite, and of unit length for the metric
"cosine". The same holds for queries. Results obey one definition, whatever the engine: the distance of two vectors is
`pair_distances`, neighbours are sorted by it, and ties go to the smaller position. An engine may miss neighbours; it
never repeats one and never returns fewer than asked for. Whatever searches can be pickled, and queried from several
threads at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

__all__ = ["Engine", "FixedIndex", "Index", "Recall", "Searcher", "Settings", "Subset"]

# Below this share, copying the rows that may be found is cheaper than comparing with those that may not.
_NARROW = 0.25


class Subset:
    """A choice among the vectors of an index: what is left after removals and filters.

    Parameters
    ----------
    mask : ndarray of shape (n_vectors,), bool
        True for each vector that may be found. Kept, not copied, and never changed.
    """

    def __init__(self, mask: np.ndarray):
        self.mask = mask
        self.count = int(np.count_nonzero(mask))

    @classmethod
    def of(cls, mask: np.ndarray) -> Subset | None:
        """Return the subset, or None where it leaves nothing out."""
        subset = cls(mask)
        return None if subset.count == len(mask) else subset

    @property
    def narrow(self) -> bool:
        """Whether copying what may be found pays."""
        return self.count < _NARROW * len(self.mask)

    @cached_property
    def positions(self) -> np.ndarray:
        """Positions of what may be found, ascending."""
        return np.flatnonzero(self.mask)


class Recall(NamedTuple):
    """Share of the k nearest that were found.

    Attributes
    ----------
    value : float in [0, 1]
        Mean over queries.
    error : float
        Its standard error.
    n_queries : int
        Queries it was measured with.
    """

    value: float
    error: float
    n_queries: int


class Settings(NamedTuple):
    """Wishes that are common to all engines; each heeds those that mean something to it.

    Attributes
    ----------
    target_recall : float in (0, 1] or None
        Share of the `recall_k` nearest to find.
    recall_k : int
        Neighbours that recall is measured with.
    n_jobs : int or None
        Threads that build, as joblib counts them.
    random_state : int, RandomState instance or None
        Seed.
    """

    target_recall: float | None = None
    recall_k: int = 10
    n_jobs: int | None = None
    random_state: Any = None


@runtime_checkable
class Searcher(Protocol):
    """Search for the nearest vectors, and no more: enough for a re-ranker."""

    @property
    def n_samples(self) -> int:
        """Number of vectors that can be found."""
        ...

    def query(self, Q: np.ndarray, k: int, subset: Subset | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest vectors of each query.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries.
        k : int in [0, n_samples], or in [0, subset.count]
            How many to find.
        subset : Subset or None, default=None
            Which vectors may be found; None: all.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Distances in the metric, ascending.
        positions : ndarray of shape (n_queries, k), intp
            Where these vectors stand in the array the index was built from; no repeats within a row.
        """
        ...


@runtime_checkable
class FixedIndex(Searcher, Protocol):
    """Search over vectors in memory that never change: the least an engine can be.

    A class of these is enough for `register_engine`: `DynamicIndex` adds, removes and filters around it, and searches
    exactly where an exact answer is promised. It is called with an `ExactIndex` over the vectors, with those of
    `findable` (mask of the vectors that may ever be found, or None for all) and `Settings` that its signature names,
    and with the parameters of its own that the user gave in `engine_params`: those of the set `params`, or without one
    its other keyword-only arguments. A class may also have `check_params(params)`, which raises ValueError, and
    `suits(n_samples, n_features)`, which says whether `algorithm="auto"` is to choose it; both are static methods.
    `query` is given every `subset`: what it leaves out is not found.
    """

    recall: Recall | None
    """What was measured; None for an engine that misses nothing."""

    def to_arrays(self) -> dict[str, Any]:
        """Return all but the vectors, as a dict of arrays, numbers, texts and such dicts and lists of them."""
        ...

    @classmethod
    def from_arrays(cls, exact: Any, state: Mapping[str, Any]) -> FixedIndex:
        """Restore an index over the same vectors, which `exact` holds."""
        ...


@runtime_checkable
class Index(Searcher, Protocol):
    """All that a gallery asks of an index. It never changes: `added` and `removed` return another one.

    Positions count all vectors from the first, those that cannot be found too: removed ones keep their places, and so
    do those that never could be found. Vectors need not be in memory: whoever needs some asks for `vectors_at`.
    """

    metric: str
    """The metric, "cosine" or "euclidean"."""

    @property
    def n_vectors(self) -> int:
        """Number of positions."""
        ...

    @property
    def n_features(self) -> int:
        """Length of a vector."""
        ...

    @property
    def mask(self) -> np.ndarray | None:
        """False for what cannot be found, of shape (n_vectors,); None if all can."""
        ...

    @property
    def recall(self) -> Recall | None:
        """Recall measured when it was built; None for an engine that misses nothing."""
        ...

    @property
    def sublinear(self) -> bool:
        """Whether `query` compares a query with some of the vectors only, and so costs less than `query_radius`."""
        ...

    @property
    def stale(self) -> bool:
        """Whether so much has been added or removed that building anew pays."""
        ...

    def vectors_at(self, positions: np.ndarray | None = None) -> np.ndarray:
        """Return the vectors at some positions, of shape (n, n_features); None: all. Not to be written to."""
        ...

    def query(
        self, Q: np.ndarray, k: int, subset: Subset | None = None, *, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest vectors, as `Searcher.query`; with `exact` without a miss."""
        ...

    def query_radius(
        self, Q: np.ndarray, radius: float, subset: Subset | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find all vectors within a radius, without a miss; returns as `ExactIndex.query_radius`."""
        ...

    def rank_all(self, Q: np.ndarray, subset: Subset | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Rank all that can be found, without a miss; yields as `ExactIndex.rank_all`."""
        ...

    def subset(self, mask: np.ndarray | None = None) -> Subset | None:
        """Return what can be found and a mask lets through, for the searches; None where that is all."""
        ...

    def added(self, vectors: np.ndarray, findable: np.ndarray | None = None) -> Index:
        """Return an index with further vectors behind the others; `findable` is False for those never to be found."""
        ...

    def removed(self, positions: np.ndarray) -> Index:
        """Return an index that does not find some vectors any more; the positions of all others stay."""
        ...

    def to_arrays(self) -> dict[str, Any]:
        """Return everything as a dict of arrays, numbers, texts and such dicts and lists of them."""
        ...


class Engine(Protocol):
    """Builds indexes and restores them from files."""

    params: frozenset[str]
    """Names that `engine_params` may hold."""

    def suits(self, n_samples: int, n_features: int) -> bool:
        """Whether `algorithm="auto"` is to choose this engine for so many vectors of this length."""
        ...

    def check_params(self, params: Mapping[str, Any]) -> None:
        """Raise ValueError for a value in `engine_params` that is out of range."""
        ...

    def build(
        self,
        vectors: np.ndarray,
        findable: np.ndarray | None,
        *,
        metric: str,
        settings: Settings,
        params: Mapping[str, Any],
    ) -> Index:
        """Build an index.

        Parameters
        ----------
        vectors : ndarray of shape (n_vectors, n_features), float32
            The vectors, which may change afterwards.
        findable : ndarray of shape (n_vectors,), bool, or None
            False for a vector of zeros that only keeps a place and is never found; None: all are found.
        metric : {"cosine", "euclidean"}
            The metric.
        settings : Settings
            What was asked for.
        params : mapping of str to object
            Those of `engine_params` that the engine takes.

        Returns
        -------
        Index
            The index.
        """
        ...

    def load(self, state: Mapping[str, Any]) -> Index:
        """Restore an index from what its `to_arrays` returned."""
        ...
