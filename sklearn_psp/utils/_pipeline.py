"""A fitted search cut in two: the steps that make descriptors, and the step that holds the gallery."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_psp.utils._descriptions import describe, failures_frame, warn_of_failures, with_names

__all__ = ["OpenSearch", "open_search", "split_search"]


class OpenSearch(NamedTuple):
    """The last step of a fitted search, with the queries as it takes them.

    Attributes
    ----------
    last_step : estimator
        The fitted last step.
    X : array-like or None
        The queries as the last step takes them.
    failures : DataFrame
        Queries that a step before it could not use, as of `Descriptions`.
    """

    last_step: Any
    X: Any
    failures: pd.DataFrame


def open_search(estimator: Any, X: Any) -> OpenSearch:
    """Bring queries to the last step of a fitted search, and say which of them a step before it could not use.

    Pipelines (nested ones too), fitted searches over parameters and frozen estimators are opened until the step that
    holds the gallery is reached; on the way every step before it describes X.

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
    OpenSearch
        The last step, the queries, and the failures.

    Raises
    ------
    NotFittedError
        If a parameter search has no `best_estimator_`.
    """
    known = []
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
            # A slice of no steps is a Pipeline without a first step.
            if len(estimator.steps) > 1 and X is not None:
                X, failures = describe(estimator[:-1], X)
                X = with_names(estimator.steps[-1][1], X)
                known.extend([failures] if len(failures) else [])
            estimator = estimator.steps[-1][1]
        else:
            failures = pd.concat(known, ignore_index=True).drop_duplicates("index") if known else failures_frame()
            return OpenSearch(estimator, X, failures)


def split_search(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Bring queries to the last step of a fitted search, with one warning of those that could not be used.

    Parameters
    ----------
    estimator : estimator
        As for `open_search`.
    X : array-like or None
        As for `open_search`.

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
    last_step, X, failures = open_search(estimator, X)
    warn_of_failures(failures, "images could not be used and are rows of NaN")
    return last_step, X
