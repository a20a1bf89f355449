"""NearestImageRetriever, and `retrieve` over whatever ends in one."""

from __future__ import annotations

import numpy as np

from sklearn_psp._retriever._estimator import NearestImageRetriever
from sklearn_psp._retriever._retrieve import retrieve

__all__ = ["NearestImageRetriever", "retrieve", "searched_vectors"]


def searched_vectors(retriever: NearestImageRetriever) -> np.ndarray:
    """Return the descriptors of a gallery as they are compared: (n_vectors, n_features), float32; skipped ones not."""
    return retriever._gallery.own_queries().vectors
