"""The forms that X may have, behind one face: images in order, each read on its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sklearn_psp._images._content import array_key
from sklearn_psp._images._sources import describe_source, is_path, known_key, load_source

__all__ = ["ArrayImages", "ImageStream", "Images", "ItemImages", "RowImages", "SomeImages"]


class Images:
    """Images in order.

    Attributes
    ----------
    n_images : int or None
        None for an iterable of batches, whose length shows only when it has been read.
    dtype : numpy.dtype
        Of the batches: uint8, or float32 for a table of floats.
    """

    n_images: int | None
    dtype = np.dtype(np.uint8)

    def get(self, i: int) -> Any:
        """Return image i as it was given."""
        raise NotImplementedError

    def describe(self, i: int) -> str:
        """Say what image i came from: its path, or what it is."""
        return describe_source(self.get(i))

    def __iter__(self) -> Iterator[Any]:
        """Yield the images as they were given."""
        return (self.get(i) for i in range(self.n_images))

    def missing_files(self) -> list[int]:
        """Positions of the paths that name no file."""
        return []

    def load(self, source: Any) -> tuple[bytes, Callable[[], np.ndarray]]:
        """Read one image that `get` or iterating gave: the key of its content, and what decodes it at full size.

        Raises
        ------
        ImageRefusedError
            With the reason; the returned callable may raise it too.
        """
        return load_source(source)

    def known_key(self, i: int) -> bytes | None:
        """Return the key of image i where that takes no reading, else None."""
        return known_key(self.get(i))

    def row(self, i: int) -> int:
        """Return the position in X of image i."""
        return i

    @property
    def n_rows(self) -> int | None:
        """Number of images of X, of which these may be some."""
        return self.n_images

    def ready(self, image_size: tuple[int, int]) -> Callable[[int, int], np.ndarray] | None:
        """Return a function from (start, stop) to finished images where there is nothing to do, else None."""
        return None


class ItemImages(Images):
    """A sequence of images of any kind, mixed as you like."""

    def __init__(self, items: Sequence | np.ndarray, *, in_memory: bool = True):
        self._items = items
        # A lazy sequence may open or decode an image whenever it is asked for one: ask once.
        self._in_memory = in_memory
        self.n_images = len(items)

    def get(self, i):
        return self._items[i]

    def known_key(self, i):
        return super().known_key(i) if self._in_memory else None

    def missing_files(self):
        if not self._in_memory:
            return []
        return [i for i, item in enumerate(self._items) if is_path(item) and not os.path.exists(item)]


class ArrayImages(Images):
    """An array (n, h, w) or (n, h, w, c), or a tensor (n, h, w) or (n, c, h, w); never copied as a whole."""

    def __init__(self, array):
        self._array = array
        self.n_images = len(array)

    def get(self, i):
        return self._array[i]

    def ready(self, image_size):
        array = self._array
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.shape[1:] != (*image_size, 3):
            return None
        if isinstance(array, np.memmap):  # read here, not page by page inside the network
            return lambda start, stop: np.array(array[start:stop])
        return lambda start, stop: np.ascontiguousarray(array[start:stop])


class RowImages(Images):
    """A table of numbers, one image a row; see `as_images` for the scale."""

    dtype = np.dtype(np.float32)

    def __init__(self, table: np.ndarray, image_shape: tuple[int, ...]):
        self._table = table
        self._shape = image_shape if len(image_shape) == 3 else (*image_shape, 1)
        self._scale = 255.0 if table.dtype.kind == "f" else 1.0
        self.n_images = len(table)

    def get(self, i):
        return self._table[i]

    def load(self, source):
        image = self._rgb(source)
        return array_key(image), lambda: image

    def known_key(self, i):
        return None

    def _rgb(self, source):
        with np.errstate(over="ignore"):  # rows are taken as they are
            image = np.multiply(source, self._scale, dtype=np.float64).astype(np.float32).reshape(self._shape)
        if self._shape[2] == 4:
            alpha = image[:, :, 3:] / np.float32(255.0)
            return image[:, :, :3] * alpha + np.float32(255.0) * (1 - alpha)
        return np.repeat(image, 3, axis=2) if self._shape[2] == 1 else image


class ImageStream(Images):
    """An iterable of batches, read once, one batch at a time."""

    n_images = None

    def __init__(self, batches, open_batch: Callable[[int, Any], Images]):
        self._batches = batches
        self._open_batch = open_batch

    def get(self, i):
        raise TypeError("an iterable of batches can only be read in order: iterate over it")

    def __iter__(self):
        for position, batch in enumerate(self._batches):
            yield from self._open_batch(position, batch)


class SomeImages(Images):
    """Some of other images, which keep their positions in X."""

    def __init__(self, images: Images, rows: Sequence[int]):
        self._images = images
        self._rows = rows
        self.n_images = len(rows)
        self.dtype = images.dtype

    def get(self, i):
        return self._images.get(self._rows[i])

    def row(self, i):
        return self._images.row(self._rows[i])

    @property
    def n_rows(self):
        return self._images.n_rows

    def describe(self, i):
        return self._images.describe(self._rows[i])

    def load(self, source):
        return self._images.load(source)

    def known_key(self, i):
        return self._images.known_key(self._rows[i])

    def missing_files(self):
        places = {row: i for i, row in enumerate(self._rows)}
        return [places[row] for row in self._images.missing_files() if row in places]
