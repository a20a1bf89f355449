"""What a classifier is trained on and judged by, batch by batch: local features, or pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sklearn_psp._classifier._describing import Described, describe
from sklearn_psp._classifier._labelled import Labelled, check_classes, weights_of
from sklearn_psp._featurizer import PSPNetFeaturizer
from sklearn_psp._training import PartBatches, PictureBatches, StreamBatches, make_augmentation

__all__ = ["training_batches", "validation_batches"]


def training_batches(classifier, frozen: PSPNetFeaturizer, data: Labelled, described: Described | None):
    """Make the batches that a model is trained on."""
    if classifier.train != "head":
        return _picture_batches(classifier, frozen, data, training=True)
    codes = check_classes(data.labels, classifier.classes_)
    weights = weights_of(codes, classifier.class_weight, classifier.classes_, data.sample_weight)
    return PartBatches(described.parts, codes, weights, classifier.batch_size)


def validation_batches(classifier, frozen: PSPNetFeaturizer, validation: Labelled):
    """Make the batches by which a model is judged: pictures as they are, all of the same weight."""
    if classifier.train != "head":
        if validation.pictures is None:
            labels = np.concatenate([labels for _, labels in validation.open()])
            validation = replace(validation, labels=labels)
        return _picture_batches(classifier, frozen, validation, training=False)
    described = describe(frozen, validation, joined=not classifier._needs_parts(), verbose=classifier.verbose)
    codes = check_classes(described.data.labels, classifier.classes_, "validation_data")
    return PartBatches(described.parts, codes, np.ones(len(codes)), classifier.batch_size)


def _picture_batches(classifier, frozen, data, *, training):
    """Make batches of pictures, all of them readable, which are read anew in every epoch."""
    classes = classifier.classes_
    size = frozen._views().sizes[0]
    reading = {"image_size": size, "resize": classifier.resize, "n_jobs": classifier.n_jobs}
    augment = make_augmentation(classifier.augment == "auto" or classifier.augment, size) if training else None
    class_weight = classifier.class_weight if training else None
    if data.pictures is None:
        codes = check_classes(data.labels, classes)
        by_class = np.zeros(len(classes))
        by_class[codes] = weights_of(codes, class_weight, classes, None)

        def encode(labels):
            codes = check_classes(labels, classes)
            return codes, by_class[codes].astype(np.float32)

        return StreamBatches(data.open, encode, reading=reading, augment=augment, n_pictures=len(data.labels))
    codes = check_classes(data.labels, classes)
    weights = weights_of(codes, class_weight, classes, data.sample_weight if training else None)
    return PictureBatches(data.pictures, codes, weights, classifier.batch_size, reading=reading, augment=augment)
