"""Iterables of batches: what their items may be, and the data sets of TensorFlow and Keras among them.

Neither library is imported: their objects are known by what they can do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sklearn_psp._images._pixels import is_array_like, is_tensor, plain, to_numpy
from sklearn_psp._images._sources import describe_source, is_one_image, quote_source
from sklearn_psp.exceptions import ImageInputError

__all__ = [
    "IndexedBatches",
    "batches_remedy",
    "check_finite",
    "is_batch",
    "is_data_set",
    "is_indexed_batches",
    "labelled_members",
    "members_of_batch",
]

_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


def batches_remedy(X: Any) -> str | None:
    """What to do where X yields single images; None where that is not known."""
    return "pass X.batch(32)" if is_data_set(X) else None


def members_of_batch(item: Any, remedy: str | None = None) -> Any:
    """The images of one item of an iterable of batches.

    A list of two images and a (batch, labels) pair look alike, and a `DataLoader` makes lists of its pairs: what
    decides is whether the first member is a batch or an image.

    Parameters
    ----------
    item : object
        What the iterable yielded.
    remedy : str or None, default=None
        How to get batches from this iterable; None for the words that fit a generator.

    Returns
    -------
    object
        A batch: anything sized that `as_images` takes.

    Raises
    ------
    ImageInputError
        If the item is a single image, or nothing known.
    """
    item = _plain_members(item)
    if is_one_image(item):
        remedy = remedy or "pass list(...) of a generator of single images, or yield batches"
        raise ImageInputError(f"It is a single image ({quote_source(describe_source(item))}): {remedy}")
    if isinstance(item, (list, tuple)):
        if item and is_batch(item[0]):
            return item[0]
        if isinstance(item, tuple) and len(item) > 1 and is_one_image(item[0]) and not is_one_image(item[1]):
            remedy = remedy or "yield batches, for example through torch.utils.data.DataLoader"
            raise ImageInputError(f"It is a single image with its label: {remedy}")
        return item
    if isinstance(item, Mapping):
        raise ImageInputError(f"It is a dict with the keys {list(item)}: yield the batch of images alone")
    if not is_array_like(item) and not isinstance(item, (pd.Series, pd.Index, pd.DataFrame)):
        raise ImageInputError(f"It is of type {type(item).__name__}: yield lists, arrays or tensors of images")
    return item


def labelled_members(item: Any, remedy: str | None = None) -> tuple[Any, np.ndarray]:
    """The images and the labels of one item of an iterable of batches.

    Parameters
    ----------
    item : object
        What the iterable yielded.
    remedy : str or None, default=None
        As in `members_of_batch`.

    Returns
    -------
    images : object
        A batch: anything sized that `as_images` takes.
    labels : ndarray of shape (n,)
        As given; bytes decoded to str.

    Raises
    ------
    ImageInputError
        If the item is no pair of a batch and its labels.
    """
    members = _plain_members(item)
    images = members_of_batch(members, remedy)
    if not isinstance(members, (list, tuple)) or not members or not is_batch(members[0]):
        raise ImageInputError("It is a batch of images without labels: yield (images, labels)")
    if len(members) != 2:
        raise ImageInputError(
            f"It has {len(members)} members: yield (images, labels) alone; weights of samples are not used"
        )
    return images, _labels(members[1])


def is_batch(member: Any) -> bool:
    """Whether a member of an item is a batch of images, rather than an image."""
    if isinstance(member, (list, tuple, pd.Series, pd.Index, pd.DataFrame)):
        return True
    return is_array_like(member) and not is_one_image(member) and len(member.shape) >= 1


def _plain_members(item: Any) -> Any:
    if isinstance(item, (list, tuple)):
        return (tuple if isinstance(item, tuple) else list)(map(plain, item))
    return plain(item)


def _labels(member: Any) -> np.ndarray:
    if member is None or isinstance(member, (str, bytes, Mapping)):
        raise ImageInputError(
            f"Its labels are of type {type(member).__name__}: yield a 1-D array, tensor or list of them"
        )
    if isinstance(member, (list, tuple)):
        member = [_scalar(plain(label)) for label in member]
    try:
        labels = to_numpy(member) if is_tensor(member) else np.asarray(member)
    except ValueError as error:  # a list of lists of different lengths
        raise ImageInputError(f"Its labels are no array: {error}") from error
    if labels.ndim == 2 and labels.shape[1] == 1:  # a column, as Keras' label_mode="binary" gives
        labels = labels[:, 0]
    if labels.ndim == 2:
        raise ImageInputError(
            f"Its labels have the shape {labels.shape}, one-hot: pass labels.argmax(axis=1), a class for each image"
        )
    if labels.ndim != 1:
        raise ImageInputError(f"Its labels have the shape {labels.shape}: yield one for each image, shape (n,)")
    return _decoded(labels)


def _decoded(labels: np.ndarray) -> np.ndarray:
    """Turn labels of bytes into str, and an object array of nothing else than str into an array of str."""
    if labels.dtype.kind == "S" or (labels.dtype.kind == "O" and any(isinstance(label, bytes) for label in labels)):
        labels = np.array([_text(label) for label in labels], dtype=object)
    if labels.dtype.kind == "O" and len(labels) and all(isinstance(label, str) for label in labels):
        labels = labels.astype(str)
    return labels


def _scalar(label: Any) -> Any:
    return label.item() if hasattr(label, "item") and getattr(label, "ndim", None) == 0 else label


def _text(label: Any) -> Any:
    if not isinstance(label, bytes):
        return label
    try:
        return label.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageInputError(f"Its label {bytes(label)!r} is no text in UTF-8") from error


def is_data_set(X: Any) -> bool:
    """Whether X is a `tf.data.Dataset`, or something like it."""
    return isinstance(X, Iterable) and hasattr(X, "element_spec") and callable(getattr(X, "batch", None))


def check_finite(X: Any) -> None:
    """Refuse a `tf.data.Dataset` that repeats forever.

    Raises
    ------
    ImageInputError
        If it says so; many data sets do not know their length.
    """
    cardinality = getattr(X, "cardinality", None)
    if is_data_set(X) and callable(cardinality) and int(cardinality()) == _INFINITE:
        raise ImageInputError("X is a data set that repeats forever: leave .repeat() out, or pass X.take(n)")


def is_indexed_batches(X: Any) -> bool:
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
