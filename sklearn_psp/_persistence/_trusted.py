"""The classes of sklearn_psp that `load` makes without being asked, and a few of scikit-learn's that skops leaves out.

Every class here is passive: its `__setstate__` only takes attributes, opens nothing and calls nothing it is given.
"""

from __future__ import annotations

__all__ = ["TRUSTED"]

TRUSTED = (
    "sklearn_psp._featurizer.PSPNetFeaturizer",
    "sklearn_psp._persistence._arrays.StoredArray",
    "sklearn_psp._retriever._estimator.NearestImageRetriever",
    "sklearn_psp._retriever._gallery.Gallery",
    "sklearn_psp.reranking._database_augmentation.DatabaseAugmentation",
    "sklearn_psp.reranking._diffusion.Diffusion",
    "sklearn_psp.reranking._k_reciprocal.KReciprocal",
    "sklearn_psp.reranking._query_expansion.QueryExpansion",
    # What every GridSearchCV without `scoring` holds; it only calls `score` of the estimator it is given.
    "sklearn.metrics._scorer._PassthroughScorer",
)
