"""Which engine searches a gallery, and the parameters each takes."""

from __future__ import annotations

import difflib
from numbers import Integral, Real

from sklearn_psp._indexes._exact import ExactIndex
from sklearn_psp._indexes._living import LivingIndex
from sklearn_psp._indexes._pynndescent import GRAPH_PARAMS, PyNNDescentIndex
from sklearn_psp._indexes._vectors import Vectors

__all__ = ["EXACT_UP_TO", "build_index", "choose_algorithm"]

# A graph costs 20-100 s of compilation in a fresh process before its first answer, and then its building. With both,
# exact search is cheaper end to end for fewer than about 17,000 queries at 20,000 vectors and 15,000-30,000 at 100,000
# (512 features, 2 cores). What an exact query costs depends on how many numbers it reads, n_samples x n_features:
# 2^25 of them, 128 MiB, a few milliseconds for one query alone and 0.3 ms in a batch.
EXACT_UP_TO = 2**25

_PARAMS = {
    "exact": frozenset({"working_memory"}),
    "pynndescent": GRAPH_PARAMS | {"epsilon", "working_memory"},
}


def choose_algorithm(algorithm, n_samples, n_features):
    """Resolve "auto": exact search up to `EXACT_UP_TO` numbers, PyNNDescent above.

    Parameters
    ----------
    algorithm : {"auto", "exact", "pynndescent"}
        What was asked for.
    n_samples : int
        Size of the gallery.
    n_features : int
        Length of its vectors.

    Returns
    -------
    {"exact", "pynndescent"}
        The engine to build.
    """
    if algorithm != "auto":
        return algorithm
    return "exact" if n_samples * n_features <= EXACT_UP_TO else "pynndescent"


def build_index(
    vectors,
    *,
    metric,
    algorithm="auto",
    target_recall=None,
    recall_k=10,
    engine_params=None,
    n_jobs=None,
    random_state=None,
):
    """Build the engine for a gallery.

    Parameters
    ----------
    vectors : ndarray of shape (n_samples, n_features), float32
        The gallery, prepared as `Index` says. Copied.
    metric : {"cosine", "euclidean"}
        The metric.
    algorithm : {"auto", "exact", "pynndescent"}, default="auto"
        The engine.
    target_recall : float in (0, 1] or None, default=None
        Share of the `recall_k` nearest that "pynndescent" is to find.
    recall_k : int, default=10
        Neighbours that recall is measured with.
    engine_params : dict or None, default=None
        Its parameters. For "auto" those of either engine: each takes its own.
    n_jobs : int or None, default=None
        Threads that build a graph.
    random_state : int, RandomState instance or None, default=None
        Seed of a graph.

    Returns
    -------
    algorithm : {"exact", "pynndescent"}
        The engine built.
    index : LivingIndex
        The engine.

    Raises
    ------
    ValueError
        If `engine_params` holds a name the engine does not take, or a value out of range.
    """
    params = _check_engine_params(engine_params, algorithm)
    algorithm = choose_algorithm(algorithm, *vectors.shape)
    memory = {name: value for name, value in params.items() if name == "working_memory"}
    vectors = Vectors(vectors)
    if algorithm == "exact":
        return algorithm, LivingIndex(vectors, metric=metric, **memory)
    exact = ExactIndex(vectors.rows, metric=metric, half_norms=vectors.half_norms, **memory)
    params = {name: value for name, value in params.items() if name != "working_memory"}
    graph = PyNNDescentIndex(
        exact, n_jobs=n_jobs, random_state=random_state, target_recall=target_recall, recall_k=recall_k, **params
    )
    return algorithm, LivingIndex(vectors, metric=metric, graph=graph, **memory)


def _check_engine_params(params, algorithm):
    params = dict(params or {})
    allowed = _PARAMS["pynndescent"] if algorithm == "auto" else _PARAMS[algorithm]
    for name in params:
        if name not in allowed:
            close = difflib.get_close_matches(str(name), allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"engine_params[{name!r}] is no parameter of algorithm={algorithm!r}{hint}; it takes "
                f"{', '.join(sorted(allowed))}"
            )
    for name in ("epsilon", "working_memory"):
        value = params.get(name, 1.0)
        # PyNNDescent finds next to nothing with epsilon=0, and does not say so.
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
            raise ValueError(f"engine_params[{name!r}] must be a number above 0; got {value!r}")
    degree = params.get("n_neighbors", 2)
    if isinstance(degree, bool) or not isinstance(degree, Integral) or degree < 2:
        raise ValueError(f"engine_params['n_neighbors'], the degree of the graph, must be an int >= 2; got {degree!r}")
    return params
