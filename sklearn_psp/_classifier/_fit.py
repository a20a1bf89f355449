"""What `fit` and `partial_fit` of a classifier do, in order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sklearn_psp._classifier._batches import training_batches, validation_batches
from sklearn_psp._classifier._describing import describe
from sklearn_psp._classifier._featurizers import check_goes_on, frozen_featurizer
from sklearn_psp._classifier._identity import identity_of, parameters_of
from sklearn_psp._classifier._labelled import Labelled, check_classes, weights_of, without
from sklearn_psp._classifier._models import initial_model, restored_model, train_head
from sklearn_psp._classifier._validation import given_validation, of_some_weight, split
from sklearn_psp._featurizer import model_of
from sklearn_psp._training import (
    Checkpoint,
    Settings,
    Training,
    Trunk,
    make_loss,
    make_metrics,
    make_optimizer,
    seeded,
    trainable_copy,
)
from sklearn_psp.utils._descriptions import Failure

__all__ = ["fit", "partial_fit"]


def fit(classifier, data: Labelled, validation_data: Any, on_epoch: Callable) -> None:
    """Train a classifier.

    Parameters
    ----------
    classifier : PSPNetClassifier
        Which gets its fitted attributes.
    data : Labelled
        What it is trained on.
    validation_data : tuple (X, y), iterable of batches or None
        As in `PSPNetClassifier.fit`.
    on_epoch : callable
        `on_epoch(frozen, training)` returns what `Training.run` takes by that name.
    """
    _check_parameters(classifier)
    goes_on = classifier.warm_start and hasattr(classifier, "classes_")
    data, validation = of_some_weight(data), given_validation(classifier, data, validation_data)
    frozen = frozen_featurizer(classifier, fresh=not goes_on)
    checkpoint = kept = None
    if classifier.checkpoint is not None and not goes_on:
        checkpoint = Checkpoint(classifier.checkpoint, identity_of(classifier, frozen, data, validation))
        kept = checkpoint.load()
    seed = kept["seed"] if kept else classifier._seed()
    if validation is None and classifier.validation_fraction is not None:
        data, validation = split(classifier, data, seed)
    done = kept is not None and kept["finished"]
    described = None
    if data.images is None or not (done or (kept and classifier.train != "head")):
        joined = not classifier._needs_parts()
        described = describe(frozen, data, joined=joined, verbose=classifier.verbose)
        classifier._report(described.failures)
        data, left_out, failures = described.data, described.left_out, described.failures
    else:
        left_out, failures = kept["left_out"], [Failure(*failure) for failure in kept["failures"]]
        classifier._report(failures)
        data = without(data, left_out) if left_out else data
    if not goes_on:
        classifier.classes_ = np.unique(data.labels)
        _check_number(classifier.classes_)
    check_classes(data.labels, classifier.classes_)
    if goes_on:
        training = _live_training(classifier, frozen)
        training.restart(classifier._n_epochs())
    else:
        settings = _settings(classifier, frozen, seed)
        training = Training(_first_model(classifier, frozen, described, kept, settings), settings)
        training.kept = {
            "seed": seed,
            "left_out": left_out,
            "failures": [(int(failure.index), failure.source, failure.reason) for failure in failures],
        }
        if kept:
            training.resume(kept)
    if classifier.train != "head" and described is not None:
        described = replace(described, parts=np.empty((0, 0, 0)))  # they take more memory than all else
    if not done:
        training.run(
            training_batches(classifier, frozen, data, described),
            None if validation is None else validation_batches(classifier, frozen, validation),
            epochs=training.epochs,
            checkpoint=checkpoint,
            on_epoch=on_epoch(frozen, training),
            verbose=classifier.verbose,
        )
    training.restore_best()
    classifier._take_model(frozen, training)


def partial_fit(classifier, data: Labelled, classes: Any) -> None:
    """Train a classifier for one more epoch.

    Parameters
    ----------
    classifier : PSPNetClassifier
        Which gets, or has, its fitted attributes.
    data : Labelled
        What it is trained on.
    classes : array-like of shape (n_classes,) or None
        All labels, for the first call.
    """
    _check_parameters(classifier)
    data = of_some_weight(data)
    frozen = frozen_featurizer(classifier, fresh=False)
    described = describe(frozen, data, joined=not classifier._needs_parts(), verbose=classifier.verbose)
    classifier._report(described.failures)
    if not hasattr(classifier, "classes_"):
        if classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit: all labels there will ever be")
        known = np.unique(classes)
        _check_number(known)
        check_classes(described.data.labels, known)
        classifier.classes_ = known
        settings = _settings(classifier, frozen, classifier._seed())
        training = Training(_first_model(classifier, frozen, described, None, settings), settings)
    else:
        if classes is not None and not np.array_equal(np.unique(classes), classifier.classes_):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {classifier.classes_!r}"
            )
        check_classes(described.data.labels, classifier.classes_)
        training = _live_training(classifier, frozen)
    _make_steady(training)
    batches = training_batches(classifier, frozen, described.data, described)
    training.run(batches, epochs=training.net.epoch + 1, verbose=classifier.verbose)
    classifier._take_model(frozen, training)


def _make_steady(training):
    """Let a training go on without an end: at its first learning rate, with no epoch that is the best."""
    net = training.net
    net.total_epochs = None
    for group, rate in zip(net.optimizer_.param_groups, net.base_rates, strict=True):
        group["lr"] = rate
    training.best.forget()


def _check_parameters(classifier):
    """Refuse what is wrong before images are read."""
    loss = classifier.loss
    kind = loss if isinstance(loss, type) else type(loss)
    if not issubclass(kind, str | torch.nn.Module):
        raise ValueError(
            f"loss={getattr(loss, '__name__', kind.__name__)} is no loss of torch: pass a name, or a class or an "
            "instance of torch.nn.Module"
        )
    make_loss(loss, classifier.loss_params)
    optimizer = make_optimizer(classifier.optimizer)
    if not issubclass(optimizer, torch.optim.Optimizer):
        raise ValueError(f"optimizer={optimizer.__name__} is no optimizer: pass a name, or a class of torch.optim")
    make_metrics(classifier.metrics, np.empty(0))
    if classifier.train == "head" and classifier.augment not in ("auto", False):
        raise ValueError(
            "augment changes images in every epoch, but train='head' runs the network once, on images as they are; "
            "use augment='auto', or train='last_stage'"
        )


def _check_number(classes):
    if len(classes) < 2:
        raise ValueError(f"y has 1 class ({classes.tolist()[0]!r}), but a classifier needs at least 2 classes")


def _settings(classifier, frozen, seed):
    device = torch.device(frozen.device_)
    precision = classifier.precision
    if precision == "auto":
        precision = "float32" if device.type == "cpu" else frozen.precision_
    return Settings(
        loss=classifier.loss,
        loss_params=classifier.loss_params,
        optimizer=classifier.optimizer,
        optimizer_params=classifier.optimizer_params,
        learning_rate=classifier._rate(),
        schedule=classifier.schedule,
        epochs=classifier._n_epochs(),
        clip_norm=classifier.clip_norm,
        patience=classifier._patience(),
        metrics=make_metrics(classifier.metrics, classifier.classes_),
        callbacks=copy.deepcopy(tuple(classifier.callbacks or ())),
        device=device,
        precision=precision,
        seed=seed,
    )


def _first_model(classifier, frozen, described, kept, settings):
    """Make the model that training starts from; from nothing but its shape where a checkpoint has the rest."""
    parts = None if kept else described.parts
    with seeded(settings.seed):
        model = initial_model(classifier, frozen, len(classifier.classes_), parts)
    if classifier.train == "head":
        return model
    if not kept:
        codes = check_classes(described.data.labels, classifier.classes_)
        sample_weight = described.data.sample_weight
        weights = weights_of(codes, classifier.class_weight, classifier.classes_, sample_weight)
        train_head(model, described.parts, codes, weights, settings)
    backbone = model_of(frozen).backbone
    return _with_trunk(classifier, frozen, model, backbone)


def _with_trunk(classifier, frozen, model, backbone):
    module = trainable_copy(backbone.module, backbone.image_size, classifier.train)
    spec, follows_batches = backbone.spec, classifier.weights is None
    model.trunk = Trunk(module, spec.mean, spec.std, model_of(frozen).views, follows_batches=follows_batches)
    return model


def _live_training(classifier, frozen):
    """Return the training to go on with; made anew from what was fitted, after pickling or with other parameters."""
    check_goes_on(classifier, frozen)
    # Taken away until it is done: after an error the model that was fitted is gone on with, not one half way.
    parameters, training = classifier.__dict__.pop("_training", (None, None))
    if training is not None and parameters == parameters_of(classifier) | {"epochs": parameters["epochs"]}:
        return training
    seed = classifier._seed()
    with seeded(seed):
        model = restored_model(classifier, frozen)
    if classifier.train != "head":
        backbone = model_of(classifier.featurizer_).backbone
        model = _with_trunk(classifier, frozen, model, backbone)
    training = Training(model, _settings(classifier, frozen, seed))
    training.history = classifier.history_.to_dict("records")
    training.net.epoch = len(training.history)
    return training
