"""A table of numbers understood as images: one row, one image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sklearn_psp._images._arrays import CHANNELS
from sklearn_psp._images._images import ArrayImages, Images, RowImages
from sklearn_psp.exceptions import ImageInputError

__all__ = ["resolve_image_shape", "row_images", "squarest_shape"]


def squarest_shape(n_columns: int) -> tuple[int, int]:
    """Height and width of the squarest grey image of so many pixels, height <= width.

    Parameters
    ----------
    n_columns : int
        At least 1.

    Returns
    -------
    tuple of int (height, width)
        With `height * width == n_columns`.
    """
    height = next(h for h in range(math.isqrt(n_columns), 0, -1) if n_columns % h == 0)
    return height, n_columns // height


def resolve_image_shape(image_shape: Any, n_columns: int) -> tuple[int, ...]:
    """Check `image_shape` against the number of columns.

    Parameters
    ----------
    image_shape : "auto", (h, w) or (h, w, c)
        As given by the user.
    n_columns : int
        Of the table.

    Returns
    -------
    tuple of int (h, w) or (h, w, c)
        Its product is `n_columns`.

    Raises
    ------
    ImageInputError
        If it is neither, or does not fit.
    """
    if isinstance(image_shape, str) and image_shape == "auto":
        return squarest_shape(n_columns)
    try:
        shape = tuple(int(length) for length in image_shape)
    except (TypeError, ValueError):
        shape = ()
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] not in CHANNELS):
        raise ImageInputError(f'image_shape must be "auto", (h, w) or (h, w, 1 | 3 | 4), got {image_shape!r}')
    if math.prod(shape) != n_columns:
        h, w = squarest_shape(n_columns)
        raise ImageInputError(
            f"image_shape={shape} has {math.prod(shape):,} values, but the rows of X have {n_columns:,}; "
            f'pass a shape that fits, for example image_shape=({h}, {w}) or "auto"'
        )
    return shape


def row_images(table: np.ndarray, image_shape: Any) -> Images:
    """The rows of a table as images.

    Parameters
    ----------
    table : ndarray of shape (n, n_columns)
        Numbers.
    image_shape : "auto", (h, w) or (h, w, c)
        See `as_images`.

    Returns
    -------
    Images
        uint8 for uint8 and bool rows, which are ordinary images; float32 else.
    """
    if table.dtype.kind in "OUT":
        try:
            table = table.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ImageInputError(f"X is a table of dtype {table.dtype}, its rows must be numbers: {error}") from error
    if table.dtype.kind not in "buif":
        raise ImageInputError(f"X is a table of dtype {table.dtype}: its rows must be real numbers")
    if table.shape[1] == 0:
        raise ImageInputError(f"X has rows without values: Found array with 0 feature(s) (shape={table.shape})")
    shape = resolve_image_shape(image_shape, table.shape[1])
    if table.dtype == np.uint8 or table.dtype.kind == "b":
        return ArrayImages(table.reshape(len(table), *shape))
    return RowImages(table, shape)
