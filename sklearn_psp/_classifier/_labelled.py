"""Images with their labels: checked, as numbers of classes, with weights, and split for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.utils import assert_all_finite
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from sklearn_psp._images import (
    ImageRefusedError,
    Images,
    SomeImages,
    array_key,
    as_images,
    is_labelled_stream,
    is_path,
    labelled_batches,
)
from sklearn_psp.utils._compat import _check_sample_weight

__all__ = ["Labelled", "check_classes", "labelled", "labelled_validation", "source_keys", "weights_of"]


@dataclass(frozen=True)
class Labelled:
    """Images and what is known of their classes.

    Attributes
    ----------
    images : Images or None
        The images; None for a stream, which is opened anew each time it is read.
    stream : object or None
        An iterable of (images, labels) batches.
    labels : ndarray of shape (n,)
        The labels; none for a stream that has not been read.
    sample_weight : ndarray of shape (n,) or None
        Weights of the images.
    keys : list of str or None
        Of a stream that has been read, the source of each image, where it was asked for.
    """

    images: Images | None
    stream: Any
    labels: np.ndarray
    sample_weight: np.ndarray | None = None
    keys: list[str] | None = None

    def open(self) -> Iterator[tuple[Images, np.ndarray]]:
        """Return an iterator of the (images, labels) batches of a stream."""
        return labelled_batches(self.stream)

    def of_some_weight(self) -> Labelled:
        """Leave out images of weight 0."""
        if self.sample_weight is None or self.sample_weight.all():
            return self
        return self.rows(np.flatnonzero(self.sample_weight))

    def rows(self, rows: np.ndarray) -> Labelled:
        """Take some of the images; of a stream, their labels."""
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        images = None if self.images is None else SomeImages(self.images, rows.tolist())
        keys = None if self.keys is None else [self.keys[row] for row in rows]
        return replace(self, images=images, labels=self.labels[rows], sample_weight=weights, keys=keys)

    def without(self, left_out: list[int]) -> Labelled:
        """Leave out the images at some places."""
        return self.rows(np.setdiff1d(np.arange(len(self.labels)), left_out)) if left_out else self

    def split(self, share: float, seed: int) -> tuple[Labelled, Labelled]:
        """Return the images to train on, and a share of them, of each class, to judge the model by."""
        rows = np.arange(len(self.labels))
        try:
            kept, held_out = train_test_split(rows, test_size=share, stratify=self.labels, random_state=seed)
        except ValueError as error:
            raise ValueError(f"validation_fraction={share!r} of {len(rows)} images, by class: {error}") from error
        return self.rows(np.sort(kept)), self.rows(np.sort(held_out))

    def content(self) -> str:
        """Return a digest of the images and their labels: of the paths of files, and of the pixels of all others."""
        if self.images is not None:
            return _digest([source_keys(self.images), self.labels.tolist()])
        pairs = list(zip(self.keys or (), self.labels.tolist(), strict=True))
        # Only a list comes in the same order in every process: a DataLoader may shuffle.
        return _digest(pairs if isinstance(self.stream, list | tuple) else sorted(map(repr, pairs)))


def source_keys(images: Images) -> list[str]:
    """Return the path of each image that is a file, and the key of the content of each that is not."""
    return [_source_key(images, i) for i in range(images.n_images or 0)]


def _source_key(images: Images, i: int) -> str:
    source = images.get(i)
    if is_path(source):
        return images.describe(i)
    if isinstance(source, np.ndarray):
        return array_key(source).hex()
    try:
        return images.load(source)[0].hex()
    except ImageRefusedError as error:
        return f"{images.describe(i)}: {error}"  # an image that cannot be read is left out


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


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
        The name of X in messages.

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
        return Labelled(None, X, np.empty(0))
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


def labelled_validation(validation_data: Any, *, image_shape: Any = None) -> Labelled:
    """Understand the validation data that `fit` was given.

    Parameters
    ----------
    validation_data : tuple (X, y), or iterable of (images, labels) batches
        As in `PSPNetClassifier.fit`.
    image_shape : object, default=None
        As in `as_images`.

    Returns
    -------
    Labelled
        The images and labels.

    Raises
    ------
    ValueError
        If they are neither, or as for `labelled`.
    """
    X, y = validation_data, None
    if not is_labelled_stream(X):
        if not isinstance(X, tuple) or len(X) != 2:
            raise ValueError(
                "validation_data must be a tuple (X, y), or an iterable of (images, labels) batches, got "
                f"{type(X).__name__}" + (f" of {len(X)}" if isinstance(X, tuple | list) else "")
            )
        X, y = X
    return labelled(X, y, image_shape=image_shape, name="validation_data")


def _check_labels(y: Any) -> np.ndarray:
    shape = tuple(np.shape(y) if isinstance(y, list | tuple) else getattr(y, "shape", ()))
    if len(shape) == 2 and shape[1] > 1:
        raise ValueError(
            f"y should be a 1d array, got an array of shape {shape} instead: a label for each image; of "
            "one-hot rows pass y.argmax(axis=1)"
        )
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        assert_all_finite(y, estimator_name="PSPNetClassifier", input_name="y")
    missing = np.flatnonzero(pd.isna(y)) if y.dtype.kind == "O" else np.empty(0, dtype=np.intp)
    if len(missing):
        raise ValueError(
            f"y has {len(missing):,} missing labels (None or NaN), the first at {missing[0]}; leave those images out"
        )
    check_classification_targets(y)
    return y


def check_classes(labels: np.ndarray, classes: np.ndarray, name: str = "y") -> np.ndarray:
    """Return labels as numbers of classes.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        The labels.
    classes : ndarray of shape (n_classes,)
        The sorted labels of the training images.
    name : str, default="y"
        The name of the labels in messages.

    Returns
    -------
    ndarray of shape (n,), int64
        Positions in `classes`.

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
