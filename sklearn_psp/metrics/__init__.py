"""Scores of rankings with scorers for `GridSearchCV` and `cross_val_score`, and error rates of face matching."""

from sklearn_psp.metrics._identification import fpir_fnir, identification_error_rates, threshold_at_fpir
from sklearn_psp.metrics._intervals import group_error_rates, rate_interval, threshold_interval
from sklearn_psp.metrics._lfw import lfw_accuracy, read_lfw_pairs
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
from sklearn_psp.metrics._verification import (
    equal_error_rate,
    error_rates,
    far_frr,
    tar_at_far,
    threshold_at,
)

__all__ = [
    "average_precision",
    "cmc_curve",
    "equal_error_rate",
    "error_rates",
    "far_frr",
    "fpir_fnir",
    "group_error_rates",
    "identification_error_rates",
    "lfw_accuracy",
    "make_retrieval_scorer",
    "mean_average_precision",
    "mean_average_precision_scorer",
    "mean_reciprocal_rank",
    "mean_reciprocal_rank_scorer",
    "ndcg_at_k",
    "precision_at_k",
    "rate_interval",
    "read_lfw_pairs",
    "recall_at_1_scorer",
    "recall_at_5_scorer",
    "recall_at_10_scorer",
    "recall_at_k",
    "relevance_from_labels",
    "tar_at_far",
    "threshold_at",
    "threshold_at_fpir",
    "threshold_interval",
]
