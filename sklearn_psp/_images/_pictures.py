"""The forms that X may have, behind one face: pictures in order, each read on its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sklearn_psp._images._content import array_key
from sklearn_psp._images._sources import describe_source, is_path, known_key, load_source

__all__ = ["ArrayPictures", "ItemPictures", "PictureStream", "Pictures", "RowPictures", "SomePictures"]


class Pictures:
    """Pictures in order.

    Attributes
    ----------
    n_pictures : int or None
        None for an iterable of batches, whose length shows only when it has been read.
    dtype : numpy.dtype
        Of the batches: uint8, or float32 for a table of floats.
    """

    n_pictures: int | None
    dtype = np.dtype(np.uint8)

    def get(self, i: int) -> Any:
        """Return picture i as it was given."""
        raise NotImplementedError

    def describe(self, i: int) -> str:
        """Say what picture i came from: its path, or what it is."""
        return describe_source(self.get(i))

    def __iter__(self) -> Iterator[Any]:
        """Yield the pictures as they were given."""
        return (self.get(i) for i in range(self.n_pictures))

    def missing_files(self) -> list[int]:
        """Positions of the paths that name no file."""
        return []

    def load(self, source: Any) -> tuple[bytes, Callable[[], np.ndarray]]:
        """Read one picture that `get` or iterating gave: the key of its content, and what decodes it at full size.

        Raises
        ------
        PictureRefusedError
            With the reason; the returned callable may raise it too.
        """
        return load_source(source)

    def known_key(self, i: int) -> bytes | None:
        """Return the key of picture i where that takes no reading, else None."""
        return known_key(self.get(i))

    def row(self, i: int) -> int:
        """Return the position in X of picture i."""
        return i

    @property
    def n_rows(self) -> int | None:
        """Number of pictures of X, of which these may be some."""
        return self.n_pictures

    def ready(self, image_size: tuple[int, int]) -> Callable[[int, int], np.ndarray] | None:
        """Return a function from (start, stop) to finished images where there is nothing to do, else None."""
        return None


class ItemPictures(Pictures):
    """A sequence of pictures of any kind, mixed as you like."""

    def __init__(self, items: Sequence | np.ndarray, *, in_memory: bool = True):
        self._items = items
        # A lazy sequence may open or decode a picture whenever it is asked for one: ask once.
        self._in_memory = in_memory
        self.n_pictures = len(items)

    def get(self, i):
        return self._items[i]

    def known_key(self, i):
        return super().known_key(i) if self._in_memory else None

    def missing_files(self):
        if not self._in_memory:
            return []
        return [i for i, item in enumerate(self._items) if is_path(item) and not os.path.exists(item)]


class ArrayPictures(Pictures):
    """An array (n, h, w) or (n, h, w, c), or a tensor (n, h, w) or (n, c, h, w); never copied as a whole."""

    def __init__(self, array):
        self._array = array
        self.n_pictures = len(array)

    def get(self, i):
        return self._array[i]

    def ready(self, image_size):
        array = self._array
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.shape[1:] != (*image_size, 3):
            return None
        if isinstance(array, np.memmap):  # read here, not page by page inside the network
            return lambda start, stop: np.array(array[start:stop])
        return lambda start, stop: np.ascontiguousarray(array[start:stop])


class RowPictures(Pictures):
    """A table of numbers, one picture a row; see `as_pictures` for the scale."""

    dtype = np.dtype(np.float32)

    def __init__(self, table: np.ndarray, image_shape: tuple[int, ...]):
        self._table = table
        self._shape = image_shape if len(image_shape) == 3 else (*image_shape, 1)
        self._scale = 255.0 if table.dtype.kind == "f" else 1.0
        self.n_pictures = len(table)

    def get(self, i):
        return self._table[i]

    def load(self, source):
        picture = self._rgb(source)
        return array_key(picture), lambda: picture

    def known_key(self, i):
        return None

    def _rgb(self, source):
        with np.errstate(over="ignore"):  # rows are taken as they are
            picture = np.multiply(source, self._scale, dtype=np.float64).astype(np.float32).reshape(self._shape)
        if self._shape[2] == 4:
            alpha = picture[:, :, 3:] / np.float32(255.0)
            return picture[:, :, :3] * alpha + np.float32(255.0) * (1 - alpha)
        return np.repeat(picture, 3, axis=2) if self._shape[2] == 1 else picture


class PictureStream(Pictures):
    """An iterable of batches, read once, one batch at a time."""

    n_pictures = None

    def __init__(self, batches, open_batch: Callable[[int, Any], Pictures]):
        self._batches = batches
        self._open_batch = open_batch

    def get(self, i):
        raise TypeError("an iterable of batches can only be read in order: iterate over it")

    def __iter__(self):
        for position, batch in enumerate(self._batches):
            yield from self._open_batch(position, batch)


class SomePictures(Pictures):
    """Some of other pictures, which keep their positions in X."""

    def __init__(self, pictures: Pictures, rows: Sequence[int]):
        self._pictures = pictures
        self._rows = rows
        self.n_pictures = len(rows)
        self.dtype = pictures.dtype

    def get(self, i):
        return self._pictures.get(self._rows[i])

    def row(self, i):
        return self._pictures.row(self._rows[i])

    @property
    def n_rows(self):
        return self._pictures.n_rows

    def describe(self, i):
        return self._pictures.describe(self._rows[i])

    def load(self, source):
        return self._pictures.load(source)

    def known_key(self, i):
        return self._pictures.known_key(self._rows[i])

    def missing_files(self):
        places = {row: i for i, row in enumerate(self._rows)}
        return [places[row] for row in self._pictures.missing_files() if row in places]
