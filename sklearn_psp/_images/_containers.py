"""The container X - list, Series, DataFrame, array, tensor, table or stream - recognised and wrapped as `Images`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sklearn_psp._images._pixels import CHANNELS, is_array_like, is_foreign_tensor, is_tensor, plain
from sklearn_psp._images._sources import (
    ArrayImages,
    Images,
    ImageStream,
    ItemImages,
    RowImages,
    describe_source,
    is_one_image,
    quote_source,
)
from sklearn_psp._images._streams import (
    IndexedBatches,
    batches_remedy,
    check_finite,
    is_batch,
    is_indexed_batches,
    labelled_members,
    members_of_batch,
)
from sklearn_psp.exceptions import ImageInputError

__all__ = ["as_images", "is_labelled_stream", "labelled_batches", "resolve_image_shape", "row_images", "squarest_shape"]


def as_images(X: Any, *, image_shape: Any = None) -> Images:
    """Understand X as a collection of images, without reading one.

    Parameters
    ----------
    X : list, Series, one-column DataFrame, array, tensor or iterable of batches
        - a list, tuple or other sequence, 1-D object or str array, Series, Index, or one-column DataFrame of images:
          paths, bytes, PIL images, arrays, tensors, mixed as you like;
        - an array or memmap of shape (n, h, w) or (n, h, w, 1 | 3 | 4), a tensor of shape (n, h, w) or
          (n, 1 | 3 | 4, h, w);
        - any other iterable: its items are batches in one of the forms above, or (batch, labels ...) pairs as a
          `DataLoader`, a `tf.data.Dataset` or a `keras.utils.PyDataset` gives;
        - with `image_shape`, a table of shape (n, n_columns).
    image_shape : None, "auto", (h, w) or (h, w, c), default=None
        How a row of a table becomes an image: "auto" is the squarest grey one with h <= w. uint8 and bool rows are
        ordinary images. Floats are multiplied by 255 as float32, neither checked nor rounded, because columns may
        have been scaled on the way; other integers are taken as levels from 0 to 255, as float32 too. A table is
        refused where this is None.

    Returns
    -------
    Images
        With `n_images`, `describe(i)`, `get(i)` and iteration.

    Raises
    ------
    ImageInputError
        If X is empty, a single image, or nothing that holds images; the message names the remedy.
    """
    images = _understand(X, image_shape)
    if images.n_images == 0:
        raise ImageInputError(
            "X is empty: Found array with 0 sample(s) while a minimum of 1 is required; pass at least one image"
        )
    return images


def labelled_batches(X: Any) -> Iterator[tuple[Images, np.ndarray]]:
    """Take images and labels from an iterable of (images, labels) batches, once through.

    Parameters
    ----------
    X : DataLoader, tf.data.Dataset, keras.utils.PyDataset, list of pairs or other iterable
        Its items are pairs (tuple or list) of a batch, as `as_images` takes it, and of its labels: a 1-D array,
        tensor, list or Series, or one column. Call again for every epoch, with what can be iterated again.

    Yields
    ------
    images : Images
        At least one, with `n_images` known; `read_batches` reads them.
    labels : ndarray of shape (n_images,)
        Strings of TensorFlow and bytes are decoded to str.

    Raises
    ------
    ImageInputError
        If X is no such iterable, an item is no such pair, or nothing was yielded - as by a generator the second time.
    """
    batches = _batches_of(X)
    n_batches, iterator = 0, iter(batches)
    for position, item in enumerate(iterator):
        try:
            members, labels = labelled_members(item, batches_remedy(X))
            images = _understand(members, None)
            if images.n_images != len(labels):
                raise ImageInputError(f"It has {images.n_images} images and {len(labels)} labels")
        except ImageInputError as error:
            raise ImageInputError(
                f"X is an iterable of (images, labels) batches, and its item {position} is none. {error}"
            ) from error
        if images.n_images:
            n_batches += 1
            yield images, labels
    if n_batches == 0:
        reason = (
            "a generator can be read only once: pass what can be iterated again for every epoch, such as a "
            "torch.utils.data.DataLoader, a tf.data.Dataset or a list of batches"
            if iterator is X
            else "pass at least one image"
        )
        raise ImageInputError(
            f"X yielded no batch: Found array with 0 sample(s) while a minimum of 1 is required; {reason}"
        )


def is_labelled_stream(X: Any) -> bool:
    """Whether labels for X, if there are any, come with it: an iterable of batches, not a collection of images.

    Nothing is taken from an iterator. Whether the batches of a `DataLoader` have labels shows when they are read, by
    `labelled_batches`.

    Parameters
    ----------
    X : object
        What a user passed for images.

    Returns
    -------
    bool
        True for what `as_images` reads as an iterable of batches, and for a list of (images, labels) pairs.
    """
    if isinstance(X, (Images, pd.DataFrame, pd.Series, pd.Index, Mapping, Set)):
        return False
    if is_foreign_tensor(X) or is_array_like(X) or is_one_image(X) or hasattr(X, "toarray"):
        return False
    if isinstance(X, Sequence):
        return bool(len(X)) and _is_pair(X[0])
    return is_indexed_batches(X) or isinstance(X, Iterable)


def _is_pair(item: Any) -> bool:
    return isinstance(item, (list, tuple)) and len(item) > 1 and is_batch(plain(item[0]))


def _batches_of(X: Any) -> Iterable:
    if not is_labelled_stream(X):
        raise ImageInputError(
            f"X must be an iterable of (images, labels) batches, such as a DataLoader or a tf.data.Dataset, got "
            f"{type(X).__name__}{_data_set_remedy(X) or '; pass images and their labels as X and y'}"
        )
    return _opened(X)


def _data_set_remedy(X: Any) -> str:
    known = isinstance(X, (Sequence, Mapping, pd.DataFrame, pd.Series, pd.Index, Images)) or hasattr(X, "shape")
    indexed = not known and hasattr(X, "__getitem__") and hasattr(X, "__len__")
    return "; pass a DataLoader over it" if indexed else ""


def _opened(X: Any) -> Iterable:
    check_finite(X)
    return IndexedBatches(X) if is_indexed_batches(X) and not isinstance(X, Sequence) else X


def _understand(X: Any, image_shape: Any) -> Images:
    X = plain(X)
    if isinstance(X, Images):
        return X
    if isinstance(X, pd.DataFrame):
        return _from_frame(X, image_shape)
    if isinstance(X, (pd.Series, pd.Index)):
        return _from_column(X.to_numpy())
    if is_tensor(X):
        return _from_tensor(X, image_shape)
    _refuse_lookalikes(X)
    if is_array_like(X) and not np.isscalar(X):
        return _from_array(X if isinstance(X, np.ndarray) else np.asarray(X), image_shape)
    if isinstance(X, Sequence):
        if image_shape is not None and len(X) and _is_row(X[0]):
            return _from_array(np.asarray(X), image_shape)
        return ItemImages(X, in_memory=isinstance(X, (list, tuple)))
    if is_indexed_batches(X) or isinstance(X, Iterable):
        return ImageStream(_opened(X), partial(_open_batch, batches_remedy(X)))
    raise ImageInputError(
        f"X must be a list, Series, one-column DataFrame, array or tensor of images, or an iterable of batches, "
        f"got {type(X).__name__}{_data_set_remedy(X)}"
    )


def _refuse_lookalikes(X: Any) -> None:
    """Refuse what could be taken for a collection of images and is none, each with its remedy."""
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise ImageInputError("X is a sparse matrix: images are dense, pass X.toarray()")
    # An array that may be one image is judged by its shape, with a remedy for each.
    if is_one_image(X) and (np.isscalar(X) or not is_array_like(X)):
        raise ImageInputError(f"X is a single image ({quote_source(describe_source(X))}): pass [X]")
    if isinstance(X, Mapping):
        raise ImageInputError("X is a dict: pass its images, for example list(X.values())")
    if isinstance(X, Set):
        raise ImageInputError("X is a set, which has no order: pass a list")


def _from_frame(X: pd.DataFrame, image_shape: Any) -> Images:
    if image_shape is not None and X.shape[1] and all(pd.api.types.is_numeric_dtype(kind) for kind in X.dtypes):
        return row_images(X.to_numpy(), image_shape)
    if X.shape[1] == 1:
        return _from_column(X.iloc[:, 0].to_numpy())
    names = list(X.columns)
    texts = [name for name, kind in X.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if not names:
        remedy = "pass the column that holds the images"
    elif not texts:
        remedy = f"pass image_shape=(h, w) if each row of {len(names)} numbers is an image"
    else:
        remedy = f"pass the column that holds the images, for example df[{texts[0]!r}]"
    shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
    raise ImageInputError(f"X is a DataFrame of {len(names)} columns ({shown}), one is needed: {remedy}")


def _from_column(items: np.ndarray) -> Images:
    if items.ndim == 1 and items.dtype.kind not in "OUT" and len(items):
        raise ImageInputError(
            f"X is a column of dtype {items.dtype}, not of images: pass paths, bytes, PIL images or arrays"
        )
    return _from_array(items if items.dtype.kind in "OUT" else items.astype(object), None)


def _from_array(X: np.ndarray, image_shape: Any) -> Images:
    kind, shape = X.dtype.kind, X.shape
    if kind == "S":
        raise ImageInputError(
            f"X is an array of dtype {X.dtype}: NumPy strips the trailing NUL bytes of such items, which cuts encoded "
            "images; pass a list of bytes, or an array of dtype object"
        )
    if X.ndim == 2 and image_shape is not None:
        return row_images(X, image_shape)
    if kind in "OUT":
        return _from_objects(X)
    if X.ndim not in (3, 4) or kind not in "buif":
        return _refuse_array(X)
    if 0 in shape[1:]:
        raise ImageInputError(f"X holds images without pixels: its shape is {shape}")
    if X.ndim == 3 and shape[2] in CHANNELS:
        raise ImageInputError(
            f"X has the shape {shape} of a single image (h, w, {shape[2]}): pass [X], or X[..., None] if it is a "
            "stack of grey images"
        )
    if X.ndim == 4 and shape[3] not in CHANNELS:
        remedy = ": pass X.transpose(0, 2, 3, 1)" if shape[1] in CHANNELS else ""
        raise ImageInputError(f"X must have the shape (n, h, w, 1 | 3 | 4), got {shape}{remedy}")
    return ArrayImages(X)


def _from_objects(X: np.ndarray) -> Images:
    if X.ndim == 2 and X.shape[1] == 1:  # a ColumnTransformer over an array hands over a column like this
        X = X[:, 0]
    if X.ndim != 1:
        raise ImageInputError(
            f"X is an array of dtype {X.dtype} and shape {X.shape}: pass one column of images, or numbers of shape "
            "(n, h, w, 3)"
        )
    return ItemImages(X)


def _refuse_array(X: np.ndarray) -> Images:
    if X.dtype.kind not in "buif":
        raise ImageInputError(f"X is an array of dtype {X.dtype}: images are uint8, uint16, bool or floats in [0, 1]")
    if X.ndim == 2:
        raise ImageInputError(
            f"X is a 2-D array of shape {X.shape}: if its rows are images, pass image_shape=(h, w) or "
            "X.reshape(-1, h, w); if it is one grey image, pass [X]"
        )
    raise ImageInputError(
        f"X must have the shape (n, h, w) or (n, h, w, 1 | 3 | 4), got the {X.ndim}-D shape {X.shape}"
    )


def _from_tensor(X: Any, image_shape: Any) -> Images:
    shape = tuple(X.shape)
    if X.ndim == 2:
        return _from_array(X.detach().cpu().numpy(), image_shape)
    if X.ndim not in (3, 4):
        raise ImageInputError(
            f"X must have the shape (n, h, w) or (n, 1 | 3 | 4, h, w), got the {X.ndim}-D shape {shape}"
        )
    if X.ndim == 3 and shape[0] in CHANNELS:
        raise ImageInputError(
            f"X has the shape {shape} of a single image ({shape[0]}, h, w): pass X[None], or X[:, None] if it is a "
            "stack of grey images"
        )
    if X.ndim == 4 and shape[1] not in CHANNELS:
        remedy = ": pass X.permute(0, 3, 1, 2)" if shape[3] in CHANNELS else ""
        raise ImageInputError(f"X must have the shape (n, 1 | 3 | 4, h, w), got {shape}{remedy}")
    if 0 in shape[1:]:
        raise ImageInputError(f"X holds images without pixels: its shape is {shape}")
    if X.ndim == 4 and X.device.type == "cpu" and str(X.dtype) == "torch.uint8":
        return ArrayImages(X.detach().permute(0, 2, 3, 1).numpy())  # a view: batches of the right size need no work
    return ArrayImages(X)


def _is_row(item: Any) -> bool:
    if is_array_like(item):
        return len(item.shape) == 1
    return isinstance(item, (list, tuple)) and bool(len(item)) and np.isscalar(item[0]) and not isinstance(item[0], str)


def _open_batch(remedy: str | None, position: int, batch: Any) -> Images:
    try:
        return _understand(members_of_batch(batch, remedy), None)
    except ImageInputError as error:
        raise ImageInputError(f"X is an iterable of batches, and its item {position} is no batch. {error}") from error


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
