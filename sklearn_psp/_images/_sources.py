"""What one image may come as: a path, bytes, a Pillow image, an array or a tensor."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_psp._images._arrays import CHANNELS, is_array_like, is_tensor, rgb_from_array, rgb_from_tensor
from sklearn_psp._images._content import array_key, bytes_key, known_file_key, note_file_key
from sklearn_psp._images._decode import rgb_from_bytes, rgb_from_image
from sklearn_psp._images._types import ImageRefusedError

__all__ = [
    "describe_source",
    "is_one_image",
    "is_path",
    "known_key",
    "load_source",
    "quote_source",
    "rgb_from_source",
]


def is_path(source: object) -> bool:
    """Whether the source names a file."""
    return isinstance(source, (str, os.PathLike))


def is_one_image(X: object) -> bool:
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


def describe_source(source: object) -> str:
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


def rgb_from_source(source: object) -> np.ndarray:
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


def load_source(source: object) -> tuple[bytes, Callable[[], np.ndarray]]:
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


def known_key(source: object) -> bytes | None:
    """Return the key that `load_source` would, where that takes no reading and no conversion, else None."""
    if is_path(source):
        return known_file_key(source)
    if isinstance(source, bytes):
        return bytes_key(source)
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3:
        return array_key(source) if source.size else None
    return None


def _rgb_in_memory(source: object) -> np.ndarray:
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


def _is_missing(source: object) -> bool:
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
