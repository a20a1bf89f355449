"""PyNNDescent as an engine, with its sharp edges taken off."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sklearn_psp._indexes._distances import (
    distance_keys,
    expand_duplicates,
    group_duplicates,
    half_to_distance,
    keys_to_result,
    nearest_of_candidates,
)
from sklearn_psp._indexes._dynamic import check_positive
from sklearn_psp._indexes._exact import ExactIndex
from sklearn_psp._indexes._graph import (
    DEFAULT_LEAF_BUDGET,
    HeldOut,
    build_graph,
    choose_walk,
    draw_sample,
    forget_neighbors,
    graph_arrays,
    library_version,
    restore_graph,
    set_leaf_budget,
)
from sklearn_psp._indexes._protocol import Recall, Subset
from sklearn_psp.exceptions import IndexVersionWarning, RecallWarning
from sklearn_psp.utils._arrays import blocks
from sklearn_psp.utils._warnings import warn_user

__all__ = ["DEFAULT_DEGREE", "DEFAULT_EPSILON", "PyNNDescentIndex"]

DEFAULT_DEGREE = 30
# At 100,000 x 512 epsilon 0.1 / 0.2 / 0.3 found .943 / .986 / .993 of the 10 nearest in 34 / 44 / 57 us.
DEFAULT_EPSILON = 0.2
# Leaves to start from, tried in turn. Of 1,000,000 x 256 vectors in 10,000 clusters walks from 16 leaves found .86 of
# the 10 nearest in 120 us and .88 in 3,700 us, walks from 64 leaves .97 in 250 us, from 256 leaves .994 in 830 us.
_LEAF_BUDGETS = (DEFAULT_LEAF_BUDGET, 32, 64, 128, 256)
# Degrees tried after the first where no walk reaches the recall that was asked for.
_MORE_DEGREES = (45, 70)
# Those of NNDescent's constructor that may be set; the rest belongs to this class.
_GRAPH_PARAMS = frozenset(
    {
        "delta",
        "diversify_prob",
        "leaf_size",
        "low_memory",
        "max_candidates",
        "max_rptree_depth",
        "n_iters",
        "n_neighbors",
        "n_trees",
        "pruning_degree_multiplier",
        "search_tree_leaf_budget",
    }
)
_QUERY_ROWS = 8192
# A subset of so few is searched exactly, and no walk for the few of a subset is longer than this.
_EXACT_SUBSET = 20_000
_WIDEST = 512


class PyNNDescentIndex:
    """Find most of the nearest neighbours by walking a neighbourhood graph (Dong et al. 2011).

    What the library leaves to its caller is done here: exact duplicates are indexed once and found all (it misses up to
    half of them); distances are recomputed (its cosine distances above 1 are all 1); rows with unfilled or repeated
    places, and k beyond a quarter of the distinct vectors, are searched exactly; queries take turns (they share a
    workspace, and threads would get each other's rows; the walk holds Python's lock in any case); arrays are writable
    float32 copies, after unpickling too (others stall or compile anew); numba's number of threads is left as found;
    the recall is measured, with vectors that are held out, and epsilon set by it.

    Parameters
    ----------
    exact : ExactIndex
        Exact search over the same vectors, which are kept there.
    findable : ndarray of shape (n_vectors,), bool, or None, default=None
        False for vectors that are never found; they are not in the graph. None: all are found.
    n_jobs : int or None, default=None
        Threads that build the graph, as joblib counts them, at most one per core. Queries use one.
    random_state : int, RandomState instance or None, default=None
        Seed. The same seed and number of threads give the same graph.
    target_recall : float in (0, 1] or None, default=None
        Share of the `recall_k` nearest to find: sets epsilon, the leaves a walk starts from and, if that does not
        suffice, the degree. None: none of them.
    recall_k : int, default=10
        Neighbours that recall is measured with.
    epsilon : float > 0 or None, default=None
        How far a walk goes beyond the k-th distance: more finds more and takes longer. None: as `target_recall` needs,
        or 0.2 without it.
    n_neighbors : int or None, default=None
        Neighbours of each vector in the graph. Fewer than 4 times as many distinct vectors need no graph: they are
        searched exactly. None: 30, or more if `target_recall` needs it.
    **graph_params : dict
        Further parameters of `pynndescent.NNDescent`, those in `params`.

    Attributes
    ----------
    recall : Recall or None
        What was measured; None where the search is exact.

    References
    ----------
    W. Dong, M. Charikar and K. Li, "Efficient k-nearest neighbor graph construction for generic similarity measures",
    WWW 2011.
    """

    params = _GRAPH_PARAMS | {"epsilon"}
    recall: Recall | None
    _graph: Any  # pynndescent.NNDescent; None where the search is exact
    _build: dict[str, Any]

    def __init__(
        self,
        exact: ExactIndex,
        *,
        findable: np.ndarray | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        target_recall: float | None = None,
        recall_k: int = 10,
        epsilon: float | None = None,
        n_neighbors: int | None = None,
        **graph_params: Any,
    ):
        self._take(exact, *_distinct(exact.vectors, findable))
        self._epsilon = epsilon or DEFAULT_EPSILON
        degrees = (DEFAULT_DEGREE, *_MORE_DEGREES) if n_neighbors is None else (n_neighbors,)
        if epsilon is not None or target_recall is None:
            degrees = degrees[:1]
        if self._n_distinct < 4 * degrees[0]:
            return
        random_state = check_random_state(random_state)
        self._build = {"random_state": int(random_state.randint(np.iinfo(np.int32).max)), "n_jobs": n_jobs}
        self._build |= graph_params
        sample = draw_sample(self._n_distinct, random_state)
        recall_k = min(recall_k, self._n_distinct // 4)
        for degree in degrees:
            self._build["n_neighbors"] = degree
            self._graph = build_graph(self._graph_vectors(), **self._build)
            held_out = HeldOut(self._graph, self._distinct_exact(), sample, recall_k)
            forget_neighbors(self._graph)
            if epsilon is not None or target_recall is None:
                self.recall = held_out.recall(self._epsilon)
                return
            leaf_budget = graph_params.get("search_tree_leaf_budget")
            budgets = _LEAF_BUDGETS if leaf_budget is None else (leaf_budget,)
            self._epsilon, leaf_budget, reached = choose_walk(held_out, target_recall, budgets)
            self.recall = reached
            self._build["search_tree_leaf_budget"] = leaf_budget
            set_leaf_budget(self._graph, leaf_budget)
            if reached.value >= target_recall:
                return
        warn_user(
            RecallWarning(
                f"target_recall={target_recall} is not reached: with epsilon={self._epsilon} and a graph of degree "
                f"{degree}, the most that is tried, {reached.value:.3f} of the {recall_k} nearest were found "
                f"({reached.n_queries} held-out queries). algorithm='exact' finds all"
            )
        )

    def _take(self, exact, distinct, duplicates):
        self._exact, self._distinct, self._duplicates = exact, distinct, duplicates
        # What the graph holds: every vector that can be found is a distinct one or a duplicate of one.
        held = distinct if duplicates is None else duplicates[1]
        self._held = None if held is None or len(held) == exact.n_samples else Subset(_mask(exact.n_samples, held))
        self._turn = threading.Lock()
        self._graph, self._build, self.recall = None, {}, None

    @staticmethod
    def check_params(params: Mapping[str, Any]) -> None:
        """Raise ValueError for a value in `engine_params` that is out of range."""
        # PyNNDescent finds next to nothing with epsilon=0, and does not say so.
        check_positive(params, "epsilon")
        degree = params.get("n_neighbors", 2)
        if isinstance(degree, bool) or not isinstance(degree, Integral) or degree < 2:
            raise ValueError(
                f"engine_params['n_neighbors'], the degree of the graph, must be an int >= 2; got {degree!r}"
            )

    @property
    def n_samples(self) -> int:
        """Number of vectors that can be found."""
        return self._exact.n_samples if self._held is None else self._held.count

    @property
    def _n_distinct(self):
        return self._exact.n_samples if self._distinct is None else len(self._distinct)

    def query(self, Q: np.ndarray, k: int, subset: Subset | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find k near vectors of each query; see `Index.query`.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries, prepared like the vectors.
        k : int in [0, n_samples], or in [0, subset.count]
            How many.
        subset : Subset or None, default=None
            Which of the findable vectors may be found; None: all. Narrow ones are searched exactly.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Sorted distances.
        positions : ndarray of shape (n_queries, k), intp
            Positions of the nearest found, ties by position.
        """
        if subset is not None and subset.count == self.n_samples:
            subset = None
        if subset is None and len(Q) == 1 and k and self._graph is not None and 4 * k <= self._n_distinct:
            done, found = self._walk(Q, k, k, None)
            return found if done[0] else self._exact.query(Q, k, self._held)
        distances = np.empty((len(Q), k), dtype=np.float32)
        positions = np.empty((len(Q), k), dtype=np.intp)
        waiting = np.arange(len(Q))
        for width in self._widths(k, subset):
            unsettled = []
            for block in blocks(len(waiting), _QUERY_ROWS):
                rows = waiting[block]
                done, found = self._walk(Q[rows], k, width, subset)
                if found is not None:
                    distances[rows[done]], positions[rows[done]] = found
                unsettled.append(rows[~done])
            waiting = np.concatenate(unsettled) if unsettled else waiting
        if len(waiting):
            exact = self._exact.query(Q[waiting], k, self._held if subset is None else subset)
            distances[waiting], positions[waiting] = exact
        return distances, positions

    def _widths(self, k: int, subset: Subset | None) -> Iterator[int]:
        """Yield how many distinct vectors to walk to: more, if some of them may not be found; none if exact pays."""
        widest = self._n_distinct // 4 if self._graph is not None and k else 0
        if subset is None:
            if k <= widest:
                yield k
            return
        if subset.count <= _EXACT_SUBSET:
            return
        width = int(1.2 * k * self.n_samples / subset.count) + 2
        while width <= min(widest, max(_WIDEST, 2 * k)):
            yield width
            width *= 4

    def _walk(self, Q, k, width, subset):
        """Walk to `width` distinct vectors; which queries have k results, and those."""
        with self._turn:
            found, proxies = self._graph.query(Q, k=width, epsilon=self._epsilon)
            found, done = found.astype(np.intp), np.isfinite(proxies).all(axis=1)
        ordered = np.sort(found, axis=1)
        done &= (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
        done &= ordered[:, 0] >= 0
        if self._duplicates is None and self._distinct is not None:
            found = self._distinct[found]  # the graph holds some of the vectors, each of them once
        if self._duplicates is None and subset is None and done.all():
            return done, self._sorted(Q, found)
        # Of one set of duplicates only the first k can be results, unless those may not be found.
        rows, columns = expand_duplicates(found, self._duplicates, width if subset is not None else k)
        if subset is not None:
            allowed = subset.mask[columns]
            rows, columns = rows[allowed], columns[allowed]
            done &= np.bincount(rows, minlength=len(Q)) >= k
        if not done.any():
            return done, None
        if not done.all():
            kept = done[rows]
            rows, columns = (np.cumsum(done) - 1)[rows[kept]], columns[kept]
            Q = Q[done]
        return done, nearest_of_candidates(Q, rows, columns, self._exact.vectors, k, self._exact.metric)

    def _sorted(self, Q, found):
        from sklearn_psp._indexes._settle import half_squared_distances

        half = half_squared_distances(Q, self._exact.vectors, found)
        keys = distance_keys(half_to_distance(half, self._exact.metric), found)
        keys.sort(axis=1)
        return keys_to_result(keys)

    def _graph_vectors(self):
        return self._exact.vectors if self._distinct is None else self._exact.vectors[self._distinct]

    def _distinct_exact(self):
        if self._distinct is None:
            return self._exact
        return ExactIndex(self._graph_vectors(), metric=self._exact.metric, working_memory=self._exact.working_memory)

    def to_arrays(self) -> dict[str, Any]:
        """Return all but the vectors, as arrays, numbers and texts; for `from_arrays`."""
        state: dict[str, Any] = {
            "epsilon": self._epsilon,
            "recall": None if self.recall is None else list(self.recall),
            "distinct": self._distinct,
            "copies": None if self._duplicates is None else list(self._duplicates),
            "graph": None,
        }
        if self._graph is not None:
            with self._turn:
                state |= {"graph": graph_arrays(self._graph), "build": self._build, "made_by": library_version()}
        return state

    @classmethod
    def from_arrays(cls, exact: ExactIndex, state: Mapping[str, Any]) -> PyNNDescentIndex:
        """Restore an index over the same vectors; nothing is built, unless the library is of another version.

        Parameters
        ----------
        exact : ExactIndex
            Exact search over the vectors.
        state : dict
            As from `to_arrays`.

        Returns
        -------
        PyNNDescentIndex
            The index.

        Warns
        -----
        IndexVersionWarning
            If the graph was made by another version of PyNNDescent, and is built anew.
        """
        self = cls.__new__(cls)
        self._take(exact, state["distinct"], None if state["copies"] is None else tuple(state["copies"]))
        self._epsilon = state["epsilon"]
        self.recall = None if state["recall"] is None else Recall(*state["recall"])
        if state["graph"] is None:
            return self
        self._build = state["build"]
        if state["made_by"] == library_version():
            self._graph = restore_graph(state["graph"], self._graph_vectors())
            return self
        warn_user(
            IndexVersionWarning(
                f"the graph was made by PyNNDescent {state['made_by']}, and this is {library_version()}: it is built "
                "anew, which takes as long as at first. Save the gallery again to keep the new graph"
            )
        )
        self._graph = build_graph(self._graph_vectors(), **self._build)
        forget_neighbors(self._graph)
        return self

    def __getstate__(self):
        return {"exact": self._exact, "state": self.to_arrays()}

    def __setstate__(self, state):
        self.__dict__.update(self.from_arrays(state["exact"], state["state"]).__dict__)


def _distinct(vectors, findable):
    """Group the duplicates among the vectors that can be found, as `group_duplicates` does for all."""
    if findable is None:
        return group_duplicates(vectors)
    at = np.flatnonzero(findable)
    distinct, duplicates = group_duplicates(vectors[at])
    return (
        at if distinct is None else at[distinct],
        None if duplicates is None else (duplicates[0], at[duplicates[1]]),
    )


def _mask(n, positions):
    mask = np.zeros(n, dtype=bool)
    mask[positions] = True
    return mask
