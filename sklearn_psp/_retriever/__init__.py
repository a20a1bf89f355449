"""NearestImageRetriever, and `retrieve` over whatever ends in one."""

from sklearn_psp._retriever._estimator import NearestImageRetriever
from sklearn_psp._retriever._inputs import own_index, shown, source_names
from sklearn_psp._retriever._retrieve import retrieve
from sklearn_psp._retriever._search import searched_vectors

__all__ = ["NearestImageRetriever", "own_index", "retrieve", "searched_vectors", "shown", "source_names"]
