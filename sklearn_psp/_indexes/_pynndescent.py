"""PyNNDescent as an engine, with its sharp edges taken off."""

from __future__ import annotations

import inspect
import threading

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils import check_random_state

from sklearn_psp._indexes._candidates import nearest_of_candidates
from sklearn_psp.utils._arrays import blocks

__all__ = ["DEFAULT_DEGREE", "DEFAULT_EPSILON", "DEFAULT_LEAF_BUDGET", "GRAPH_PARAMS", "PyNNDescentIndex"]

DEFAULT_DEGREE = 30
# At 100,000 x 512 epsilon 0.1 / 0.2 / 0.3 found .943 / .986 / .993 of the 10 nearest in 34 / 44 / 57 us.
DEFAULT_EPSILON = 0.2
# A walk never leaves a part of the graph that no edge connects to the rest, and pictures come in such parts: with 60 to
# 200 well separated clusters of 50 to 100 vectors (3,000 and 20,000 x 64), starting from one leaf of the search tree
# found .83 and .75 of the 10 nearest whatever epsilon, from 4 leaves .98 and .96, from 16 leaves .998 and .993, for
# 10 us a query more.
DEFAULT_LEAF_BUDGET = 16
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
# numba's default threading layer ends the process when two threads run parallel code at once.
_BUILDING = threading.Lock()


class PyNNDescentIndex:
    """Find most of the nearest neighbours by walking a neighbourhood graph (Dong et al. 2011).

    What the library leaves to its caller is done here: exact copies are indexed once and found all (it misses up to
    half of them); distances are recomputed (its cosine distances above 1 are all 1); rows with unfilled or repeated
    places, and k beyond a quarter of the distinct vectors, are searched exactly; queries take turns (they share a
    workspace, and threads would get each other's rows); arrays are writable float32 copies, after unpickling too
    (others stall or compile anew); numba's number of threads is left as found.

    Parameters
    ----------
    exact : ExactIndex
        Exact search over the same vectors, which are kept there.
    n_jobs : int or None, default=None
        Threads that build the graph, as joblib counts them, at most one per core. Queries use one.
    random_state : int, RandomState instance or None, default=None
        Seed. The same seed and number of threads give the same graph.
    epsilon : float > 0, default=0.2
        How far a walk goes beyond the k-th distance: more finds more and takes longer.
    n_neighbors : int, default=30
        Neighbours of each vector in the graph. Fewer than 4 times as many distinct vectors need no graph: they are
        searched exactly.
    **graph_params : dict
        Further parameters of `pynndescent.NNDescent`, see `GRAPH_PARAMS`.

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
        epsilon=DEFAULT_EPSILON,
        n_neighbors=DEFAULT_DEGREE,
        **graph_params,
    ):
        self._exact = exact
        self._epsilon = epsilon
        distinct, self._copies = group_copies(exact.vectors)
        self._n_distinct = exact.n_samples if distinct is None else len(distinct)
        self._graph = None
        if self._n_distinct >= 4 * n_neighbors:
            vectors = exact.vectors if distinct is None else exact.vectors[distinct]
            seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
            self._graph = _build_graph(vectors, n_jobs, n_neighbors=n_neighbors, random_state=seed, **graph_params)
        self._turn = threading.Lock()

    @property
    def n_samples(self):
        """Number of vectors that can be found."""
        return self._exact.n_samples

    def query(self, Q, k):
        """Find k near vectors of each query; see `Index.query`.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries, prepared like the vectors.
        k : int in [1, n_samples]
            How many.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Sorted distances.
        positions : ndarray of shape (n_queries, k), intp
            Positions of the nearest found, ties by position.
        """
        if self._graph is None or 4 * k > self._n_distinct:
            return self._exact.query(Q, k)
        distances = np.empty((len(Q), k), dtype=np.float32)
        positions = np.empty((len(Q), k), dtype=np.intp)
        for rows in blocks(len(Q), _QUERY_ROWS):
            distances[rows], positions[rows] = self._query_block(Q[rows], k)
        return distances, positions

    def _query_block(self, Q, k):
        with self._turn:
            found, proxies = self._graph.query(Q, k=k, epsilon=self._epsilon)
            found, complete = found.astype(np.intp), np.isfinite(proxies).all(axis=1)
        ordered = np.sort(found, axis=1)
        complete &= (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
        complete &= ordered[:, 0] >= 0
        if complete.all():
            return self._settle(Q, found, k)

        distances = np.empty((len(Q), k), dtype=np.float32)
        positions = np.empty((len(Q), k), dtype=np.intp)
        if complete.any():
            distances[complete], positions[complete] = self._settle(Q[complete], found[complete], k)
        distances[~complete], positions[~complete] = self._exact.query(Q[~complete], k)
        return distances, positions

    def _settle(self, Q, found, k):
        if self._copies is None:
            rows, columns = np.repeat(np.arange(len(Q)), k), found.ravel()
        else:
            rows, columns = expand_copies(found, *self._copies, k)
        return nearest_of_candidates(Q, rows, columns, self._exact.vectors, k, self._exact.metric)

    def __getstate__(self):
        state = self.__dict__.copy()
        del state["_turn"]
        if self._graph is not None:
            with self._turn:
                state["_graph"] = self._graph.__getstate__()
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._turn = threading.Lock()
        if self._graph is not None:
            self._graph = _restore_graph(self._graph)


def group_copies(vectors):
    """Find exact copies among vectors.

    Parameters
    ----------
    vectors : ndarray of shape (n_samples, n_features), float32
        The vectors.

    Returns
    -------
    distinct : ndarray of shape (n_distinct,), intp, or None
        Position of the first of each set of copies; None if there are no copies.
    copies : tuple of (starts, members), or None
        Positions equal to the i-th distinct vector, ascending: `members[starts[i]:starts[i + 1]]`.
    """
    # + 0.0: the bytes of -0.0 and 0.0 differ.
    rows = np.ascontiguousarray(vectors + np.float32(0)).view(f"V{vectors.itemsize * vectors.shape[1]}").ravel()
    _, first, group = np.unique(rows, return_index=True, return_inverse=True)
    if len(first) == len(vectors):
        return None, None
    members = np.argsort(group, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(group))))
    return first, (starts, members)


def expand_copies(found, starts, members, k):
    """Replace each distinct vector by its copies, as far as k places can hold them.

    Parameters
    ----------
    found : ndarray of shape (n_queries, k), intp
        Distinct vectors, nearest first.
    starts, members : ndarray
        As from `group_copies`.
    k : int
        How many results each query will have.

    Returns
    -------
    rows, columns : ndarray of shape (n_candidates,)
        Pairs (query, position), at least k and fewer than 2 k for each query.
    """
    # Ties go to the smaller position, so of one set of copies only the first k can be results.
    counts = np.minimum(starts[found + 1] - starts[found], k)
    before = np.cumsum(counts, axis=1) - counts
    counts = np.where(before < k, counts, 0).ravel()
    rows = np.repeat(np.repeat(np.arange(len(found)), found.shape[1]), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, members[np.repeat(starts[found.ravel()], counts) + within]


def _build_graph(vectors, n_jobs, **params):
    import numba
    from pynndescent import NNDescent

    # A private, writable copy: NNDescent keeps the very array until it is prepared. Euclidean for both metrics, because
    # unit vectors rank alike in both and its cosine distances end at 1.
    vectors = np.array(vectors, dtype=np.float32, order="C")
    if "search_tree_leaf_budget" in inspect.signature(NNDescent).parameters:  # since 0.7
        params.setdefault("search_tree_leaf_budget", DEFAULT_LEAF_BUDGET)
    n_jobs = min(effective_n_jobs(n_jobs), numba.config.NUMBA_NUM_THREADS)  # more raises
    n_threads = numba.get_num_threads()
    with _BUILDING:
        try:
            graph = NNDescent(vectors, metric="euclidean", n_jobs=n_jobs, **params)
            graph.prepare()
        finally:
            numba.set_num_threads(n_threads)  # it does not restore them when it fails
    return graph


def _restore_graph(state):
    from pynndescent import NNDescent

    # joblib hands large arrays to its workers as read-only memmaps, for which numba would compile everything anew.
    state = {name: _own(value) for name, value in state.items()}
    graph = NNDescent.__new__(NNDescent)
    with _BUILDING:
        graph.__setstate__(state)
    return graph


def _own(value):
    if isinstance(value, np.ndarray) and (isinstance(value, np.memmap) or not value.flags.writeable):
        return np.array(value)
    return value
