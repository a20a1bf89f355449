"""Tensors and data sets of TensorFlow and Keras, known by what they can do: neither library is imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from sklearn_psp._images._arrays import is_tensor
from sklearn_psp.exceptions import ImageInputError

__all__ = [
    "IndexedBatches",
    "check_finite",
    "is_data_set",
    "is_foreign_tensor",
    "is_indexed_batches",
    "path_or_content",
    "plain",
]

# What has no NUL byte for certain: all other formats that Pillow reads have one in their first bytes.
_SIGNATURES = re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8[79]a|RIFF.{4}WEBP|P[1-6]\s", re.DOTALL)
_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


def plain(X: Any) -> Any:
    """Turn a tensor of TensorFlow, eager or ragged, into what it holds; anything else is returned as it is.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    object
        An array; strings as an object array of paths (str) and encoded images (bytes), see `path_or_content`; a
        scalar string as one of these; the rows of a ragged tensor as a list of arrays.
    """
    if not is_foreign_tensor(X):
        return X
    if hasattr(X, "to_tensor"):  # ragged: rows of different sizes
        return [plain(row.to_tensor() if hasattr(row, "to_tensor") else row) for row in X]
    value = X.numpy()
    if isinstance(value, bytes):
        return path_or_content(value)
    array = np.asarray(value)
    if array.dtype.kind != "O":
        return array
    strings = np.empty(array.shape, dtype=object)
    for position, item in np.ndenumerate(array):
        strings[position] = path_or_content(item) if isinstance(item, bytes) else item
    return strings


def is_foreign_tensor(X: object) -> bool:
    """Whether X is a tensor of TensorFlow, eager or ragged."""
    return not is_tensor(X) and hasattr(X, "dtype") and callable(getattr(X, "numpy", None))


def path_or_content(data: bytes) -> str | bytes:
    """Tell a path from an encoded image: TensorFlow has one type of string for both.

    Parameters
    ----------
    data : bytes
        Either.

    Returns
    -------
    str or bytes
        A path, if it is UTF-8 without NUL and does not begin like an image; else `data`.
    """
    if not data or b"\0" in data or _SIGNATURES.match(data):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def is_data_set(X: object) -> bool:
    """Whether X is a `tf.data.Dataset`, or something like it."""
    return isinstance(X, Iterable) and hasattr(X, "element_spec") and callable(getattr(X, "batch", None))


def check_finite(X: object) -> None:
    """Refuse a `tf.data.Dataset` that repeats forever.

    Raises
    ------
    ImageInputError
        If it says so; many data sets do not know their length.
    """
    cardinality = getattr(X, "cardinality", None)
    if is_data_set(X) and callable(cardinality) and int(cardinality()) == _INFINITE:
        raise ImageInputError("X is a data set that repeats forever: leave .repeat() out, or pass X.take(n)")


def is_indexed_batches(X: object) -> bool:
    """Whether X is a `keras.utils.PyDataset`: batches by their number.

    A data set of torch looks the same, but for the hook at the end of an epoch, and holds single images.
    """
    return hasattr(X, "__getitem__") and callable(getattr(X, "on_epoch_end", None))


class IndexedBatches:
    """The batches of a `keras.utils.PyDataset` in order, anew at each iteration; its own hooks are not called."""

    def __init__(self, batches: Any):
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        try:
            n_batches = self._batches.num_batches  # Keras 3 asks this, which by default is len()
        except (AttributeError, NotImplementedError):
            n_batches = len(self._batches) if hasattr(self._batches, "__len__") else None
        if n_batches is None:
            raise ImageInputError(
                f"X does not say how many batches it has: give {type(self._batches).__name__} a __len__"
            )
        return (self._batches[i] for i in range(n_batches))
