"""Index that grows and shrinks: fixed search over the first vectors, exact search of those added, and a mask."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from sklearn_psp._indexes._distances import distance_keys, keys_to_result
from sklearn_psp._indexes._exact import WORKING_MEMORY, ExactIndex
from sklearn_psp._indexes._protocol import FixedIndex, Recall, Settings, Subset
from sklearn_psp.utils._arrays import squared_norms

__all__ = ["DynamicIndex", "InMemoryEngine", "Vectors", "check_positive"]

# An engine's index is built anew once a tenth of it has been added, exact search once it has doubled (another engine
# may suit it better then), and either once a fifth has been removed; small ones not before so many, whose exact search
# takes less than a millisecond.
_ADDED, _DOUBLED, _REMOVED, _FEW = 0.1, 1.0, 0.2, 5_000


@dataclass
class _Memory:
    """Rows, half their squared lengths, and how many are in use, by the longest of those that share them."""

    rows: np.ndarray
    half_norms: np.ndarray
    filled: int

    @classmethod
    def of(cls, rows: np.ndarray, half_norms: np.ndarray) -> _Memory:
        """Copy rows to where others may be added behind them."""
        n = len(rows)
        # Memory that is not written to takes no room. A graph is built anew after a tenth has been added.
        capacity = n + n // 8 + 1024
        self = cls(np.empty((capacity, rows.shape[1]), dtype=np.float32), np.empty(capacity), n)
        self.rows[:n], self.half_norms[:n] = rows, half_norms
        return self


class Vectors:
    """Rows of float32 in an array with room at its end, which never change once they are there.

    Adding makes a new `Vectors` over the same memory, so that whoever searches the old one goes on undisturbed. Only
    the longest of those that share memory can be added to in place; any other is copied first.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features), float32
        The rows, which are copied.
    """

    def __init__(self, rows: np.ndarray):
        self._share(_Memory.of(rows, squared_norms(rows) / 2), len(rows))

    def _share(self, memory: _Memory, n: int) -> None:
        self._memory = memory
        self._n = n

    def __len__(self) -> int:
        return self._n

    @property
    def rows(self) -> np.ndarray:
        """The rows, as a view of shape (n, n_features)."""
        return self._memory.rows[: self._n]

    @property
    def half_norms(self) -> np.ndarray:
        """Half the squared length of each row, float64."""
        return self._memory.half_norms[: self._n]

    def added(self, rows: np.ndarray) -> Vectors:
        """Return these rows followed by further ones."""
        memory, stop = self._memory, self._n + len(rows)
        if memory.filled == self._n and stop <= len(memory.rows):
            memory.filled = stop
        else:
            memory = _Memory.of(np.concatenate((self.rows, rows)), np.empty(stop))
            memory.half_norms[: self._n] = self.half_norms
        memory.rows[self._n : stop] = rows
        memory.half_norms[self._n : stop] = squared_norms(rows) / 2
        return Vectors.sharing(memory, stop)

    @classmethod
    def sharing(cls, memory: _Memory, n: int) -> Vectors:
        """Return the first n rows of memory that others may share."""
        self = cls.__new__(cls)
        self._share(memory, n)
        return self

    @classmethod
    def over(cls, rows: np.ndarray, half_norms: np.ndarray) -> Vectors:
        """Return rows whose norms are known, not copied until something is added."""
        return cls.sharing(_Memory(rows, half_norms, len(rows)), len(rows))


class DynamicIndex:
    """Vectors that come and go, each found from the moment it is added and never after it is removed.

    It never changes: adding and removing return a new one, which shares all that stays. So queries that are under way
    are not disturbed, and an error loses nothing. Positions count all vectors, those that cannot be found too.

    Parameters
    ----------
    vectors : Vectors
        All vectors, fit for search.
    metric : {"cosine", "euclidean"}
        The metric.
    searcher : FixedIndex or None, default=None
        Search over the first `n_built` vectors; those after them are searched exactly. None: all are.
    mask : ndarray of shape (n_vectors,), bool, or None, default=None
        False for what cannot be found; None: all can.
    n_built : int or None, default=None
        Number of vectors when the index was built; None: all.
    n_hidden : int, default=0
        How many of them could not be found from the beginning.
    working_memory : float, default=64
        MiB for temporary arrays of exact search.
    """

    def __init__(
        self,
        vectors: Vectors,
        *,
        metric: str,
        searcher: FixedIndex | None = None,
        mask: np.ndarray | None = None,
        n_built: int | None = None,
        n_hidden: int = 0,
        working_memory: float = WORKING_MEMORY,
    ):
        self._vectors = vectors
        self.metric = metric
        self.searcher = searcher
        self._subset = None if mask is None else Subset.of(mask)
        self._n_built = len(vectors) if n_built is None else n_built
        self._n_hidden = n_hidden
        self._memory = working_memory

    @property
    def n_vectors(self) -> int:
        """Number of positions."""
        return len(self._vectors)

    @property
    def n_features(self) -> int:
        """Length of a vector."""
        return self._vectors.rows.shape[1]

    @property
    def n_samples(self) -> int:
        """Number of vectors that can be found."""
        return self.n_vectors if self._subset is None else self._subset.count

    @property
    def mask(self) -> np.ndarray | None:
        """False for what cannot be found, of shape (n_vectors,); None if all can."""
        return None if self._subset is None else self._subset.mask

    @property
    def recall(self) -> Recall | None:
        """Recall measured when it was built; None for search that misses nothing."""
        return None if self.searcher is None else self.searcher.recall

    @property
    def sublinear(self) -> bool:
        """Whether `query` compares a query with some of the vectors only."""
        return self.searcher is not None

    @property
    def stale(self) -> bool:
        """Whether so much has been added or removed that building anew pays."""
        # What could never be found has not been removed: building anew would not make it fewer.
        removed, added = self.n_vectors - self._n_hidden - self.n_samples, self.n_vectors - self._n_built
        share = _DOUBLED if self.searcher is None else _ADDED
        return removed > max(_FEW, _REMOVED * self.n_vectors) or added > max(_FEW, share * self._n_built)

    @cached_property
    def exact(self) -> ExactIndex:
        """Exact search over all vectors; `Subset`s say which of them are to be found."""
        return self._exact_from(0)

    @cached_property
    def _added(self) -> ExactIndex:
        return self._exact_from(self._n_built)

    def _exact_from(self, start: int) -> ExactIndex:
        return ExactIndex(
            self._vectors.rows[start:],
            metric=self.metric,
            working_memory=self._memory,
            half_norms=self._vectors.half_norms[start:],
        )

    def vectors_at(self, positions: np.ndarray | None = None) -> np.ndarray:
        """Return the vectors at some positions; None: all, not copied."""
        return self._vectors.rows if positions is None else self._vectors.rows[positions]

    def added(self, vectors: np.ndarray, findable: np.ndarray | None = None) -> DynamicIndex:
        """Return an index with further vectors, at positions after all others.

        Parameters
        ----------
        vectors : ndarray of shape (n, n_features), float32
            Fit for search.
        findable : ndarray of shape (n,), bool, or None, default=None
            False for those that only keep a place and are never found; None: all are.

        Returns
        -------
        DynamicIndex
            The new index.
        """
        mask, n_hidden = self.mask, self._n_hidden
        if mask is not None or findable is not None:
            old = np.ones(self.n_vectors, dtype=bool) if mask is None else mask
            new = np.ones(len(vectors), dtype=bool) if findable is None else findable
            mask, n_hidden = np.concatenate((old, new)), n_hidden + len(new) - int(np.count_nonzero(new))
        return self._with(self._vectors.added(vectors), mask, n_hidden)

    def removed(self, positions: np.ndarray) -> DynamicIndex:
        """Return an index that does not find some vectors any more.

        Parameters
        ----------
        positions : ndarray of shape (n,), int
            Which; positions of all others stay as they are.

        Returns
        -------
        DynamicIndex
            The new index.
        """
        mask = np.ones(self.n_vectors, dtype=bool) if self.mask is None else self.mask.copy()
        mask[positions] = False
        return self._with(self._vectors, mask, self._n_hidden)

    def _with(self, vectors: Vectors, mask: np.ndarray | None, n_hidden: int) -> DynamicIndex:
        return DynamicIndex(
            vectors,
            metric=self.metric,
            searcher=self.searcher,
            mask=mask,
            n_built=self._n_built,
            n_hidden=n_hidden,
            working_memory=self._memory,
        )

    def subset(self, mask: np.ndarray | None = None) -> Subset | None:
        """Return which vectors may be found: those of a mask that can be found; None means all.

        Parameters
        ----------
        mask : ndarray of shape (n_vectors,), bool, or None, default=None
            A filter.

        Returns
        -------
        Subset or None
            For the searches, also those of `exact`.
        """
        if mask is None:
            return self._subset
        return Subset.of(mask if self.mask is None else mask & self.mask)

    def query(
        self, Q: np.ndarray, k: int, subset: Subset | None = None, *, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find k near vectors of each query; see `Searcher.query`.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries.
        k : int in [0, n_samples], or in [0, subset.count]
            How many.
        subset : Subset or None, default=None
            As from `subset`; None: what can be found.
        exact : bool, default=False
            Whether to miss nothing, whatever the engine.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Sorted distances.
        positions : ndarray of shape (n_queries, k), intp
            Positions of the nearest found, ties by position.
        """
        subset = self._subset if subset is None else subset
        if self.searcher is None or exact:
            return self.exact.query(Q, k, subset)
        n = self._n_built
        if n == self.n_vectors:
            return self.searcher.query(Q, k, subset)
        old, new = (None, None) if subset is None else (Subset.of(subset.mask[:n]), Subset.of(subset.mask[n:]))
        parts = []
        for searcher, part, first, size in ((self.searcher, old, 0, n), (self._added, new, n, self.n_vectors - n)):
            distances, positions = searcher.query(Q, min(k, size if part is None else part.count), part)
            parts.append(distance_keys(distances, positions + first))
        keys = np.concatenate(parts, axis=1)
        keys.sort(axis=1)
        return keys_to_result(keys[:, :k])

    def query_radius(
        self, Q: np.ndarray, radius: float, subset: Subset | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find all vectors within a radius, exactly; see `ExactIndex.query_radius`."""
        return self.exact.query_radius(Q, radius, self._subset if subset is None else subset)

    def rank_all(self, Q: np.ndarray, subset: Subset | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Rank all vectors that can be found, exactly; see `ExactIndex.rank_all`."""
        return self.exact.rank_all(Q, self._subset if subset is None else subset)

    def to_arrays(self) -> dict[str, Any]:
        """Return everything as arrays, numbers and texts; for `from_arrays`."""
        return {
            "rows": self._vectors.rows,
            "half_norms": self._vectors.half_norms,
            "metric": self.metric,
            "mask": self.mask,
            "n_built": self._n_built,
            "n_hidden": self._n_hidden,
            "working_memory": self._memory,
            "searcher": None if self.searcher is None else self.searcher.to_arrays(),
        }

    @classmethod
    def from_arrays(cls, state: Mapping[str, Any], searcher: Any = None) -> DynamicIndex:
        """Restore an index.

        Parameters
        ----------
        state : mapping
            As from `to_arrays`.
        searcher : type or None, default=None
            Class of the fixed index that it had.

        Returns
        -------
        DynamicIndex
            The index.
        """
        rows, half_norms, metric, memory = (state[name] for name in ("rows", "half_norms", "metric", "working_memory"))
        n, core = state["n_built"], state["searcher"]
        if core is not None:
            exact = ExactIndex(rows[:n], metric=metric, working_memory=memory, half_norms=half_norms[:n])
            core = searcher.from_arrays(exact, core)
        return cls(
            Vectors.over(rows, half_norms),
            metric=metric,
            searcher=core,
            mask=state["mask"],
            n_built=n,
            n_hidden=state["n_hidden"],
            working_memory=memory,
        )

    def __getstate__(self) -> dict[str, Any]:
        # As arrays, so that the vectors that the searcher holds too are in a pickle once.
        return {"searcher": None if self.searcher is None else type(self.searcher), "arrays": self.to_arrays()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(self.from_arrays(state["arrays"], state["searcher"]).__dict__)


class InMemoryEngine:
    """Engine whose vectors are in memory: exact search, and with a class of `FixedIndex` the search it adds.

    Parameters
    ----------
    searcher : type or None, default=None
        The class; None: exact search alone.
    suits : callable or None, default=None
        As `Engine.suits`. None: that of the class, or never.
    """

    def __init__(self, searcher: Any = None, suits: Callable[[int, int], bool] | None = None):
        self.searcher = searcher
        self._suits: Callable[[int, int], bool] = suits or getattr(searcher, "suits", None) or _never
        named = set() if searcher is None else _keywords(searcher)
        self._settings = named & {"findable", *Settings._fields}
        self.params: frozenset[str] = frozenset(getattr(searcher, "params", named - self._settings)) | {
            "working_memory"
        }

    def suits(self, n_samples: int, n_features: int) -> bool:
        """Whether `algorithm="auto"` is to choose this engine; see `Engine.suits`."""
        return self._suits(n_samples, n_features)

    def check_params(self, params: Mapping[str, Any]) -> None:
        """Raise ValueError for a value in `engine_params` that is out of range."""
        check_positive(params, "working_memory")
        if hasattr(self.searcher, "check_params"):
            self.searcher.check_params(params)

    def build(
        self,
        vectors: np.ndarray,
        findable: np.ndarray | None,
        *,
        metric: str,
        settings: Settings,
        params: Mapping[str, Any],
    ) -> DynamicIndex:
        """Build an index; see `Engine.build`."""
        own = dict(params)
        memory = own.pop("working_memory", WORKING_MEMORY)
        held, searcher = Vectors(vectors), None
        if self.searcher is not None:
            exact = ExactIndex(held.rows, metric=metric, half_norms=held.half_norms, working_memory=memory)
            wishes = {"findable": findable, **settings._asdict()}
            searcher = self.searcher(exact, **{name: wishes[name] for name in self._settings}, **own)
        n_hidden = 0 if findable is None else len(findable) - int(np.count_nonzero(findable))
        return DynamicIndex(
            held, metric=metric, searcher=searcher, mask=findable, n_hidden=n_hidden, working_memory=memory
        )

    def load(self, state: Mapping[str, Any]) -> DynamicIndex:
        """Restore an index from what its `to_arrays` returned."""
        return DynamicIndex.from_arrays(state, self.searcher)


def check_positive(params: Mapping[str, Any], name: str) -> None:
    """Refuse a parameter of an engine that is there and no finite number above 0."""
    value = params.get(name, 1.0)
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < float("inf"):
        raise ValueError(f"engine_params[{name!r}] must be a number above 0; got {value!r}")


def _keywords(searcher: Any) -> set[str]:
    parameters = inspect.signature(searcher).parameters.values()
    return {one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def _never(n_samples: int, n_features: int) -> bool:
    return False
