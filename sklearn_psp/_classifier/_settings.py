"""TrainingSettings of a classifier's fit, resolved from its parameters, and the fitted model that it returns."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, fields, replace
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state

from sklearn_psp._classifier._labelled import Labelled
from sklearn_psp._featurizer import PSPNetFeaturizer
from sklearn_psp._training import (
    TrainingSettings,
    UnidentifiedError,
    fingerprint,
    is_margin_loss,
    make_loss,
    make_metrics,
    make_optimizer,
)

__all__ = ["ClassifierSettings", "Continuation", "FittedModel"]

# Parameters that classifier and featurizer have in common. `batch_size` is another thing in each.
_OF_FEATURIZER = set(inspect.signature(PSPNetFeaturizer).parameters) - {"batch_size"}
# Parameters on which the result of a training does not depend.
_IRRELEVANT = {"cache", "cache_size", "checkpoint", "n_jobs", "runtime", "verbose", "warm_start"}
# Measured by benchmarks/learning.py, for the head alone and for the network from its own weights.
_AUTO_EPOCHS = {"head": 30, "last_stage": 10, "all": 10}
_AUTO_LEARNING_RATE = {"head": 1e-3, "last_stage": 3e-4, "all": 3e-4}
_AUTO_PATIENCE = 5


@dataclass(frozen=True)
class ClassifierSettings:
    """The parameters of a `PSPNetClassifier` as a fit uses them: "auto" is resolved where it needs no image.

    Attributes
    ----------
    params : dict of str to object
        All parameters as they were given.
    featurizer : dict of str to object
        Those that the featurizer has too.
    patience : int or None
        Epochs of `early_stopping`.
    train, augment, optimizer, optimizer_params, learning_rate, schedule, loss, loss_params, class_weight, metrics
        As given; the learning rate as a number.
    epochs, batch_size, clip_norm, validation_fraction, callbacks, random_state, verbose
        As given; the epochs as a number.
    reduce_dim, dropout, part_dropout
        As given.
    """

    params: dict[str, Any]
    featurizer: dict[str, Any]
    patience: int | None
    reduce_dim: int | None
    dropout: float
    part_dropout: float
    train: str
    augment: Any
    optimizer: Any
    optimizer_params: dict[str, Any] | None
    learning_rate: float
    schedule: str
    loss: Any
    loss_params: dict[str, Any] | None
    class_weight: Any
    metrics: Any
    epochs: int
    batch_size: int
    clip_norm: float | None
    validation_fraction: float | None
    checkpoint: Any
    callbacks: Any
    random_state: Any
    verbose: int

    @classmethod
    def of(cls, params: dict[str, Any]) -> ClassifierSettings:
        """Make the settings of an estimator's parameters.

        Parameters
        ----------
        params : dict of str to object
            As `PSPNetClassifier.get_params(deep=False)` returns them.

        Returns
        -------
        ClassifierSettings
            The settings.
        """
        train, stopping = params["train"], params["early_stopping"]
        featurizer = {name: value for name, value in params.items() if name in _OF_FEATURIZER}
        if train != "head" and isinstance(featurizer["scales"], str):
            featurizer["scales"] = (1.0,)  # every step of training would take as many passes as there are scales
        if isinstance(stopping, bool | np.bool_):
            stopping = _AUTO_PATIENCE if stopping else None
        given = {field.name: params[field.name] for field in fields(cls) if field.name in params}
        epochs, rate = params["epochs"], params["learning_rate"]
        given["epochs"] = _AUTO_EPOCHS[train] if epochs == "auto" else int(epochs)
        given["learning_rate"] = _AUTO_LEARNING_RATE[train] if rate == "auto" else float(rate)
        patience = None if stopping is None else int(stopping)
        return cls(params=dict(params), featurizer=featurizer, patience=patience, **given)

    def for_one_epoch(self) -> ClassifierSettings:
        """Return the settings of `partial_fit`, which judges nothing and keeps no checkpoint."""
        return replace(self, checkpoint=None, validation_fraction=None)

    @property
    def learns_weights(self) -> bool:
        """Whether the weights of the parts are trained."""
        return isinstance(self.featurizer["part_weights"], str) and self.featurizer["part_weights"] == "learned"

    @property
    def needs_parts(self) -> bool:
        """Whether something between local features and the global one is trained."""
        return bool(self.train != "head" or self.part_dropout or self.reduce_dim or self.learns_weights)

    @property
    def is_cosine(self) -> bool:
        """Whether the scores of the classes are cosines."""
        return is_margin_loss(self.loss)

    def draw_seed(self) -> int:
        """Draw a seed."""
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def check(self) -> None:
        """Refuse what is wrong before an image is read.

        Raises
        ------
        ValueError
            If a parameter does not go with another, or is nothing that can be trained with.
        """
        kind = self.loss if isinstance(self.loss, type) else type(self.loss)
        if not issubclass(kind, str | torch.nn.Module):
            raise ValueError(
                f"loss={getattr(self.loss, '__name__', kind.__name__)} is no loss of torch: pass a name, or a class or "
                "an instance of torch.nn.Module"
            )
        make_loss(self.loss, self.loss_params)
        optimizer = make_optimizer(self.optimizer)
        if not issubclass(optimizer, torch.optim.Optimizer):
            raise ValueError(f"optimizer={optimizer.__name__} is no optimizer: pass a name, or a class of torch.optim")
        make_metrics(self.metrics, np.empty(0))
        if self.train == "head" and self.augment not in ("auto", False):
            raise ValueError(
                "augment changes images in every epoch, but train='head' runs the network once, on images as they are; "
                "use augment='auto', or train='last_stage'"
            )

    def check_validation(self, data: Labelled, validation: Labelled | None) -> None:
        """Refuse parameters that need validation data where there are none, or that ask for others.

        Parameters
        ----------
        data : Labelled
            The training images.
        validation : Labelled or None
            The validation data that were given.

        Raises
        ------
        ValueError
            If there are none to stop by, or a stream cannot be split.
        """
        if validation is not None:
            return
        if self.validation_fraction is None and self.patience is not None:
            raise ValueError(
                f"early_stopping={self.params['early_stopping']!r} needs validation data: pass validation_data to fit, "
                "or set validation_fraction=0.1"
            )
        if self.validation_fraction is not None and data.images is None:
            raise ValueError("validation_fraction does not go with an iterable of batches: pass validation_data to fit")

    def identity(self) -> dict[str, str]:
        """Return a fingerprint of each parameter on which the result of a training depends.

        Raises
        ------
        UnidentifiedError
            If the content of a parameter cannot be known; the message names it.
        """
        found = {}
        for name, value in self.params.items():
            if name not in _IRRELEVANT:
                try:
                    found[name] = fingerprint(value)
                except UnidentifiedError as error:
                    raise UnidentifiedError(f"{name} is or holds {error}") from error
        return found

    def continuity(self) -> dict[str, Any]:
        """Return a digest of each parameter with whose change an optimizer's state is of no use any more."""
        # The features are compared on their own; callbacks do not make an optimizer; and a seed is drawn once.
        left_out = {"backbone", "callbacks", "epochs"} | _IRRELEVANT
        if not isinstance(self.random_state, int | np.integer):
            left_out.add("random_state")
        return {name: _digest(value) for name, value in self.params.items() if name not in left_out}

    def training(self, frozen: PSPNetFeaturizer, classes: np.ndarray, seed: int) -> TrainingSettings:
        """Return the settings of a training.

        Parameters
        ----------
        frozen : PSPNetFeaturizer
            The featurizer before training, which knows device and precision.
        classes : ndarray of shape (n_classes,)
            The labels.
        seed : int
            The seed.

        Returns
        -------
        TrainingSettings
            The settings, with copies of the callbacks.
        """
        device = torch.device(frozen.device_)
        precision = self.params["precision"]
        if precision == "auto":
            precision = "float32" if device.type == "cpu" else frozen.precision_
        return TrainingSettings(
            loss=self.loss,
            loss_params=self.loss_params,
            optimizer=self.optimizer,
            optimizer_params=self.optimizer_params,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            epochs=self.epochs,
            clip_norm=self.clip_norm,
            patience=self.patience,
            metrics=make_metrics(self.metrics, classes),
            callbacks=copy.deepcopy(tuple(self.callbacks or ())),
            device=device,
            precision=precision,
            seed=seed,
        )


def _digest(value: Any) -> Any:
    """Return a digest of a value within this process; of what cannot be pickled, such as a lambda, the value itself."""
    try:
        return joblib.hash(value)
    except Exception:
        return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Continuation:
    """The state in which a training ended, with its parameters and its seed."""

    continuity: dict[str, Any]
    seed: int
    state: dict[str, Any]


@dataclass(frozen=True)
class FittedModel:
    """A trained classifier: what the estimator holds with a trailing underscore, by the same names.

    Attributes
    ----------
    classes, featurizer, coef, intercept, history, best_epoch
        The fitted attributes.
    continuation : Continuation or None
        For `warm_start` and `partial_fit`; None after unpickling.
    """

    classes: np.ndarray
    featurizer: PSPNetFeaturizer
    coef: np.ndarray
    intercept: np.ndarray
    history: pd.DataFrame
    best_epoch: int | None
    continuation: Continuation | None = None

    @classmethod
    def of(cls, attributes: dict[str, Any]) -> FittedModel | None:
        """Return the model of an estimator's attributes; None before it was fitted."""
        if "classes_" not in attributes:
            return None
        public = {field.name: attributes[f"{field.name}_"] for field in fields(cls) if field.name != "continuation"}
        return cls(**public, continuation=attributes.get("_training"))

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that the estimator takes."""
        found = {f"{field.name}_": getattr(self, field.name) for field in fields(self) if field.name != "continuation"}
        return found if self.continuation is None else found | {"_training": self.continuation}
