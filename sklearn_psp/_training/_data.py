"""Batches for training: local features or images, with classes and weights, in an order that a seed decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sklearn_psp._images import Images, SomeImages, read_batches
from sklearn_psp._nets import images_tensor

__all__ = ["Batches", "ImageBatches", "PartBatches", "StreamBatches", "make_augmentation"]

Batch = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]

# Of a random crop: the least share of the image, and how much wider or narrower it may become.
_LEAST_SHARE, _MOST_STRETCH = 0.5, 4 / 3


class Batches(Dataset):
    """Images with the numbers of their classes and their weights.

    Attributes
    ----------
    n_images : int or None
        Their number; None for a stream that has not been read.
    """

    n_images: int | None

    def batches(self, seed: int | None = None) -> Iterator[Batch]:
        """Yield (images or local features, (classes, weights)); in the order of X without a seed."""
        raise NotImplementedError

    def __len__(self) -> int:
        # skorch asks for the length of what it calls a data set.
        return self.n_images or 0


class _InMemory(Batches):
    """Labels in memory, cut into batches whose sizes differ by at most one: the last is no small remainder."""

    n_images: int

    def __init__(self, classes: np.ndarray, weights: np.ndarray, batch_size: int):
        self.classes = torch.tensor(np.asarray(classes), dtype=torch.int64)
        self.weights = torch.tensor(np.asarray(weights), dtype=torch.float32)
        self.n_images = len(classes)
        self.n_batches = math.ceil(self.n_images / batch_size)

    def _rows(self, seed: int | None) -> tuple[torch.Tensor, ...]:
        """Return the rows of each batch."""
        rows = torch.arange(self.n_images)
        if seed is not None:
            rows = torch.from_numpy(np.random.RandomState(seed).permutation(self.n_images))
        return rows.tensor_split(self.n_batches)

    def _labels(self, rows):
        return self.classes[rows], self.weights[rows]


class PartBatches(_InMemory):
    """Local features in memory.

    Parameters
    ----------
    parts : ndarray of shape (n, n_parts, n_channels), floating
        The features.
    classes : ndarray of shape (n,), integer
        Numbers of the classes.
    weights : ndarray of shape (n,)
        Weights of the images.
    batch_size : int
        Images in a batch, at most.
    """

    def __init__(self, parts: np.ndarray, classes: np.ndarray, weights: np.ndarray, batch_size: int):
        super().__init__(classes, weights, batch_size)
        # torch warns of a read-only array; only such an array is copied.
        self._parts = torch.from_numpy(np.require(parts, requirements=["W"]))

    def batches(self, seed: int | None = None) -> Iterator[Batch]:
        """Yield local features."""
        for rows in self._rows(seed):
            yield self._parts[rows], self._labels(rows)


class ImageBatches(_InMemory):
    """Images that are read anew in every epoch, ahead of the network.

    Parameters
    ----------
    images : Images
        The images, all of them readable.
    classes, weights, batch_size
        As for `PartBatches`.
    reading : dict
        `image_size`, `resize` and `n_jobs` of `read_batches`.
    augment : callable or None, default=None
        Changes an image, a tensor (3, height, width), in training.
    """

    def __init__(
        self,
        images: Images,
        classes: np.ndarray,
        weights: np.ndarray,
        batch_size: int,
        *,
        reading: dict[str, Any],
        augment: Callable | None = None,
    ):
        super().__init__(classes, weights, batch_size)
        self._images = images
        self._reading = reading
        self._augment = augment

    def batches(self, seed: int | None = None) -> Iterator[Batch]:
        """Yield images, read ahead of the network."""
        rows = self._rows(seed)
        augment = self._augment if seed is not None else None
        chosen = SomeImages(self._images, torch.cat(rows).tolist())
        with closing(read_batches(chosen, batch_size=len(rows[0]), **self._reading)) as read:
            left = next(read).images
            for some in rows:
                while len(left) < len(some):
                    left = np.concatenate([left, next(read).images])
                images, left = left[: len(some)], left[len(some) :]
                yield _augmented(images, augment), self._labels(some)


class StreamBatches(Batches):
    """Batches of an iterable of (images, labels) of the user's, which is iterated once an epoch.

    Parameters
    ----------
    open_stream : callable
        Returns an iterator of (images of a batch, their labels).
    encode : callable
        Turns labels into (numbers of classes, weights).
    reading : dict
        As for `ImageBatches`.
    augment : callable or None, default=None
        As for `ImageBatches`.
    n_images : int or None, default=None
        How many there are.
    """

    def __init__(
        self,
        open_stream: Callable[[], Iterator[tuple[Images, np.ndarray]]],
        encode: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
        *,
        reading: dict[str, Any],
        augment: Callable | None = None,
        n_images: int | None = None,
    ):
        self._open = open_stream
        self._encode = encode
        self._reading = reading
        self._augment = augment
        self.n_images = n_images

    def batches(self, seed: int | None = None) -> Iterator[Batch]:
        """Yield the batches of the stream, in its order."""
        augment = self._augment if seed is not None else None
        for images, labels in self._open():
            classes, weights = map(torch.from_numpy, self._encode(labels))
            with closing(read_batches(images, batch_size=len(labels), **self._reading)) as read:
                for batch in read:
                    yield _augmented(batch.images, augment), (classes, weights)


def _augmented(images, augment):
    batch = images_tensor(images)
    if augment is None:
        return batch
    return torch.stack([augment(image) for image in batch]).contiguous(memory_format=torch.channels_last)


def make_augmentation(augment: Any, image_size: tuple[int, int]) -> Callable | None:
    """Return a function of an image (3, height, width) that gives another one of this size and dtype.

    Parameters
    ----------
    augment : bool or callable
        True: a random part of at least half of the image, brought to the whole size, and mirrored every second time.
        A callable is taken as it is, for example one of torchvision's transforms.
    image_size : tuple of two ints
        (height, width) of the images.

    Returns
    -------
    callable or None
        The function; None for False.
    """
    if augment is False:
        return None
    if augment is True:
        from torchvision.transforms import v2

        return v2.Compose(
            [
                v2.RandomResizedCrop(
                    image_size, scale=(_LEAST_SHARE, 1.0), ratio=(1 / _MOST_STRETCH, _MOST_STRETCH), antialias=True
                ),
                v2.RandomHorizontalFlip(),
            ]
        )
    return _Checked(augment, image_size)


class _Checked:
    """An augmentation of the user's, whose images must form a batch."""

    def __init__(self, function, image_size):
        self._function = function
        self._shape = (3, *image_size)

    def __call__(self, image):
        # The function may change its image in place, and that may be the user's array.
        changed = self._function(image.clone())
        is_tensor = isinstance(changed, torch.Tensor)
        if not is_tensor or tuple(changed.shape) != self._shape or changed.dtype != image.dtype:
            got = (
                f"a tensor of {changed.dtype} and shape {tuple(changed.shape)}" if is_tensor else type(changed).__name__
            )
            raise ValueError(
                f"augment must return images as it gets them, tensors of {image.dtype} and shape {self._shape}, "
                f"but gave {got}"
            )
        return changed
