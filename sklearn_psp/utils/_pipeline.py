"""Split a fitted search into the steps that make descriptors and the step that holds the gallery."""

from __future__ import annotations

from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

__all__ = ["split_search"]


def split_search(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Bring queries to the last step of a fitted search.

    Pipelines (nested ones too), fitted searches over parameters and frozen estimators are opened until the step that
    holds the gallery is reached; on the way X goes through `transform` of every step before it.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator: a retriever, a `Pipeline` that ends in one, or a fitted search such as `GridSearchCV` over
        either.
    X : array-like or None
        The queries, in the form the first step takes. None (the gallery queries itself, leave-one-out) is passed on
        untouched: the last step already has the descriptors of its gallery.

    Returns
    -------
    last_step : estimator
        The fitted last step.
    X : array-like or None
        The queries as the last step takes them.

    Raises
    ------
    NotFittedError
        If a parameter search has no `best_estimator_`.
    """
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "refit") and hasattr(estimator, "cv"):
            raise NotFittedError(
                f"This {type(estimator).__name__} has no best_estimator_ to search with (refit={estimator.refit!r}); "
                "call fit first, with refit=True or the name of a score"
            )
        elif isinstance(estimator, Pipeline):
            # A slice of no steps is a Pipeline that cannot transform.
            if len(estimator.steps) > 1 and X is not None:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        else:
            return estimator, X
