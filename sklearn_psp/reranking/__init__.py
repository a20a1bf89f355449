"""Re-rankers: a second look at the first results, by what the gallery itself knows."""

from sklearn_psp.reranking._base import Reranker
from sklearn_psp.reranking._database_augmentation import DatabaseAugmentation
from sklearn_psp.reranking._diffusion import Diffusion
from sklearn_psp.reranking._k_reciprocal import KReciprocal
from sklearn_psp.reranking._make import make_reranker
from sklearn_psp.reranking._query_expansion import QueryExpansion

__all__ = [
    "DatabaseAugmentation",
    "Diffusion",
    "KReciprocal",
    "QueryExpansion",
    "Reranker",
    "make_reranker",
]
