"""Re-rankers: put the first results of a search into a better order, by the neighbours within the gallery."""

from sklearn_psp.reranking._base import Reranker
from sklearn_psp.reranking._database_augmentation import DatabaseAugmentation
from sklearn_psp.reranking._diffusion import Diffusion
from sklearn_psp.reranking._k_reciprocal import KReciprocal
from sklearn_psp.reranking._query_expansion import QueryExpansion
from sklearn_psp.reranking._registry import make_reranker, register_reranker

__all__ = [
    "DatabaseAugmentation",
    "Diffusion",
    "KReciprocal",
    "QueryExpansion",
    "Reranker",
    "make_reranker",
    "register_reranker",
]
