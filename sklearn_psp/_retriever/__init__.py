"""NearestImageRetriever, and `retrieve` over whatever ends in one."""

from sklearn_psp._retriever._estimator import NearestImageRetriever
from sklearn_psp._retriever._retrieve import retrieve
from sklearn_psp._retriever._search import searched_vectors

__all__ = ["NearestImageRetriever", "retrieve", "searched_vectors"]
