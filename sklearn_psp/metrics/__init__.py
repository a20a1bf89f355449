"""Scores of rankings, and scorers that make them usable in `GridSearchCV` and `cross_val_score`."""

from sklearn_psp.metrics._relevance import relevance_from_labels
from sklearn_psp.metrics._retrieval import (
    average_precision,
    cmc_curve,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)
from sklearn_psp.metrics._scorers import (
    make_retrieval_scorer,
    mean_average_precision_scorer,
    mean_reciprocal_rank_scorer,
    recall_at_1_scorer,
    recall_at_5_scorer,
    recall_at_10_scorer,
)

__all__ = [
    "average_precision",
    "cmc_curve",
    "make_retrieval_scorer",
    "mean_average_precision",
    "mean_average_precision_scorer",
    "mean_reciprocal_rank",
    "mean_reciprocal_rank_scorer",
    "ndcg_at_k",
    "precision_at_k",
    "recall_at_1_scorer",
    "recall_at_5_scorer",
    "recall_at_10_scorer",
    "recall_at_k",
    "relevance_from_labels",
]
