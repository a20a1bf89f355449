"""One image of any kind - path, bytes, Pillow image, array, tensor - and collections of them in order."""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xxhash
from PIL import Image

from sklearn_psp._images._decode import rgb_from_bytes, rgb_from_image
from sklearn_psp._images._pixels import (
    CHANNELS,
    ImageRefusedError,
    is_array_like,
    is_tensor,
    rgb_from_array,
    rgb_from_tensor,
)

__all__ = [
    "ArrayImages",
    "ImageStream",
    "Images",
    "ItemImages",
    "RowImages",
    "SomeImages",
    "array_key",
    "bytes_key",
    "describe_source",
    "is_one_image",
    "is_path",
    "known_file_key",
    "known_key",
    "load_source",
    "quote_source",
    "rgb_from_source",
]

# A file that changes twice within the resolution of its time stamp looks unchanged; one left alone for so long is not
# being written any more (git's rule for its index).
_SETTLED_NS = 2 * 10**9
_MOST_FILES = 200_000
_FILES: OrderedDict[str, tuple[tuple[int, ...], bytes]] = OrderedDict()


def is_path(source: Any) -> bool:
    """Whether the source names a file."""
    return isinstance(source, (str, os.PathLike))


def is_one_image(X: Any) -> bool:
    """Whether X is a single image rather than a collection of them.

    A 3-D array counts as one image where its channel axis (the last of an array, the first of a tensor) has length 1,
    3 or 4.
    """
    if is_path(X) or isinstance(X, (bytes, bytearray, memoryview, Image.Image)):
        return True
    if not is_array_like(X) or isinstance(X, (pd.DataFrame, pd.Series, pd.Index)):
        return False
    if len(X.shape) == 3:
        return X.shape[0 if is_tensor(X) else 2] in CHANNELS
    return len(X.shape) == 2 and (is_tensor(X) or np.dtype(X.dtype).kind in "buif")


def describe_source(source: Any) -> str:
    """The source of an image for messages: the path itself, else what it is.

    Parameters
    ----------
    source : object
        One image.

    Returns
    -------
    str
        `"a/b.jpg"`, `"<bytes, 5,120 long>"`, `"<array (375, 500, 3) uint8>"`, `"<PIL.Image RGB 500x375>"`.
    """
    if is_path(source):
        return str(os.fsdecode(source))  # plain str: the repr of a NumPy one is np.str_(...)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"<{type(source).__name__}, {memoryview(source).nbytes:,} long>"
    if isinstance(source, Image.Image):
        name = getattr(source, "filename", "")
        return f"<PIL.Image {source.mode} {source.width}x{source.height}{f' of {name!r}' if name else ''}>"
    if is_array_like(source):
        kind = "tensor" if is_tensor(source) else "array"
        return f"<{kind} {tuple(source.shape)} {_dtype_name(source.dtype)}>"
    return "<missing value>" if _is_missing(source) else f"<{type(source).__name__}>"


def _dtype_name(dtype: object) -> str:
    # np.dtype names its object "uint8", TensorFlow prints it as "<dtype: 'uint8'>"
    return str(getattr(dtype, "name", None) or dtype).removeprefix("torch.")


def quote_source(description: str) -> str:
    """A description for the middle of a sentence: paths in quotes."""
    return description if description.startswith("<") else repr(description)


def rgb_from_source(source: Any) -> np.ndarray:
    """Read one image at full size.

    Parameters
    ----------
    source : str, path-like, bytes-like, PIL.Image.Image, array or tensor
        One image; see `rgb_from_array` and `rgb_from_tensor` for shapes, dtypes and ranges.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB. The same pixels whatever the image came as.

    Raises
    ------
    ImageRefusedError
        With the reason, if the source holds no readable image.
    """
    return load_source(source)[1]()


def load_source(source: Any) -> tuple[bytes, Callable[[], np.ndarray]]:
    """Read one image as far as it takes to know its content.

    Parameters
    ----------
    source : str, path-like, bytes-like, PIL.Image.Image, array or tensor
        One image.

    Returns
    -------
    key : bytes
        16 bytes that stand for the content: of the file for a path and for bytes, of the pixels for anything else.
    decode : callable
        Returns the image, as `rgb_from_source` does; the slow half of the work for files.

    Raises
    ------
    ImageRefusedError
        With the reason; `decode` may raise it too.
    """
    if is_path(source):
        data, status = _file_content(source)
        key = bytes_key(data)
        note_file_key(source, status, key)
        return key, lambda: rgb_from_bytes(data)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = source if isinstance(source, bytes) else bytes(source)
        return bytes_key(data), lambda: rgb_from_bytes(data)
    image = _rgb_in_memory(source)
    return array_key(image), lambda: image


def known_key(source: Any) -> bytes | None:
    """Return the key that `load_source` would, where that takes no reading and no conversion, else None."""
    if is_path(source):
        return known_file_key(source)
    if isinstance(source, bytes):
        return bytes_key(source)
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3:
        return array_key(source) if source.size else None
    return None


def _rgb_in_memory(source: Any) -> np.ndarray:
    if isinstance(source, Image.Image):
        return rgb_from_image(source)
    if is_tensor(source):
        return rgb_from_tensor(source)
    if is_array_like(source) and not isinstance(source, (pd.DataFrame, pd.Series, pd.Index, np.generic)):
        return rgb_from_array(np.asarray(source))
    if _is_missing(source):
        raise ImageRefusedError(f"it is a missing value ({source!r})")
    if isinstance(source, (list, tuple)):
        raise ImageRefusedError(f"a {type(source).__name__} is not an image; pass np.asarray(...) of it")
    if hasattr(source, "read"):
        raise ImageRefusedError(f"an open file ({type(source).__name__}) is not an image; pass its path or file.read()")
    raise ImageRefusedError(
        f"{type(source).__name__} is not an image: pass a path, bytes, a PIL image, an array or a tensor"
    )


def _is_missing(source: Any) -> bool:
    return source is None or source is pd.NA or source is pd.NaT or (isinstance(source, float) and source != source)


def _file_content(path: str | os.PathLike) -> tuple[bytes, os.stat_result]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageRefusedError("it is a directory; pass the paths of the images in it")
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            raise ImageRefusedError("it is not a regular file")
        with open(path, "rb") as file:
            return file.read(), status
    except FileNotFoundError:
        raise ImageRefusedError("there is no such file") from None
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a NUL in the path
        raise ImageRefusedError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error


def bytes_key(data: bytes) -> bytes:
    """Return 16 bytes that stand for the content of an encoded image (XXH3, 128 bits)."""
    return xxhash.xxh3_128_digest(data, seed=1)


def array_key(image: np.ndarray) -> bytes:
    """Return 16 bytes that stand for pixels, their shape and their dtype."""
    digest = xxhash.xxh3_128(np.ascontiguousarray(image).data, seed=2)
    digest.update(f"{image.shape}{image.dtype.str}".encode())
    return digest.digest()


def known_file_key(path: str | os.PathLike) -> bytes | None:
    """Return the key of a file this process has read, if neither its size nor its times have changed since."""
    name = os.fsdecode(path)
    known = _FILES.get(name)
    if known is None:
        return None
    try:
        return known[1] if known[0] == _signature(os.stat(path)) else None
    except (OSError, ValueError):
        return None


def note_file_key(path: str | os.PathLike, status: os.stat_result, key: bytes) -> None:
    """Remember the key of a file, unless it was written a moment ago."""
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED_NS:
        return
    # Relative paths mean another file in another working directory: the inode is part of the signature.
    _FILES[os.fsdecode(path)] = (_signature(status), key)
    while len(_FILES) > _MOST_FILES:
        try:
            _FILES.popitem(last=False)
        except KeyError:  # another thread was faster
            break


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


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
    dtype: np.dtype = np.dtype(np.uint8)

    def get(self, i: int) -> Any:
        """Return image i as it was given."""
        raise NotImplementedError

    def describe(self, i: int) -> str:
        """Say what image i came from: its path, or what it is."""
        return describe_source(self.get(i))

    def __iter__(self) -> Iterator[Any]:
        """Yield the images as they were given."""
        return (self.get(i) for i in range(self.n_images or 0))

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

    def get(self, i: int) -> Any:
        return self._items[i]

    def known_key(self, i: int) -> bytes | None:
        return super().known_key(i) if self._in_memory else None

    def missing_files(self) -> list[int]:
        if not self._in_memory:
            return []
        return [i for i, item in enumerate(self._items) if is_path(item) and not os.path.exists(item)]


class ArrayImages(Images):
    """An array (n, h, w) or (n, h, w, c), or a tensor (n, h, w) or (n, c, h, w); never copied as a whole."""

    def __init__(self, array: Any):
        self._array = array
        self.n_images = len(array)

    def get(self, i: int) -> Any:
        return self._array[i]

    def ready(self, image_size: tuple[int, int]) -> Callable[[int, int], np.ndarray] | None:
        array = self._array
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.shape[1:] != (*image_size, 3):
            return None
        if isinstance(array, np.memmap):  # read here, not page by page inside the network
            return lambda start, stop: np.array(array[start:stop])
        return lambda start, stop: np.ascontiguousarray(array[start:stop])


class RowImages(Images):
    """A table of numbers, one image a row; see `as_images` for the scale."""

    dtype: np.dtype = np.dtype(np.float32)

    def __init__(self, table: np.ndarray, image_shape: tuple[int, ...]):
        self._table = table
        self._shape = image_shape if len(image_shape) == 3 else (*image_shape, 1)
        self._scale = 255.0 if table.dtype.kind == "f" else 1.0
        self.n_images = len(table)

    def get(self, i: int) -> Any:
        return self._table[i]

    def load(self, source: Any) -> tuple[bytes, Callable[[], np.ndarray]]:
        image = self._rgb(source)
        return array_key(image), lambda: image

    def known_key(self, i: int) -> bytes | None:
        return None

    def _rgb(self, source: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # rows are taken as they are
            image = np.multiply(source, self._scale, dtype=np.float64).astype(np.float32).reshape(self._shape)
        if self._shape[2] == 4:
            alpha = image[:, :, 3:] / np.float32(255.0)
            return image[:, :, :3] * alpha + np.float32(255.0) * (1 - alpha)
        return np.repeat(image, 3, axis=2) if self._shape[2] == 1 else image


class ImageStream(Images):
    """An iterable of batches, read once, one batch at a time."""

    n_images = None

    def __init__(self, batches: Iterable, open_batch: Callable[[int, Any], Images]):
        self._batches = batches
        self._open_batch = open_batch

    def get(self, i: int) -> Any:
        raise TypeError("an iterable of batches can only be read in order: iterate over it")

    def __iter__(self) -> Iterator[Any]:
        for position, batch in enumerate(self._batches):
            yield from self._open_batch(position, batch)


class SomeImages(Images):
    """Some of other images, which keep their positions in X."""

    def __init__(self, images: Images, rows: Sequence[int] | np.ndarray):
        self._images = images
        self._rows = rows
        self.n_images = len(rows)
        self.dtype = images.dtype

    def get(self, i: int) -> Any:
        return self._images.get(self._rows[i])

    def row(self, i: int) -> int:
        return self._images.row(self._rows[i])

    @property
    def n_rows(self) -> int | None:
        return self._images.n_rows

    def describe(self, i: int) -> str:
        return self._images.describe(self._rows[i])

    def load(self, source: Any) -> tuple[bytes, Callable[[], np.ndarray]]:
        return self._images.load(source)

    def known_key(self, i: int) -> bytes | None:
        return self._images.known_key(self._rows[i])

    def missing_files(self) -> list[int]:
        places = {row: i for i, row in enumerate(self._rows)}
        return [places[row] for row in self._images.missing_files() if row in places]
