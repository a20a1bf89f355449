"""Index engines, which find the nearest vectors: exact search, PyNNDescent's graph, and others by name in one table."""

from sklearn_psp._indexes._distances import pair_distances
from sklearn_psp._indexes._dynamic import DynamicIndex, InMemoryEngine
from sklearn_psp._indexes._exact import ExactIndex
from sklearn_psp._indexes._protocol import Engine, FixedIndex, Index, Recall, Searcher, Settings, Subset
from sklearn_psp._indexes._select import (
    ENGINES,
    build_index,
    check_algorithm,
    choose_algorithm,
    load_index,
    register_engine,
)

__all__ = [
    "ENGINES",
    "DynamicIndex",
    "Engine",
    "ExactIndex",
    "FixedIndex",
    "InMemoryEngine",
    "Index",
    "Recall",
    "Searcher",
    "Settings",
    "Subset",
    "build_index",
    "check_algorithm",
    "choose_algorithm",
    "load_index",
    "pair_distances",
    "register_engine",
]
