"""PyNNDescent's graph: building it, its state as arrays, and its recall, measured with vectors that are held out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import coo_array, csr_array

from sklearn_psp._indexes._exact import ExactIndex
from sklearn_psp._indexes._protocol import Recall, Subset
from sklearn_psp.utils._arrays import blocks

__all__ = [
    "DEFAULT_LEAF_BUDGET",
    "EPSILONS",
    "HeldOut",
    "build_graph",
    "choose_walk",
    "draw_sample",
    "forget_neighbors",
    "graph_arrays",
    "hold_out",
    "library_version",
    "restore_graph",
    "set_leaf_budget",
]

# A walk never leaves a part of the graph that no edge connects to the rest, and images come in such parts: with 60 to
# 200 well separated clusters of 50 to 100 vectors (3,000 and 20,000 x 64), starting from one leaf of the search tree
# found .83 and .75 of the 10 nearest whatever epsilon, from 4 leaves .98 and .96, from 16 leaves .998 and .993, for
# 10 us a query more.
DEFAULT_LEAF_BUDGET = 16
# numba's default threading layer ends the process when two threads run parallel code at once.
_BUILDING = threading.Lock()
# Of a prepared NNDescent: what is not an array, a number or a text is made again when it is restored.
_TREE = {"hyperplanes": np.float32, "offsets": np.float32, "children": np.int32, "indices": np.int32}
_ARRAYS = {"_vertex_order": np.int32, "_visited": np.uint8, "rng_state": np.int64, "search_rng_state": np.int64}
# PyNNDescent finds next to nothing with epsilon = 0, and beyond 0.5 it visits much of the graph.
EPSILONS = (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8)
# The standard error of the mean of 1,000 queries is .002-.004 where recall is .95.
_SAMPLE = 1000
# At most a hundredth of the vectors is held out at a time: without a twentieth walks found .83 where with all edges
# they found .89 (8,000 x 64, epsilon 0.02).
_SHARE = 100
# Epsilons that are not yet large, and what three of them have to add to a recall to go on.
_SHORT, _PATIENCE, _GAIN = 0.25, 3, 0.005


def library_version() -> str:
    """Version of PyNNDescent, without importing it."""
    from importlib.metadata import version

    return version("pynndescent")


def build_graph(vectors: np.ndarray, n_jobs: int | None, **params: Any) -> Any:
    """Build a graph that is ready for queries.

    Parameters
    ----------
    vectors : ndarray of shape (n, n_features), float32
        Vectors without duplicates. The graph is Euclidean for all metrics: unit vectors rank alike by cosine, and
        cosine distances of the library end at 1.
    n_jobs : int or None
        Threads, as joblib counts them.
    **params : dict
        Of `pynndescent.NNDescent`.

    Returns
    -------
    pynndescent.NNDescent
        The graph.
    """
    import numba
    from pynndescent import NNDescent

    # A private, writable copy: NNDescent keeps the very array until it is prepared.
    vectors = np.array(vectors, dtype=np.float32, order="C")
    params.setdefault("search_tree_leaf_budget", DEFAULT_LEAF_BUDGET)
    n_jobs = min(effective_n_jobs(n_jobs), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]  # more raises
    n_threads = numba.get_num_threads()
    with _BUILDING:
        try:
            graph = NNDescent(vectors, metric="euclidean", n_jobs=n_jobs, **params)
            graph.prepare()
        finally:
            numba.set_num_threads(n_threads)  # it does not restore them when it fails
    return graph


def graph_arrays(graph: Any) -> dict[str, Any]:
    """Take a graph apart into arrays, numbers and texts: nothing that is code.

    Parameters
    ----------
    graph : pynndescent.NNDescent
        As from `build_graph`.

    Returns
    -------
    dict
        For `restore_graph`. The vectors are not in it.
    """
    settings = {
        name: value for name, value in vars(graph).items() if value is None or type(value) in (bool, int, float, str)
    }
    return {
        "settings": settings,
        "arrays": {name: getattr(graph, name) for name in _ARRAYS},
        "min_distance": float(graph._min_distance),
        "indptr": graph._search_graph.indptr,
        "indices": graph._search_graph.indices,
        "trees": [_named(tree) for tree in graph.__getstate__()["_search_forest"]],
    }


def restore_graph(state: dict[str, Any], vectors: np.ndarray) -> Any:
    """Put a graph together again; nothing is built or compiled.

    Parameters
    ----------
    state : dict
        As from `graph_arrays`.
    vectors : ndarray of shape (n, n_features), float32
        The vectors it was built from.

    Returns
    -------
    pynndescent.NNDescent
        The graph.
    """
    from pynndescent import NNDescent

    # Writable arrays in memory: for the read-only maps that joblib hands to its workers numba would compile anew.
    arrays = {name: np.array(state["arrays"][name], dtype=dtype) for name, dtype in _ARRAYS.items()}
    indptr, indices = (np.array(state[name], dtype=np.int32) for name in ("indptr", "indices"))
    trees = [
        {name: np.array(tree[name], dtype=dtype) for name, dtype in _TREE.items()} | {"leaf_size": tree["leaf_size"]}
        for tree in state["trees"]
    ]
    _check_whole(vectors, arrays, indptr, indices, trees)
    attributes = {
        **state["settings"],
        **arrays,
        "_raw_data": _in_order(vectors, arrays["_vertex_order"]),
        "_min_distance": np.float32(state["min_distance"]),
        "_search_graph": _search_graph(indptr, indices),
        "_search_forest": tuple(tuple(tree.values()) for tree in trees),
        "_input_dtype": np.float32,
        "_dist_args": (),
        "_neighbor_graph": None,
    }
    graph = NNDescent.__new__(NNDescent)
    with _BUILDING:
        graph.__setstate__(attributes)
    return graph


def _in_order(vectors, order):
    """Copy rows in an order, with two threads: what takes time is memory that is new to the process."""
    out = np.empty(vectors.shape, dtype=np.float32)
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda rows: np.take(vectors, order[rows], axis=0, out=out[rows], mode="clip"),
                blocks(len(out), 8192),
            )
        )
    return out


def set_leaf_budget(graph: Any, leaf_budget: int) -> None:
    """Let walks start from this many leaves of the search tree; nothing is built."""
    if graph.search_tree_leaf_budget != leaf_budget:
        with _BUILDING:
            graph.search_tree_leaf_budget = leaf_budget
            graph._init_search_function()


def forget_neighbors(graph: Any) -> None:
    """Free what only `hold_out` and the library's `update` need: 8 bytes a vector and neighbour."""
    graph._neighbor_graph = None


def hold_out(graph: Any, nodes: np.ndarray, vectors: np.ndarray) -> Any:
    """Copy a graph in such a way that some of its vectors cannot be found, as if they had not been there.

    All edges to and from them go, and in the search trees another vector stands in their place. Their neighbours get
    the edges they would have without them: the graph leaves out those that a nearer neighbour makes unnecessary.

    Parameters
    ----------
    graph : pynndescent.NNDescent
        As from `build_graph`, with its neighbours; it is not changed.
    nodes : ndarray of shape (n_held_out,), int
        Positions of the vectors to hold out.
    vectors : ndarray of shape (n, n_features), float32
        The vectors it was built from.

    Returns
    -------
    pynndescent.NNDescent
        The copy. The vectors are shared.
    """
    from pynndescent import NNDescent

    order = graph._vertex_order
    hidden = np.zeros(len(order), dtype=bool)
    hidden[nodes] = True
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    new_from, new_to = place[_regrown_edges(graph._neighbor_graph[0], hidden, vectors)]
    hidden = hidden[order]

    edges = graph._search_graph
    rows, columns = np.repeat(np.arange(len(hidden)), np.diff(edges.indptr)), edges.indices
    kept = ~(hidden[rows] | hidden[columns])
    rows = np.concatenate((rows[kept], new_from, new_to))
    columns = np.concatenate((columns[kept], new_to, new_from))
    edges = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=edges.shape).tocsr()

    state = graph.__getstate__()
    state["_search_graph"] = _search_graph(edges.indptr.astype(np.int32), edges.indices.astype(np.int32))
    state["_search_forest"] = tuple(_without(tree, hidden) for tree in state["_search_forest"])
    state["_visited"] = np.zeros_like(graph._visited)
    copy = NNDescent.__new__(NNDescent)
    with _BUILDING:
        copy.__setstate__(state)
    return copy


def _regrown_edges(neighbors, hidden, vectors):
    """Edges of those vectors that have a hidden neighbour, chosen among their other neighbours as the library does.

    Nearest first, a neighbour is taken unless one taken before is nearer to it than the vector itself.
    """
    touched = np.flatnonzero(hidden[neighbors].any(axis=1) & ~hidden)
    found = [np.empty((2, 0), dtype=np.intp)]
    for block in blocks(len(touched), 256):
        itself = touched[block]
        candidates = neighbors[itself]
        open_to = ~hidden[candidates] & (candidates >= 0) & (candidates != itself[:, None])
        around = vectors[candidates]
        norms = np.square(around).sum(axis=2)
        # Half the squared distances, less terms that are the same on both sides of the comparison.
        between = norms[:, None, :] / 2 - around @ around.transpose(0, 2, 1)
        own = np.square(vectors[itself]).sum(axis=1)[:, None] / 2 - np.einsum("ijd,id->ij", around, vectors[itself])
        taken = np.zeros(candidates.shape, dtype=bool)
        for j in range(candidates.shape[1]):
            shadowed = (taken[:, :j] & (between[:, j, :j] < own[:, j, None])).any(axis=1)
            taken[:, j] = open_to[:, j] & ~shadowed
        row, column = np.nonzero(taken)
        found.append(np.stack((itself[row], candidates[row, column])))
    return np.concatenate(found, axis=1)


def _without(tree, hidden):
    tree = _named(tree)
    indices = tree["indices"]
    visible = np.flatnonzero(~hidden[indices])
    # The next vector in the tree's order, nearly always of the same leaf, which is then there twice and seen once.
    after = np.minimum(np.searchsorted(visible, np.arange(len(indices))), len(visible) - 1)
    tree["indices"] = indices[visible[after]]
    return tuple(tree.values())


def _named(tree):
    return dict(zip((*_TREE, "leaf_size"), tree, strict=True))


def _check_whole(
    vectors: np.ndarray, arrays: dict[str, np.ndarray], indptr: np.ndarray, indices: np.ndarray, trees: list[dict]
) -> None:
    """Refuse a graph that leads out of its arrays: compiled code does not look where it steps."""
    n, n_features = vectors.shape
    order = arrays["_vertex_order"]
    sound = (
        order.shape == (n,)
        and _within(order, 0, n)
        and arrays["_visited"].size >= n // 8 + 1
        and all(arrays[name].shape == (3,) for name in ("rng_state", "search_rng_state"))
        and _edges_are_sound(n, indptr, indices)
        and len(trees) > 0
        and all(_tree_is_sound(n, n_features, tree) for tree in trees)
    )
    if not sound:
        raise ValueError("the graph does not fit its vectors, or leads nowhere: the file is damaged")


def _within(values, low, high):
    return not len(values) or (low <= values.min() and values.max() < high)


def _edges_are_sound(n, indptr, indices):
    return (
        indptr.shape == (n + 1,)
        and indptr[0] == 0
        and indptr[-1] == len(indices)
        and bool((np.diff(indptr) >= 0).all())
        and _within(indices, 0, n)
    )


def _tree_is_sound(n, n_features, tree):
    children = tree["children"]
    inner = np.arange(len(children))[:, None]
    return (
        children.ndim == 2
        and children.shape[1] == 2
        and tree["hyperplanes"].shape == (len(children), n_features)
        and tree["offsets"].shape == (len(children),)
        and tree["indices"].shape == (n,)
        and _within(tree["indices"], 0, n)
        # A leaf is minus the places where it starts and ends; any other step leads further down.
        and _within(children, -n, len(children))
        and bool(((children <= 0) | (children > inner)).all())
    )


def _search_graph(indptr, indices):
    # What the edges weigh is of no use to a walk.
    return csr_array((np.ones(len(indices), dtype=np.uint8), indices, indptr), shape=(len(indptr) - 1,) * 2)


def draw_sample(n: int, random_state: np.random.RandomState) -> np.ndarray:
    """Draw which vectors are held out: a twentieth, at most 1,000.

    Parameters
    ----------
    n : int
        Number of vectors.
    random_state : numpy.random.RandomState
        Where from.

    Returns
    -------
    ndarray of shape (n_sample,), intp
        Positions, ascending.
    """
    return np.sort(random_state.choice(n, max(1, min(_SAMPLE, n // 20)), replace=False))


class HeldOut:
    """Queries that are not in the graph, with their true neighbours.

    Parameters
    ----------
    graph : pynndescent.NNDescent
        The graph; it is not changed.
    exact : ExactIndex
        Exact search over the vectors of the graph.
    sample : ndarray of shape (n_queries,), intp
        Which vectors are held out, to be the queries.
    k : int
        Neighbours to find.
    """

    def __init__(self, graph: Any, exact: ExactIndex, sample: np.ndarray, k: int):
        self._k = k
        self._rounds = []
        for part in np.array_split(sample, -(-len(sample) * _SHARE // exact.n_samples)):
            mask = np.ones(exact.n_samples, dtype=bool)
            mask[part] = False
            queries = exact.vectors[part]
            farthest = exact.query(queries, k, Subset(mask))[0][:, -1]
            farthest = np.sqrt(2 * farthest) if exact.metric == "cosine" else farthest
            self._rounds.append((hold_out(graph, part, exact.vectors), queries, farthest))

    def recall(self, epsilon: float, leaf_budget: int | None = None) -> Recall:
        """Measure the recall of walks with this epsilon, from this many leaves (None: as they are).

        Ties count as found: with the k-th neighbour as far as the next, either is right.
        """
        found_of_each = []
        for graph, queries, farthest in self._rounds:
            if leaf_budget is not None:
                set_leaf_budget(graph, leaf_budget)
            found, distances = graph.query(queries, k=self._k, epsilon=epsilon)
            # The library's distances are Euclidean and rounded in another way.
            hits = (distances <= farthest[:, None] * (1 + 1e-5) + 1e-6) & (found >= 0)
            found_of_each.append(hits.mean(axis=1))
        shares = np.concatenate(found_of_each)
        return Recall(float(shares.mean()), float(shares.std() / np.sqrt(len(shares))), len(shares))


def choose_walk(held_out: HeldOut, target: float, leaf_budgets: Sequence[int]) -> tuple[float, int, Recall]:
    """Find a short walk that reaches a recall, with one standard error to spare.

    Few leaves and a small epsilon come first. More leaves are tried where epsilon would have to be large: a walk does
    not leave the part of the graph it starts in, however far it goes.

    Parameters
    ----------
    held_out : HeldOut
        What to measure with.
    target : float in (0, 1]
        The recall wanted.
    leaf_budgets : sequence of int
        Leaves of the search tree that a walk may start from, ascending.

    Returns
    -------
    epsilon : float
        One of `EPSILONS`.
    leaf_budget : int
        One of `leaf_budgets`. If nothing reaches the target, both are those that come nearest.
    recall : Recall
        What they reach.
    """
    tried = []
    for leaf_budget in leaf_budgets:
        recalls = []
        for epsilon in EPSILONS:
            recalls.append(held_out.recall(epsilon, leaf_budget))
            if recalls[-1].value - recalls[-1].error >= target or _stuck(recalls):
                break
        reached = recalls[-1].value - recalls[-1].error >= target
        tried.append((not reached, epsilon if reached else -recalls[-1].value, epsilon, leaf_budget, recalls[-1]))
        if reached and epsilon <= _SHORT:
            break
    return min(tried)[2:]


def _stuck(recalls):
    """Whether going further has stopped to help."""
    return len(recalls) > _PATIENCE and recalls[-1].value - recalls[-1 - _PATIENCE].value < _GAIN
