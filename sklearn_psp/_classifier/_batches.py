"""What a classifier is trained on and judged by, batch by batch: local features, or images."""

from __future__ import annotations

import numpy as np

from sklearn_psp._classifier._describing import Described, describe
from sklearn_psp._classifier._labelled import Labelled, check_classes, weights_of
from sklearn_psp._featurizer import PSPNetFeaturizer, model_of
from sklearn_psp._training import ImageBatches, PartBatches, StreamBatches, make_augmentation
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.utils._descriptions import failures_frame

__all__ = ["training_batches", "validation_batches"]


def training_batches(classifier, frozen: PSPNetFeaturizer, data: Labelled, described: Described | None):
    """Make the batches that a model is trained on."""
    if classifier.train != "head":
        _check_stream(data, described)
        return _image_batches(classifier, frozen, data, training=True)
    codes = check_classes(data.labels, classifier.classes_)
    weights = weights_of(codes, classifier.class_weight, classifier.classes_, data.sample_weight)
    return PartBatches(described.parts, codes, weights, classifier.batch_size)


def validation_batches(classifier, frozen: PSPNetFeaturizer, validation: Labelled):
    """Make the batches by which a model is judged: images as they are, all of the same weight."""
    # Where the network is trained too: what cannot be read shows before the first epoch, not after it.
    described = describe(frozen, validation, joined=not classifier._needs_parts(), verbose=classifier.verbose)
    if described.failures:
        classifier._warn_of(described.failures, "images of the validation data")
    codes = check_classes(described.data.labels, classifier.classes_, "validation_data")
    if classifier.train != "head":
        _check_stream(validation, described)
        return _image_batches(classifier, frozen, described.data, training=False)
    return PartBatches(described.parts, codes, np.ones(len(codes)), classifier.batch_size)


def _check_stream(data, described):
    """Refuse unreadable images in what others cut into batches."""
    if data.images is None and described.failures:
        first = described.failures[0]
        raise ImageReadError(
            f"X[{first.index}] ({first.source}) could not be read: {first.reason}; where the network is trained, a "
            "image of an iterable of batches cannot be left out: leave it out there, or pass a list of images",
            failures_frame(described.failures),
        )


def _image_batches(classifier, frozen, data, *, training):
    """Make batches of images, all of them readable, which are read anew in every epoch."""
    classes = classifier.classes_
    size = model_of(frozen).views.sizes[0]
    reading = {"image_size": size, "resize": classifier.resize, "n_jobs": classifier.n_jobs}
    augment = make_augmentation(classifier.augment == "auto" or classifier.augment, size) if training else None
    class_weight = classifier.class_weight if training else None
    if data.images is None:
        codes = check_classes(data.labels, classes)
        by_class = np.zeros(len(classes))
        by_class[codes] = weights_of(codes, class_weight, classes, None)

        def encode(labels):
            codes = check_classes(labels, classes)
            return codes, by_class[codes].astype(np.float32)

        return StreamBatches(data.open, encode, reading=reading, augment=augment, n_images=len(data.labels))
    codes = check_classes(data.labels, classes)
    weights = weights_of(codes, class_weight, classes, data.sample_weight if training else None)
    return ImageBatches(data.images, codes, weights, classifier.batch_size, reading=reading, augment=augment)
