"""Metrics of an epoch: by name, or any function of true and predicted labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, recall_score

from sklearn_psp.utils._names import did_you_mean

__all__ = ["METRICS", "make_metrics"]


def _of_predictions(score, **options):
    return lambda y_true, y_pred, n_better: float(score(y_true, y_pred, **options))


def _recall_by_class(y_true, y_pred):
    # scikit-learn's balanced accuracy warns of a class that is predicted and not there.
    return recall_score(y_true, y_pred, labels=np.unique(y_true), average="macro")


METRICS = {
    "accuracy": _of_predictions(accuracy_score),
    "balanced_accuracy": _of_predictions(_recall_by_class),
    "f1_macro": _of_predictions(f1_score, average="macro", zero_division=0.0),
    "top_5_accuracy": lambda y_true, y_pred, n_better: float((n_better < 5).mean()),
}
# Columns that history_ has anyway.
_TAKEN = ("epoch", "loss", "val_loss", "learning_rate")


def make_metrics(metrics: Sequence[str | Callable], classes: np.ndarray) -> dict[str, Callable]:
    """Return functions of an epoch's predictions by their column's name.

    Parameters
    ----------
    metrics : sequence of str or callable
        Keys of `METRICS`, or functions `metric(y_true, y_pred)` of labels, as scikit-learn's.
    classes : ndarray of shape (n_classes,)
        The labels.

    Returns
    -------
    dict of str to callable
        Each takes `(y_true, y_pred, n_better)`, ndarrays of shape (n,), integer: numbers of classes, and how many
        classes have a higher score than the true one.

    Raises
    ------
    ValueError
        If a name is unknown, occurs twice, or is that of another column of `history_`.
    """
    found = {}
    for metric in metrics:
        if isinstance(metric, str):
            if metric not in METRICS:
                hint = did_you_mean(metric, METRICS)
                raise ValueError(f"metrics: {metric!r} is unknown: {hint}It is one of {list(METRICS)}, or a function")
            name, function = metric, METRICS[metric]
        else:
            name = getattr(metric, "__name__", type(metric).__name__)
            function = _of_labels(metric, classes)
        if name in found:
            raise ValueError(f"metrics: {name!r} occurs twice; each is a column of history_")
        if name in _TAKEN:
            raise ValueError(f"metrics: history_ has a column {name!r} already; give the function another name")
        found[name] = function
    return found


def _of_labels(metric, classes):
    return lambda y_true, y_pred, n_better: float(metric(classes[y_true], classes[y_pred]))
