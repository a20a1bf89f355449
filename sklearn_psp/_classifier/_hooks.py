"""scikit-learn's callbacks, told of `fit` and of every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from sklearn_psp._classifier._featurizers import trained_featurizer

__all__ = ["FitHooks"]


class FitHooks:
    """The hooks of one call of `fit`.

    Parameters
    ----------
    classifier : PSPNetClassifier
        Which is fitted.
    X, y : object
        As they were passed.
    sample_weight : array-like or None
        As it was passed.
    """

    def __init__(self, classifier, X: Any, y: Any, sample_weight: Any):
        self._classifier = classifier
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._given = {"estimator": classifier, "X": X, "y": y, "metadata": metadata}
        self._context = classifier._init_callback_context(max_subtasks=classifier._n_epochs())
        self._context.call_on_fit_task_begin(**self._given)

    def on_epoch(self, frozen, training) -> Callable[[Callable[[], None]], bool]:
        """Return a function that runs an epoch between its hooks, and says whether one of them wants to stop."""

        def run(train):
            context = self._context.subcontext(task_name="epoch")
            context.call_on_fit_task_begin(**self._given)
            train()
            return context.call_on_fit_task_end(
                **self._given, reconstruction_attributes=lambda: self._attributes(frozen, training)
            )

        return run

    def end(self) -> None:
        """Tell of the end of `fit`."""
        self._context.call_on_fit_task_end(**self._given, reconstruction_attributes={})

    def _attributes(self, frozen, training):
        """Return the fitted attributes of the model as it is now."""
        coef, intercept = training.linear_head()
        return {
            "coef_": coef,
            "intercept_": intercept,
            "featurizer_": trained_featurizer(self._classifier, frozen, training.model),
            "history_": pd.DataFrame(training.history),
            "best_epoch_": training.best_epoch,
        }
