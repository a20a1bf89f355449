"""Fitting of a classifier: from settings and labelled images to a fitted model, which the estimator takes whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sklearn_psp._classifier._features import (
    Described,
    add_backbone,
    check_unchanged,
    describe,
    frozen_featurizer,
    image_size_of,
    initial_model,
    restored_model,
    trained_featurizer,
)
from sklearn_psp._classifier._labelled import Labelled, check_classes, weights_of
from sklearn_psp._classifier._settings import ClassifierSettings, Continuation, FittedModel
from sklearn_psp._training import (
    Batches,
    Checkpoint,
    ImageBatches,
    PartBatches,
    PartModel,
    StreamBatches,
    Training,
    TrainingSettings,
    UnidentifiedError,
    fingerprint,
    make_augmentation,
    seeded,
)
from sklearn_psp.exceptions import CheckpointError, ImageReadError
from sklearn_psp.utils._descriptions import Failure, failures_frame

__all__ = ["EpochHooks", "Fitting"]

# A network that is to be trained begins with a head that was trained on its features as they are.
_HEAD_EPOCHS, _HEAD_LEARNING_RATE, _HEAD_BATCH_SIZE = 30, 1e-3, 32


class EpochHooks:
    """scikit-learn's callbacks of one call of `fit`, told of it and of every epoch.

    Parameters
    ----------
    context : object
        As scikit-learn makes it for the estimator.
    given : dict of str to object
        What the hooks are told of: `estimator`, `X`, `y` and `metadata`.
    """

    def __init__(self, context: Any, given: dict[str, Any]):
        self._context = context
        self._given = given
        context.call_on_fit_task_begin(**given)

    def epoch(self, train: Callable[[], None], attributes: Callable[[], dict[str, Any]]) -> bool:
        """Run an epoch between its hooks; return whether one of them wants to stop."""
        context = self._context.subcontext(task_name="epoch")
        context.call_on_fit_task_begin(**self._given)
        train()
        return context.call_on_fit_task_end(**self._given, reconstruction_attributes=attributes)

    def end(self, attributes: dict[str, Any]) -> None:
        """Tell of the end of `fit`."""
        self._context.call_on_fit_task_end(**self._given, reconstruction_attributes=attributes)


class Fitting:
    """One call of `fit` or `partial_fit`: `describe`, then `fit` or `partial_fit`, which return the fitted model.

    Nothing that it was given is changed: after an error the estimator still has what it had.

    Parameters
    ----------
    settings : ClassifierSettings
        The parameters.
    data : Labelled
        The training images.
    validation : Labelled or None, default=None
        The validation data that were given.
    previous : FittedModel or None, default=None
        The fitted model that training continues from.

    Attributes
    ----------
    failures, validation_failures : DataFrame
        After `describe`, the images that could not be read.
    """

    def __init__(
        self,
        settings: ClassifierSettings,
        data: Labelled,
        validation: Labelled | None = None,
        previous: FittedModel | None = None,
    ):
        self.settings = settings
        self.previous = previous
        self.data = data.of_some_weight()
        self.validation = validation
        self.frozen = frozen_featurizer(settings, previous)
        self.checkpoint: Checkpoint | None = None
        self.kept: dict[str, Any] | None = None  # the state in the checkpoint
        self.seed = 0
        self.described: Described | None = None  # None where the checkpoint has all that would be learned from it
        self.judged: Described | None = None  # the validation data
        self.left_out: list[int] = []
        self.failures = self.validation_failures = failures_frame()

    def describe(self) -> None:
        """Run the frozen network on the images, except where a checkpoint makes that needless; sets the failures."""
        settings = self.settings
        has_checkpoint = settings.checkpoint is not None and self.previous is None
        # A stream is known by its content only when it has been read; all else is known before.
        is_stream = self.data.images is None or (self.validation is not None and self.validation.images is None)
        if has_checkpoint:
            Checkpoint(settings.checkpoint, {})  # a name that cannot be written to is refused before images are read
            if not is_stream:
                self._open_checkpoint()
        self.seed = self.kept["seed"] if self.kept else settings.draw_seed()
        if self.validation is None and settings.validation_fraction is not None:
            self.data, self.validation = self.data.split(settings.validation_fraction, self.seed)
        self._describe_training(with_keys=has_checkpoint and is_stream)
        self._describe_validation(with_keys=has_checkpoint and is_stream)
        if has_checkpoint and is_stream:
            self._open_checkpoint()
            self.seed = self.kept["seed"] if self.kept else self.seed

    def fit(self, hooks: EpochHooks, also: dict[str, Any]) -> FittedModel:
        """Train for all epochs.

        Parameters
        ----------
        hooks : EpochHooks
            scikit-learn's callbacks.
        also : dict of str to object
            Other fitted attributes, for the estimator that the callbacks see.

        Returns
        -------
        FittedModel
            The model of the best epoch, or of the last one without validation data.
        """
        classes = np.unique(self.data.labels) if self.previous is None else self.previous.classes
        self._check_labels(classes)
        training = self._started(classes) if self.previous is None else self.continued(self.previous)
        if self.previous is not None:
            training.restart(self.settings.epochs)
        self._give_up_parts()
        if not self._is_done():
            training.run(
                self.batches(classes),
                self._validation_batches(classes),
                epochs=training.epochs,
                checkpoint=self.checkpoint,
                on_epoch=lambda train: hooks.epoch(train, lambda: self._model(classes, training).attributes() | also),
                verbose=self.settings.verbose,
            )
        training.restore_best()
        return self._fitted(classes, training)

    def partial_fit(self, classes: Any) -> FittedModel:
        """Train for one more epoch, at a learning rate that stays.

        Parameters
        ----------
        classes : array-like of shape (n_classes,) or None
            All labels; needed without a previous model.

        Returns
        -------
        FittedModel
            The model after the epoch.
        """
        if self.previous is None:
            if classes is None:
                raise ValueError(
                    "classes must be passed on the first call to partial_fit: all labels there will ever be"
                )
            known = np.unique(classes)
            self._check_labels(known)
            training = self._started(known)
        else:
            known = self.previous.classes
            if classes is not None and not np.array_equal(np.unique(classes), known):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}"
                )
            self._check_labels(known)
            training = self.continued(self.previous)
        training.keep_rate()
        self._give_up_parts()
        training.run(self.batches(known), epochs=training.net.epoch + 1, verbose=self.settings.verbose)
        return self._fitted(known, training)

    def continued(self, previous: FittedModel) -> Training:
        """Go on from a copy of a fitted model; with its optimizer, unless parameters have changed.

        Parameters
        ----------
        previous : FittedModel
            The fitted model.

        Returns
        -------
        Training
            The training, at the last epoch of the model.
        """
        check_unchanged(self.settings, previous, self.frozen)
        last = previous.continuation
        if last is not None and last.continuity == self.settings.continuity():
            self.seed = last.seed
        else:
            last = None
        with seeded(self.seed):
            model = restored_model(self.settings, self.frozen, previous)
        if self.settings.train != "head":
            add_backbone(model, self.settings, self.frozen, previous.featurizer)
        training = Training(model, self.settings.training(self.frozen, previous.classes, self.seed))
        if last is None:
            training.continue_from(previous.history.to_dict("records"))
        else:
            training.resume(last.state)
        return training

    def batches(self, classes: np.ndarray) -> Batches:
        """Return the batches that the model is trained on.

        Parameters
        ----------
        classes : ndarray of shape (n_classes,)
            The labels.

        Returns
        -------
        Batches
            Local features for a head, images for a network.
        """
        if self.settings.train == "head":
            assert self.described is not None
            return self._part_batches(self.described.parts, classes, self.settings.batch_size)
        _check_stream(self.data, self.failures)
        return self._image_batches(self.data, classes, training=True)

    def _open_checkpoint(self) -> None:
        """Load what an earlier run of the same identity has kept."""
        settings, data, validation = self.settings, self.data, self.validation
        try:
            identity = {"weights of the backbone": self.frozen.backbone_info_["sha256"]} | settings.identity()
        except UnidentifiedError as error:
            raise CheckpointError(
                f"checkpoint={str(settings.checkpoint)!r} must be resumed by the same run only, but {error}: another "
                "run could not be told from this one; pass a function or an object of plain values, or checkpoint=None"
            ) from error
        weights = data.sample_weight
        identity["images and labels"] = data.content()
        identity["sample_weight"] = "None" if weights is None else fingerprint(weights)
        identity["validation_data"] = "None" if validation is None else validation.content()
        self.checkpoint = Checkpoint(settings.checkpoint, identity)
        self.kept = self.checkpoint.load()

    def _is_done(self) -> bool:
        return self.kept is not None and self.kept["finished"]

    def _describe_training(self, *, with_keys: bool) -> None:
        if self.kept and (self._is_done() or self.settings.train != "head"):
            # The checkpoint has all that would be learned from the features, and knows which images have none.
            self.left_out = self.kept["left_out"]
            self.failures = failures_frame(Failure(*failure) for failure in self.kept["failures"])
            self.data = self.data.without(self.left_out)
            return
        self.described = self._describe(self.data, with_keys=with_keys)
        self.data, self.left_out = self.described.data, self.described.left_out
        self.failures = self.described.failures

    def _describe_validation(self, *, with_keys: bool) -> None:
        if self.validation is None or self._is_done():
            return
        # Where the network is trained too: an image that cannot be read shows before the first epoch, not after it.
        judged = self._describe(self.validation, with_keys=with_keys)
        self.judged = judged if self.settings.train == "head" else judged.without_parts()
        self.validation, self.validation_failures = judged.data, judged.failures

    def _describe(self, data: Labelled, *, with_keys: bool) -> Described:
        aggregated = not self.settings.needs_parts
        verbose = self.settings.verbose
        return describe(self.frozen, data, aggregated=aggregated, with_keys=with_keys, verbose=verbose)

    def _check_labels(self, classes: np.ndarray) -> None:
        if len(classes) < 2:
            raise ValueError(f"y has 1 class ({classes.tolist()[0]!r}), but a classifier needs at least 2 classes")
        check_classes(self.data.labels, classes)

    def _started(self, classes: np.ndarray) -> Training:
        """Return a new training; of a checkpoint, as it was when that was written."""
        settings = self.settings.training(self.frozen, classes, self.seed)
        parts = None if self.kept or self.described is None else self.described.parts
        with seeded(self.seed):
            model = initial_model(self.settings, self.frozen, len(classes), parts)
        if self.settings.train != "head":
            if parts is not None:
                self._train_head(model, parts, classes, settings)
            add_backbone(model, self.settings, self.frozen, self.frozen)
        training = Training(model, settings)
        failures = self.failures.itertuples(index=False)
        training.kept = {
            "seed": self.seed,
            "left_out": self.left_out,
            "failures": [(int(failure.index), failure.source, failure.reason) for failure in failures],
        }
        if self.kept:
            training.resume(self.kept)
        return training

    def _train_head(self, model: PartModel, parts: np.ndarray, classes: np.ndarray, settings: TrainingSettings) -> None:
        """Train the head on features as they are: one that is far off would spoil the network (Kumar et al., 2022)."""
        settings = replace(
            settings,
            epochs=_HEAD_EPOCHS,
            learning_rate=_HEAD_LEARNING_RATE,
            optimizer="adam",
            optimizer_params=None,
            schedule="cosine",
            callbacks=(),
            metrics={},
            patience=None,
            precision="float32",
        )
        batches = self._part_batches(parts, classes, _HEAD_BATCH_SIZE)
        Training(model, settings).run(batches, epochs=_HEAD_EPOCHS)

    def _give_up_parts(self) -> None:
        if self.settings.train != "head" and self.described is not None:
            self.described = self.described.without_parts()

    def _part_batches(self, parts: np.ndarray, classes: np.ndarray, batch_size: int) -> PartBatches:
        codes = check_classes(self.data.labels, classes)
        weights = weights_of(codes, self.settings.class_weight, classes, self.data.sample_weight)
        return PartBatches(parts, codes, weights, batch_size)

    def _validation_batches(self, classes: np.ndarray) -> Batches | None:
        """Return the batches by which the model is judged: images as they are, all of the same weight."""
        if self.validation is None or self.judged is None:
            return None
        codes = check_classes(self.validation.labels, classes, "validation_data")
        if self.settings.train == "head":
            return PartBatches(self.judged.parts, codes, np.ones(len(codes)), self.settings.batch_size)
        _check_stream(self.validation, self.validation_failures)
        return self._image_batches(self.validation, classes, training=False)

    def _image_batches(self, data: Labelled, classes: np.ndarray, *, training: bool) -> Batches:
        """Return batches of images, all of them readable, which are read anew in every epoch."""
        settings, params = self.settings, self.settings.featurizer
        size = image_size_of(self.frozen)
        reading = {"image_size": size, "resize": params["resize"], "n_jobs": params["n_jobs"]}
        augment = make_augmentation(settings.augment == "auto" or settings.augment, size) if training else None
        class_weight = settings.class_weight if training else None
        codes = check_classes(data.labels, classes)
        if data.images is not None:
            weights = weights_of(codes, class_weight, classes, data.sample_weight if training else None)
            return ImageBatches(data.images, codes, weights, settings.batch_size, reading=reading, augment=augment)
        by_class = np.zeros(len(classes))
        by_class[codes] = weights_of(codes, class_weight, classes, None)

        def encode(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            codes = check_classes(labels, classes)
            return codes, by_class[codes].astype(np.float32)

        return StreamBatches(data.open, encode, reading=reading, augment=augment, n_images=len(data.labels))

    def _model(self, classes: np.ndarray, training: Training) -> FittedModel:
        coef, intercept = training.linear_head()
        featurizer = trained_featurizer(self.settings, self.frozen, training.model)
        history = pd.DataFrame(training.history)
        return FittedModel(classes, featurizer, coef, intercept, history, training.best_epoch)

    def _fitted(self, classes: np.ndarray, training: Training) -> FittedModel:
        last = Continuation(self.settings.continuity(), self.seed, training.state(finished=False))
        return replace(self._model(classes, training), continuation=last)


def _check_stream(data: Labelled, failures: pd.DataFrame) -> None:
    """Refuse unreadable images of a stream, whose batches are cut elsewhere."""
    if data.images is None and not failures.empty:
        first = failures.iloc[0]
        raise ImageReadError(
            f"X[{first['index']}] ({first['source']}) could not be read: {first['reason']}; where the network is "
            "trained, an image of an iterable of batches cannot be left out: leave it out there, or pass a list of "
            "images",
            failures,
        )
