"""Rows of features on their way into one array, and images on their way into full batches."""

from __future__ import annotations

import numpy as np

__all__ = ["Batcher", "FeatureTable"]


class FeatureTable:
    """Features of images that are finished in any order.

    Parameters
    ----------
    n_rows : int or None
        Number of images; None where it shows only at the end.
    shape : tuple of int
        Shape of the features of one image.
    """

    def __init__(self, n_rows: int | None, shape: tuple[int, ...]):
        self._n_rows = n_rows
        self._shape = shape
        self._blocks = []
        self._array = None

    def put(self, rows: np.ndarray, features: np.ndarray) -> None:
        """Place the features of some images; an array of all of them, in order, is taken over."""
        if self._n_rows is None:
            self._blocks.append((rows, features))
        elif self._array is None and len(rows) == self._n_rows:
            self._array = features
        else:
            self._allocated()[rows] = features

    def finish(self, n_rows: int, copies: dict[int, int], failed: list[int]) -> np.ndarray:
        """Return all features: copied where content repeats, NaN where there is none."""
        self._n_rows = n_rows
        array = self._allocated()
        for rows, features in self._blocks:
            array[rows] = features
        if copies:
            array[list(copies)] = array[list(copies.values())]
        array[failed] = np.nan
        return array

    def _allocated(self):
        if self._array is None:
            self._array = np.empty((self._n_rows, *self._shape), dtype=np.float32)
        return self._array


class Batcher:
    """Collects images into full batches.

    Parameters
    ----------
    size : int
        Images in a batch.
    """

    def __init__(self, size: int):
        self._size = size
        self._images = []
        self._names = []

    def add(self, images: np.ndarray, names: list):
        """Take images and what they are known by; yield the batches (images, names) that are full."""
        if not names:
            return
        if not self._names and len(names) == self._size:
            yield images, names  # as it came, without a copy
            return
        self._images.extend(images)
        self._names.extend(names)
        while len(self._names) >= self._size:
            yield self._take(self._size)

    def rest(self):
        """Yield what is left, if anything."""
        if self._names:
            yield self._take(len(self._names))

    def _take(self, n):
        batch = np.stack(self._images[:n]), self._names[:n]
        del self._images[:n], self._names[:n]
        return batch
