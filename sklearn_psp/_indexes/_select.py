"""Table of index engines by name, the rule of `algorithm="auto"`, and the checks of `engine_params`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from sklearn_psp._indexes._dynamic import InMemoryEngine
from sklearn_psp._indexes._protocol import Engine, Index, Settings
from sklearn_psp._indexes._pynndescent import PyNNDescentIndex
from sklearn_psp.exceptions import PersistenceError
from sklearn_psp.utils._names import Registry, did_you_mean

__all__ = [
    "ENGINES",
    "EXACT_UP_TO",
    "build_index",
    "check_algorithm",
    "choose_algorithm",
    "load_index",
    "register_engine",
]

# A graph costs 20-100 s of compilation in a fresh process before its first answer, and then its building. With both,
# exact search is cheaper end to end for fewer than about 17,000 queries at 20,000 vectors and 15,000-30,000 at 100,000
# (512 features, 2 cores). What an exact query costs depends on how many numbers it reads, n_samples x n_features:
# 2^25 of them, 128 MiB, a few milliseconds for one query alone and 0.3 ms in a batch.
EXACT_UP_TO = 2**25


def _check_engine(value: Any) -> None:
    whole = [name for name in ("build", "load", "params", "suits", "check_params") if not hasattr(value, name)]
    fixed = [name for name in ("query", "to_arrays", "from_arrays") if not hasattr(value, name)]
    if whole and (fixed or not isinstance(value, type)):
        raise TypeError(
            "an engine must be a class with query, to_arrays and from_arrays, to search vectors that never change, "
            "or an object with build, load, params, suits and check_params; "
            f"{value!r} has no {', '.join(fixed or whole)}"
        )


ENGINES = Registry(
    "index engine",
    "sklearn_psp.engines",
    {
        "exact": InMemoryEngine(suits=lambda n_samples, n_features: True),
        "pynndescent": InMemoryEngine(
            PyNNDescentIndex, suits=lambda n_samples, n_features: n_samples * n_features > EXACT_UP_TO
        ),
    },
    _check_engine,
)
# Names that "auto" asks, the last first.
_AUTOMATIC = ["exact", "pynndescent"]


def register_engine(name: str, engine: Any) -> None:
    """Add an index engine, which `NearestImageRetriever(algorithm=name)` then searches with.

    Parameters
    ----------
    name : str
        The name, none of "auto", "exact" and "pynndescent".
    engine : type or object
        A class that searches vectors in memory which never change: the retriever adds, removes and filters around it,
        searches exactly within a radius and ranks exactly for scores. It is called as
        `engine(exact, **engine_params)`, where `exact.vectors` is the gallery (float32, of unit length for the metric
        "cosine") and `exact.metric` its metric; keyword-only arguments named `target_recall`, `recall_k`, `n_jobs` and
        `random_state` are given those of the retriever. It has the attribute `recall` (None: it misses nothing), the
        property `n_samples`, and the methods `query(Q, k, subset)` (the k nearest of each query among those of
        `subset.mask`: distances of shape (n_queries, k), ascending, and their positions), `to_arrays()` and the class
        method `from_arrays(exact, state)`. Or an object that builds and loads whole indexes, as one on a server.

    Raises
    ------
    ValueError
        If the name belongs to an engine of this package, is empty or has a colon.
    TypeError
        If the engine lacks a method.

    See Also
    --------
    NearestImageRetriever : The search.

    Notes
    -----
    A worker process knows the engines that are registered while its modules are imported. It always finds those that
    an installed package declares as entry points of the group "sklearn_psp.engines", and those whose place is the
    name: `algorithm="package.module:Name"`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp import NearestImageRetriever, register_engine
    >>> class Thorough:
    ...     recall = None
    ...
    ...     def __init__(self, exact):
    ...         self.exact, self.n_samples = exact, exact.n_samples
    ...
    ...     def query(self, Q, k, subset=None):
    ...         return self.exact.query(Q, k, subset)
    ...
    ...     def to_arrays(self):
    ...         return {}
    ...
    ...     @classmethod
    ...     def from_arrays(cls, exact, state):
    ...         return cls(exact)
    >>> register_engine("thorough", Thorough)
    >>> gallery = NearestImageRetriever(1, algorithm="thorough").fit(np.eye(3), ids=["a", "b", "c"])
    >>> gallery.retrieve([[0.0, 0.9, 0.1]])["id"].tolist()
    ['b']
    """
    if name == "auto":
        raise ValueError('"auto" chooses among engines and names none; choose another name')
    ENGINES.register(name, engine)
    # Without a rule of its own an engine is never chosen.
    if hasattr(engine, "suits") and name not in _AUTOMATIC:
        _AUTOMATIC.append(name)


def _engine(name: str) -> Engine:
    engine: Any = ENGINES[name]
    return engine if hasattr(engine, "build") else InMemoryEngine(engine)


def check_algorithm(algorithm: str, engine_params: Mapping[str, Any] | None) -> None:
    """Refuse an engine that is not known, and parameters that it does not take.

    Parameters
    ----------
    algorithm : str
        "auto" or the name of an engine.
    engine_params : mapping or None
        Its parameters; for "auto" those of any engine that it may choose.

    Raises
    ------
    ValueError
        If there is no such engine, a parameter is not one of its, or a value is out of range.
    """
    if algorithm != "auto" and algorithm not in ENGINES:
        known = ["auto", *ENGINES]
        raise ValueError(
            f"algorithm={algorithm!r} is no index engine; {did_you_mean(algorithm, known)}there are "
            f"{', '.join(map(repr, known))}; add one with sklearn_psp.register_engine, or write 'package.module:Name'"
        )
    engines = [_engine(name) for name in (_AUTOMATIC if algorithm == "auto" else [algorithm])]
    allowed = frozenset().union(*(engine.params for engine in engines))
    for name in engine_params or ():
        if name not in allowed:
            raise ValueError(
                f"engine_params[{name!r}] is no parameter of algorithm={algorithm!r}; "
                f"{did_you_mean(str(name), allowed)}it takes {', '.join(sorted(allowed))}"
            )
    for engine in engines:
        engine.check_params(_own(engine, engine_params))


def _own(engine: Engine, engine_params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (engine_params or {}).items() if name in engine.params}


def choose_algorithm(algorithm: str, n_samples: int, n_features: int) -> str:
    """Resolve "auto": exact search up to `EXACT_UP_TO` numbers, PyNNDescent above, and before both what was registered.

    Parameters
    ----------
    algorithm : str
        "auto" or the name of an engine.
    n_samples : int
        Size of the gallery.
    n_features : int
        Length of its vectors.

    Returns
    -------
    str
        The name of the engine to build.
    """
    if algorithm != "auto":
        return algorithm
    return next(name for name in reversed(_AUTOMATIC) if _engine(name).suits(n_samples, n_features))


def build_index(
    vectors: np.ndarray,
    *,
    metric: str,
    algorithm: str = "auto",
    findable: np.ndarray | None = None,
    settings: Settings | None = None,
    engine_params: Mapping[str, Any] | None = None,
) -> tuple[str, Index]:
    """Build the index of a gallery.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, n_features), float32
        The gallery, fit for search. Copied.
    metric : {"cosine", "euclidean"}
        The metric.
    algorithm : str, default="auto"
        "auto" or the name of an engine.
    findable : ndarray of shape (n_vectors,), bool, or None, default=None
        False for vectors that only keep a place and are never found; None: all are found.
    settings : Settings or None, default=None
        What was asked for; None: nothing.
    engine_params : mapping or None, default=None
        Parameters of the engine; for "auto" those of any that it may choose: each takes its own.

    Returns
    -------
    algorithm : str
        The name of the engine.
    index : Index
        The index.

    Raises
    ------
    ValueError
        If there is no such engine, it does not take one of the parameters, or a value is out of range.
    """
    check_algorithm(algorithm, engine_params)
    name = choose_algorithm(algorithm, *vectors.shape)
    engine = _engine(name)
    params = _own(engine, engine_params)
    return name, engine.build(vectors, findable, metric=metric, settings=settings or Settings(), params=params)


def load_index(algorithm: str, state: Mapping[str, Any], rows: np.ndarray | None = None, n_rows: int = 0) -> Index:
    """Restore an index from a file.

    Parameters
    ----------
    algorithm : str
        Name of its engine.
    state : mapping
        As from `Index.to_arrays`.
    rows, n_rows : ndarray of shape (n_vectors,), intp, or None, and int
        Of a file of format 1, in which skipped images had no vector: the image of each vector (None: every image has
        one), and the number of images.

    Returns
    -------
    Index
        The index.

    Raises
    ------
    PersistenceError
        If there is no such engine here. A file never has a module imported: what a name with a colon stands for must
        have been imported before.
    """
    module, colon, _ = algorithm.partition(":")
    if algorithm not in ENGINES or (colon and module not in sys.modules):
        remedy = f"import {module}" if colon else "import the package that registers it, or call register_engine"
        raise PersistenceError(
            f"the gallery is searched by the engine {algorithm!r}, which is not known here; {remedy}"
        )
    return _engine(algorithm).load(state if "graph" not in state else _of_format_1(state, rows, n_rows))


def _of_format_1(state: Mapping[str, Any], rows: np.ndarray | None, n_rows: int) -> dict[str, Any]:
    """Bring an index of a file of format 1 to today's form: skipped images had no vector there, and have one now."""
    graph = state["graph"]
    searcher = None if graph is None else {name: value for name, value in graph.items() if name != "n"}
    state = {name: value for name, value in state.items() if name != "graph"} | {"n_hidden": 0, "searcher": searcher}
    if rows is None:
        return state
    n_vectors, n_features = state["rows"].shape
    vectors, half_norms = np.zeros((n_rows, n_features), dtype=np.float32), np.zeros(n_rows)
    vectors[rows], half_norms[rows] = state["rows"], state["half_norms"]
    mask = np.zeros(n_rows, dtype=bool)
    mask[rows] = True if state["mask"] is None else state["mask"]
    n_built = int(rows[state["n_built"] - 1]) + 1 if state["n_built"] else 0
    if searcher is not None:
        built = rows[: state["n_built"]]
        searcher["distinct"] = built if searcher["distinct"] is None else built[searcher["distinct"]]
        if searcher["copies"] is not None:
            starts, members = searcher["copies"]
            searcher["copies"] = [starts, built[members]]
    changed = {"rows": vectors, "half_norms": half_norms, "mask": mask, "n_built": n_built}
    return state | changed | {"n_hidden": n_rows - n_vectors}
