"""Descriptions: what was computed for each image, beside the images for which nothing could be computed, and why.

Every transformer of ours has two verbs that return this value, `describe` and `fit_describe`; `transform` is `describe`
and one warning. Whoever uses a transformer calls the functions here, which walk a `Pipeline` step by step, and takes
the failures as the value that they are: nobody finds out about an image by catching a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_psp.exceptions import ImageReadWarning
from sklearn_psp.utils._warnings import warn_user

__all__ = [
    "Descriptions",
    "Failure",
    "describe",
    "failures_frame",
    "fit_describe",
    "warn_of_failures",
    "with_names",
]


@dataclass(frozen=True)
class Failure:
    """An image that could not be used.

    Parameters
    ----------
    index : int
        Position in X.
    source : str
        What the image came from: its path, or a description such as `"<bytes, 5,120 long>"`.
    reason : str
        Why it could not be used.
    """

    index: int
    source: str
    reason: str


class Descriptions(NamedTuple):
    """What was computed for images, and the images for which nothing could be; unpacks as `rows, failures`.

    Attributes
    ----------
    rows : ndarray of shape (n_images, ...)
        One row an image; NaN (or None, where rows are objects) for an image that failed.
    failures : DataFrame
        One row per image that failed, in the order of X, with the columns `index` (position in X), `source` and
        `reason`; empty where none did.
    """

    rows: np.ndarray
    failures: pd.DataFrame


def failures_frame(failures: Iterable[Failure] = ()) -> pd.DataFrame:
    """Tabulate failures.

    Parameters
    ----------
    failures : iterable of Failure, default=()
        In the order of the rows.

    Returns
    -------
    DataFrame
        One row per failure with the columns `index` (position in X), `source` and `reason`.
    """
    listed = list(failures)
    # Of arrays, without a dtype for pandas to convert to: it would swap the warning filters of all threads to do so.
    return pd.DataFrame(
        {
            "index": np.array([failure.index for failure in listed], dtype=np.int64),
            "source": np.array([failure.source for failure in listed], dtype=object),
            "reason": np.array([failure.reason for failure in listed], dtype=object),
        }
    )


def warn_of_failures(
    failures: pd.DataFrame, what: str, category: type[ImageReadWarning] = ImageReadWarning, item: str = "X"
) -> None:
    """Warn once of the images that failed, at the user's line; say nothing where none did.

    Parameters
    ----------
    failures : DataFrame
        As of `Descriptions`.
    what : str
        What became of them, after their number: `"images could not be read and are rows of NaN"`.
    category : type, default=ImageReadWarning
        The warning.
    item : str, default="X"
        The name of the parameter that held them.
    """
    if failures.empty:
        return
    first = failures.iloc[0]
    named = f"{item}[{first['index']}] ({first['source']}): {first['reason']}"
    warn_user(category(f"{len(failures):,} {what}; the first is {named}", failures))


def describe(transformer: Any, X: Any, *, on_error: str | None = None) -> Descriptions:
    """Describe images with a fitted transformer, ours or another's, or a `Pipeline` of both.

    Parameters
    ----------
    transformer : estimator
        A fitted transformer.
    X : collection of images
        What it takes.
    on_error : {"raise", "nan"} or None, default=None
        What an image does that cannot be used, in every step of ours. None: as the step's own parameter says.

    Returns
    -------
    Descriptions
        Rows of a foreign transformer come without failures; where several steps of a Pipeline fail on an image, the
        reason is that of the first.
    """
    return _any(transformer, X, None, on_error, fit=False)


def fit_describe(transformer: Any, X: Any, y: Any = None, *, on_error: str | None = None) -> Descriptions:
    """Fit a transformer and describe the same images, reading each of them once where it is ours.

    Parameters
    ----------
    transformer : estimator
        A transformer, or a `Pipeline`; fitted in place, so pass a clone.
    X : collection of images
        What it takes.
    y : array-like or None, default=None
        Labels, for a transformer that learns from them.
    on_error : {"raise", "nan"} or None, default=None
        As for `describe`.

    Returns
    -------
    Descriptions
        As from `describe`.
    """
    return _any(transformer, X, y, on_error, fit=True)


def _any(transformer: Any, X: Any, y: Any, on_error: str | None, *, fit: bool) -> Descriptions:
    # A frozen estimator passes the attributes of the one inside on, `fit_describe` too, but must not be fitted.
    while isinstance(transformer, FrozenEstimator):
        transformer, fit = transformer.estimator, False
    # A Pipeline with a memory fits clones of its steps: its own way is kept, and failures are rows without a reason.
    if isinstance(transformer, Pipeline) and not (fit and transformer.memory is not None):
        return _walk(transformer, X, y, on_error, fit=fit)
    return _step(transformer, X, y, on_error, fit=fit)


def _walk(pipeline: Pipeline, X: Any, y: Any, on_error: str | None, *, fit: bool) -> Descriptions:
    known = []
    for _, step in pipeline.steps:
        if step is None or step == "passthrough":
            continue
        X, failures = _any(step, X, y, on_error, fit=fit)
        if not failures.empty:
            known.append(failures)
    if not known:
        return Descriptions(X, failures_frame())
    # An image that has failed comes to the next step as a missing value: the first step knows why.
    table = pd.concat(known, ignore_index=True).drop_duplicates("index").sort_values("index", ignore_index=True)
    return Descriptions(X, table)


def _step(step: Any, X: Any, y: Any, on_error: str | None, *, fit: bool) -> Descriptions:
    if not fit:
        X = with_names(step, X)
    # Both verbs make a transformer one of ours: one of another package may have a `describe` that means something else.
    ours = hasattr(step, "describe") and hasattr(step, "fit_describe")
    if fit:
        if ours:
            return step.fit_describe(X, y, on_error=on_error)
        rows = step.fit_transform(X, y) if hasattr(step, "fit_transform") else step.fit(X, y).transform(X)
    else:
        if ours:
            return step.describe(X, on_error=on_error)
        rows = step.transform(X)
    return Descriptions(rows, failures_frame())


def with_names(step: Any, X: Any) -> Any:
    """Give bare rows the names of the features that a fitted step knows.

    `set_output(transform="pandas")` names the features that pass through `transform`, also while a Pipeline is fitted;
    `describe` hands on bare rows, of which such a step would warn.

    Parameters
    ----------
    step : estimator
        Takes the rows.
    X : array-like
        What was described for it.

    Returns
    -------
    array-like
        A DataFrame, if the step was fitted to named features and X is an array with as many columns; else X.
    """
    names = getattr(step, "feature_names_in_", None)
    if names is None or not isinstance(X, np.ndarray) or X.ndim != 2 or X.shape[1] != len(names):
        return X
    return pd.DataFrame(X, columns=names)
