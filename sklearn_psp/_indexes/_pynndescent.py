"""PyNNDescent as an engine, with its sharp edges taken off."""

from __future__ import annotations

import threading
import warnings

import numpy as np
from sklearn.utils import check_random_state

from sklearn_psp._indexes._candidates import nearest_of_candidates
from sklearn_psp._indexes._copies import expand_copies, group_copies
from sklearn_psp._indexes._distances import distance_keys, half_to_distance, keys_to_result
from sklearn_psp._indexes._exact import ExactIndex
from sklearn_psp._indexes._graph import (
    DEFAULT_LEAF_BUDGET,
    build_graph,
    forget_neighbors,
    graph_arrays,
    library_version,
    restore_graph,
    set_leaf_budget,
)
from sklearn_psp._indexes._recall import HeldOut, Recall, choose_walk, draw_sample
from sklearn_psp.exceptions import IndexVersionWarning, RecallWarning
from sklearn_psp.utils._arrays import blocks

__all__ = ["DEFAULT_DEGREE", "DEFAULT_EPSILON", "GRAPH_PARAMS", "PyNNDescentIndex"]

DEFAULT_DEGREE = 30
# At 100,000 x 512 epsilon 0.1 / 0.2 / 0.3 found .943 / .986 / .993 of the 10 nearest in 34 / 44 / 57 us.
DEFAULT_EPSILON = 0.2
# Leaves to start from, tried in turn. Of 1,000,000 x 256 vectors in 10,000 clusters walks from 16 leaves found .86 of
# the 10 nearest in 120 us and .88 in 3,700 us, walks from 64 leaves .97 in 250 us, from 256 leaves .994 in 830 us.
_LEAF_BUDGETS = (DEFAULT_LEAF_BUDGET, 32, 64, 128, 256)
# Degrees tried after the first where no walk reaches the recall that was asked for.
_MORE_DEGREES = (45, 70)
# What of NNDescent's constructor may be set; the rest belongs to this class.
GRAPH_PARAMS = frozenset(
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

    What the library leaves to its caller is done here: exact copies are indexed once and found all (it misses up to
    half of them); distances are recomputed (its cosine distances above 1 are all 1); rows with unfilled or repeated
    places, and k beyond a quarter of the distinct vectors, are searched exactly; queries take turns (they share a
    workspace, and threads would get each other's rows; the walk holds Python's lock in any case); arrays are writable
    float32 copies, after unpickling too (others stall or compile anew); numba's number of threads is left as found;
    the recall is measured, with vectors that are held out, and epsilon set by it.

    Parameters
    ----------
    exact : ExactIndex
        Exact search over the same vectors, which are kept there.
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
        Further parameters of `pynndescent.NNDescent`, see `GRAPH_PARAMS`.

    Attributes
    ----------
    recall : Recall or None
        What was measured; None where the search is exact.

    References
    ----------
    W. Dong, M. Charikar and K. Li, "Efficient k-nearest neighbor graph construction for generic similarity measures",
    WWW 2011.
    """

    def __init__(
        self,
        exact,
        *,
        n_jobs=None,
        random_state=None,
        target_recall=None,
        recall_k=10,
        epsilon=None,
        n_neighbors=None,
        **graph_params,
    ):
        self._exact = exact
        distinct, self._copies = group_copies(exact.vectors)
        self._distinct = distinct
        self._turn = threading.Lock()
        self._graph, self._epsilon, self.recall = None, epsilon or DEFAULT_EPSILON, None
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
            self._epsilon, leaf_budget, self.recall = choose_walk(held_out, target_recall, budgets)
            self._build["search_tree_leaf_budget"] = leaf_budget
            set_leaf_budget(self._graph, leaf_budget)
            if self.recall.value >= target_recall:
                return
        warnings.warn(
            RecallWarning(
                f"target_recall={target_recall} is not reached: with epsilon={self._epsilon} and a graph of degree "
                f"{degree}, the most that is tried, {self.recall.value:.3f} of the {recall_k} nearest were found "
                f"({self.recall.n_queries} held-out queries). algorithm='exact' finds all"
            ),
            stacklevel=2,
        )

    @property
    def n_samples(self):
        """Number of vectors that can be found."""
        return self._exact.n_samples

    @property
    def _n_distinct(self):
        return self._exact.n_samples if self._distinct is None else len(self._distinct)

    def query(self, Q, k, subset=None):
        """Find k near vectors of each query; see `Index.query`.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries, prepared like the vectors.
        k : int in [0, n_samples], or in [0, subset.count]
            How many.
        subset : Subset or None, default=None
            Which vectors may be found; None: all. Narrow ones are searched exactly.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Sorted distances.
        positions : ndarray of shape (n_queries, k), intp
            Positions of the nearest found, ties by position.
        """
        if subset is None and len(Q) == 1 and k and self._graph is not None and 4 * k <= self._n_distinct:
            done, found = self._walk(Q, k, k, None)
            return found if done[0] else self._exact.query(Q, k)
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
            distances[waiting], positions[waiting] = self._exact.query(Q[waiting], k, subset)
        return distances, positions

    def _widths(self, k, subset):
        """Yield how many distinct vectors to walk to: more, if some of them may not be found; none if exact pays."""
        widest = self._n_distinct // 4 if self._graph is not None and k else 0
        if subset is None:
            if k <= widest:
                yield k
            return
        if subset.count <= _EXACT_SUBSET:
            return
        width = int(1.2 * k * self._exact.n_samples / subset.count) + 2
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
        if self._copies is None and subset is None and done.all():
            return done, self._sorted(Q, found)
        # Of one set of copies only the first k can be results, unless those may not be found.
        rows, columns = expand_copies(found, self._copies, width if subset is not None else k)
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

    def to_arrays(self):
        """Return all but the vectors, as arrays, numbers and texts; for `from_arrays`."""
        state = {
            "epsilon": self._epsilon,
            "recall": None if self.recall is None else list(self.recall),
            "distinct": self._distinct,
            "copies": None if self._copies is None else list(self._copies),
            "graph": None,
        }
        if self._graph is not None:
            with self._turn:
                state |= {"graph": graph_arrays(self._graph), "build": self._build, "made_by": library_version()}
        return state

    @classmethod
    def from_arrays(cls, exact, state):
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
        self._exact, self._epsilon, self._distinct = exact, state["epsilon"], state["distinct"]
        self._copies = None if state["copies"] is None else tuple(state["copies"])
        self.recall = None if state["recall"] is None else Recall(*state["recall"])
        self._turn = threading.Lock()
        self._graph = None
        if state["graph"] is None:
            return self
        self._build = state["build"]
        if state["made_by"] == library_version():
            self._graph = restore_graph(state["graph"], self._graph_vectors())
            return self
        warnings.warn(
            IndexVersionWarning(
                f"the graph was made by PyNNDescent {state['made_by']}, and this is {library_version()}: it is built "
                "anew, which takes as long as at first. Save the gallery again to keep the new graph"
            ),
            stacklevel=2,
        )
        self._graph = build_graph(self._graph_vectors(), **self._build)
        forget_neighbors(self._graph)
        return self

    def __getstate__(self):
        return {"exact": self._exact, "state": self.to_arrays()}

    def __setstate__(self, state):
        self.__dict__.update(self.from_arrays(state["exact"], state["state"]).__dict__)
