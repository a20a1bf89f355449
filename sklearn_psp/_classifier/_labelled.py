"""Images with their labels: as numbers, with weights, whatever they came in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import assert_all_finite
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from sklearn_psp._images import Images, SomeImages, array_key, as_images, is_labelled_stream, is_path, labelled_batches
from sklearn_psp.utils._compat import _check_sample_weight

__all__ = ["Labelled", "check_classes", "labelled", "weights_of", "without"]


@dataclass(frozen=True)
class Labelled:
    """Images and what is known of their classes.

    Attributes
    ----------
    images : Images or None
        The images; None for a stream, which is opened anew each time it is read.
    stream : object or None
        An iterable of (images, labels) batches.
    labels : ndarray of shape (n,) or None
        The labels; None for a stream that was not read yet.
    sample_weight : ndarray of shape (n,) or None
        Weights of the images.
    """

    images: Images | None
    stream: Any
    labels: np.ndarray | None
    sample_weight: np.ndarray | None = None

    def open(self) -> Iterator[tuple[Images, np.ndarray]]:
        """Return an iterator of (images, labels) of the batches of a stream."""
        return labelled_batches(self.stream)

    def sources(self) -> list[str]:
        """Say what the images are: paths, or the content of what is in memory; nothing of a stream."""
        return [] if self.images is None else [_source(self.images, i) for i in range(self.images.n_images)]


def labelled(X: Any, y: Any, sample_weight: Any = None, *, image_shape: Any = None, name: str = "X") -> Labelled:
    """Understand images and labels, without reading an image.

    Parameters
    ----------
    X : collection of images, or iterable of (images, labels) batches
        As in `PSPNetClassifier.fit`.
    y : array-like of shape (n_images,) or None
        The labels; None for an iterable of batches that hold them.
    sample_weight : array-like of shape (n_images,) or None, default=None
        Weights.
    image_shape : object, default=None
        As in `as_images`.
    name : str, default="X"
        What X is called in messages.

    Returns
    -------
    Labelled
        Both.

    Raises
    ------
    ValueError
        If labels are missing, too many or no labels.
    """
    if y is None and is_labelled_stream(X):
        if sample_weight is not None:
            raise ValueError("sample_weight does not go with an iterable of batches: pass a list of images")
        return Labelled(None, X, None)
    if y is None:
        raise ValueError(
            f"PSPNetClassifier requires y to be passed, but the target y is None: a label for each image of {name}"
        )
    images = as_images(X, image_shape=image_shape)
    if images.n_images is None:
        raise ValueError(f"{name} is an iterable of batches: let it yield (images, labels), or pass a list")
    y = _check_labels(y)
    if len(y) != images.n_images:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {name} has {images.n_images:,} images, "
            f"but y has {len(y):,} labels"
        )
    if sample_weight is not None:
        sample_weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        if not sample_weight.any():
            raise ValueError("sample_weight is zero for every image: at least one must count")
    return Labelled(images, None, y, sample_weight)


def _source(images, i):
    source = images.get(i)
    if is_path(source):
        return images.describe(i)
    key = array_key(source) if isinstance(source, np.ndarray) else images.known_key(i)
    return images.describe(i) if key is None else key.hex()


def _check_labels(y):
    shape = tuple(np.shape(y) if isinstance(y, list | tuple) else getattr(y, "shape", ()))
    if len(shape) == 2 and shape[1] > 1:
        raise ValueError(
            f"y should be a 1d array, got an array of shape {shape} instead: a label for each image; of "
            "one-hot rows pass y.argmax(axis=1)"
        )
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        assert_all_finite(y, estimator_name="PSPNetClassifier", input_name="y")
    missing = np.flatnonzero(pd.isna(y)) if y.dtype.kind == "O" else []
    if len(missing):
        raise ValueError(
            f"y has {len(missing):,} missing labels (None or NaN), the first at {missing[0]}; leave those images out"
        )
    check_classification_targets(y)
    return y


def check_classes(labels: np.ndarray, classes: np.ndarray, name: str = "y") -> np.ndarray:
    """Return labels as numbers of classes.

    Raises
    ------
    ValueError
        If there is a label that is no class.
    """
    codes = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    others = np.unique(labels[classes[codes] != labels])
    if len(others):
        shown = ", ".join(map(repr, others[:5].tolist()))
        raise ValueError(f"{name} has labels that are no classes of the training images: {shown}; leave them out")
    return codes


def weights_of(codes: np.ndarray, class_weight: Any, classes: np.ndarray, sample_weight: Any) -> np.ndarray:
    """Return a weight for each image, on average 1.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        Numbers of classes.
    class_weight : dict, "balanced" or None
        As scikit-learn's.
    classes : ndarray of shape (n_classes,)
        The labels.
    sample_weight : ndarray of shape (n,) or None
        Weights of the images.

    Returns
    -------
    ndarray of shape (n,), float64
        The products.
    """
    by_class = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    weights = by_class[codes] * (1.0 if sample_weight is None else sample_weight)
    return weights / weights.mean()


def without(data: Labelled, left_out: np.ndarray) -> Labelled:
    """Leave some images out; of a stream, their labels."""
    rows = np.setdiff1d(np.arange(len(data.labels)), left_out)
    weights = None if data.sample_weight is None else data.sample_weight[rows]
    images = None if data.images is None else SomeImages(data.images, rows)
    return replace(data, images=images, labels=data.labels[rows], sample_weight=weights)
