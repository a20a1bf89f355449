"""The types that `load` makes without being asked, beyond what skops itself takes for harmless.

Every class here is passive: taking its attributes opens nothing and calls nothing that comes out of the file. The
functions are scores: they compute a number from arrays.
"""

from __future__ import annotations

__all__ = ["TRUSTED"]

_OWN = (
    "sklearn_psp._classifier._estimator.PSPNetClassifier",
    "sklearn_psp._featurizer._estimator.PSPNetFeaturizer",
    "sklearn_psp._persistence._arrays.StoredArray",
    "sklearn_psp._retriever._estimator.NearestImageRetriever",
    "sklearn_psp._retriever._gallery.Gallery",
    "sklearn_psp.faces._aligner.FaceAligner",
    "sklearn_psp.faces._identifier.FaceIdentifier",
    "sklearn_psp.faces._verifier.FaceVerifier",
    "sklearn_psp.metrics._scorers._RetrievalScorer",
    "sklearn_psp.reranking._database_augmentation.DatabaseAugmentation",
    "sklearn_psp.reranking._diffusion.Diffusion",
    "sklearn_psp.reranking._k_reciprocal.KReciprocal",
    "sklearn_psp.reranking._query_expansion.QueryExpansion",
)
_OWN_SCORES = tuple(
    f"sklearn_psp.metrics._retrieval.{name}"
    for name in ("mean_average_precision", "mean_reciprocal_rank", "recall_at_k")
)
# What a fitted GridSearchCV holds besides estimators: its folds and its scorers, which skops does not list.
_SPLITTERS = tuple(
    f"sklearn.model_selection._split.{name}"
    for name in (
        "GroupKFold",
        "GroupShuffleSplit",
        "KFold",
        "LeaveOneGroupOut",
        "LeaveOneOut",
        "LeavePGroupsOut",
        "LeavePOut",
        "PredefinedSplit",
        "RepeatedKFold",
        "RepeatedStratifiedKFold",
        "ShuffleSplit",
        "StratifiedGroupKFold",
        "StratifiedKFold",
        "StratifiedShuffleSplit",
    )
)
_SCORERS = ("sklearn.metrics._scorer._PassthroughScorer", "sklearn.metrics._scorer._Scorer")
_SCORES = tuple(
    f"sklearn.metrics._{module}.{name}"
    for module, names in {
        "classification": (
            "accuracy_score",
            "balanced_accuracy_score",
            "brier_score_loss",
            "f1_score",
            "jaccard_score",
            "log_loss",
            "matthews_corrcoef",
            "precision_score",
            "recall_score",
        ),
        "ranking": ("average_precision_score", "roc_auc_score", "top_k_accuracy_score"),
        "regression": (
            "explained_variance_score",
            "mean_absolute_error",
            "mean_squared_error",
            "median_absolute_error",
            "r2_score",
            "root_mean_squared_error",
        ),
    }.items()
    for name in names
)

TRUSTED = (*_OWN, *_OWN_SCORES, *_SPLITTERS, *_SCORERS, *_SCORES)
