"""Checks of parameters and tables that scikit-learn's own cannot express: the rule, the value and the remedy."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.validation import column_or_1d, validate_data

__all__ = [
    "check_bin_sizes",
    "check_image_size",
    "check_labels",
    "check_part_weights",
    "check_projection",
    "check_rows",
    "check_scales",
    "is_table",
    "own_index",
    "parts_frame",
    "sample_by_class",
    "scaled_size",
    "source_names",
]

# Sides of a rescaled image are multiples of this, half the stride of the usual backbones.
_SIDE_STEP = 16


def check_image_size(image_size: Any, own: tuple[int, int] = (224, 224)) -> tuple[int, int]:
    """Return (height, width) of an int or a pair.

    Parameters
    ----------
    image_size : "auto", int or tuple of two ints
        The parameter.
    own : tuple of two ints, default=(224, 224)
        What "auto" stands for: the size of the network's own images.

    Returns
    -------
    tuple of two ints
        (height, width).

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(image_size, str) and image_size == "auto":
        return own
    pair = (image_size, image_size) if isinstance(image_size, Integral) else tuple(image_size)
    if len(pair) != 2 or not all(isinstance(side, Integral) and int(side) > 0 for side in pair):
        raise ValueError(
            f"image_size={image_size!r} must be 'auto', a positive int or (height, width), both positive ints"
        )
    return int(pair[0]), int(pair[1])


def check_scales(scales: Any) -> tuple[float, ...]:
    """Return scales as a tuple of floats.

    Raises
    ------
    ValueError
        If there is none, or one is not a positive number.
    """
    if not len(scales) or not all(isinstance(scale, Real) and 0 < float(scale) < np.inf for scale in scales):
        raise ValueError(f"scales={scales!r} must hold at least one number, all of them above 0; (1.0,) is one scale")
    return tuple(float(scale) for scale in scales)


def scaled_size(image_size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (height, width) of an image at a scale: exact at 1.0, else rounded to multiples of 16 pixels."""
    if scale == 1.0:
        return image_size
    height, width = (max(_SIDE_STEP, round(side * scale / _SIDE_STEP) * _SIDE_STEP) for side in image_size)
    return height, width


def check_bin_sizes(bin_sizes: Any) -> tuple[tuple[int, int], ...]:
    """Return the levels of a pyramid as (rows, columns).

    Raises
    ------
    ValueError
        If there is no level, or one is neither a positive int nor a pair of them.
    """
    levels = tuple((size, size) if isinstance(size, Integral) else size for size in bin_sizes)
    for level, given in zip(levels, bin_sizes, strict=True):
        if not (
            isinstance(level, tuple | list)
            and len(level) == 2
            and all(isinstance(bins, Integral) and int(bins) > 0 for bins in level)
        ):
            raise ValueError(
                f"bin_sizes={bin_sizes!r}: {given!r} must be a positive int, for a square grid, or (rows, columns)"
            )
    if not levels:
        raise ValueError(f"bin_sizes={bin_sizes!r} must hold at least one level, e.g. (1, 2, 3)")
    return tuple((int(rows), int(columns)) for rows, columns in levels)


def check_part_weights(part_weights: Any, n_parts: int) -> np.ndarray:
    """Return the weights of the parts.

    Parameters
    ----------
    part_weights : {"uniform", "learned"} or array-like of shape (n_parts,)
        The parameter; those that are learned start as uniform ones.
    n_parts : int
        Number of parts.

    Returns
    -------
    ndarray of shape (n_parts,), float32
        The weights.

    Raises
    ------
    ValueError
        If their number is not the number of parts, or one is negative or not finite, or all are zero.
    """
    if isinstance(part_weights, str):
        return np.ones(n_parts, dtype=np.float32)
    weights = np.asarray(part_weights, dtype=np.float32)
    if weights.shape != (n_parts,):
        raise ValueError(f"part_weights has shape {weights.shape}, but bin_sizes make {n_parts} parts: one weight each")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"part_weights={part_weights!r} must be finite, not negative, and not all zero")
    return weights


def check_projection(projection: Any, n_levels: int, n_channels: int) -> np.ndarray | None:
    """Return the matrices that the local features of each level are multiplied by.

    Parameters
    ----------
    projection : array-like of shape (n_levels, n_channels, n_components) or None
        The parameter.
    n_levels : int
        Number of levels of the pyramid.
    n_channels : int
        Number of channels of the feature maps.

    Returns
    -------
    ndarray of shape (n_levels, n_channels, n_components), float32, or None
        The matrices; None without a projection.

    Raises
    ------
    ValueError
        If they are not numbers, have another shape, or are not finite in float32.
    """
    if projection is None:
        return None
    remedy = (
        f"bin_sizes make {n_levels} levels and the backbone gives {n_channels:,} channels: a matrix each, "
        f"({n_levels}, {n_channels}, n_components)"
    )
    try:
        with np.errstate(over="ignore"):  # becomes infinity, which is refused below
            matrices = np.asarray(projection, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"projection is not an array of numbers ({error}); {remedy}") from error
    if matrices.ndim != 3 or matrices.shape[:2] != (n_levels, n_channels) or not matrices.shape[2]:
        raise ValueError(f"projection has shape {matrices.shape}, but {remedy}")
    finite = np.isfinite(matrices)
    if not finite.all():
        first = np.unravel_index(np.argmin(finite), finite.shape)
        place = ", ".join(map(str, first))
        raise ValueError(
            f"projection must be finite in float32, but projection[{place}] is {matrices[first]}; "
            f"{np.count_nonzero(~finite):,} of its numbers are not"
        )
    return matrices


def check_labels(y: Any, n_images: int) -> np.ndarray:
    """Return labels of any type as integers from 0.

    Parameters
    ----------
    y : array-like of shape (n_images,)
        The labels.
    n_images : int
        Number of images.

    Returns
    -------
    ndarray of shape (n_images,), int64
        Equal for equal labels.

    Raises
    ------
    ValueError
        If their number is not that of the images, or one is missing.
    """
    y = column_or_1d(y, warn=True)
    if len(y) != n_images:
        raise ValueError(f"X has {n_images:,} images, but y has {len(y):,} labels")
    codes, _ = pd.factorize(y)
    if (codes < 0).any():
        missing = np.flatnonzero(codes < 0)
        raise ValueError(f"y has {len(missing):,} missing labels, the first at {missing[0]}; leave those images out")
    return codes.astype(np.int64)


def sample_by_class(codes: np.ndarray, n_most: int, random_state: np.random.RandomState) -> np.ndarray:
    """Choose positions at random, about as many of each class, and at least four where it has them.

    Parameters
    ----------
    codes : ndarray of shape (n,), int64
        Classes, as integers from 0.
    n_most : int
        How many at most; all where there are no more.
    random_state : RandomState
        Decides.

    Returns
    -------
    ndarray of shape (n_chosen,), int64
        Positions, ascending.
    """
    if len(codes) <= n_most:
        return np.arange(len(codes))
    n_classes = codes.max() + 1
    per_class = max(4, n_most // n_classes)
    shuffled = random_state.permutation(len(codes))
    # Class after class in random order, a few of each.
    by_class = shuffled[np.argsort(random_state.permutation(n_classes)[codes[shuffled]], kind="stable")]
    starts = np.r_[True, np.diff(codes[by_class]) != 0]
    rank = np.arange(len(codes)) - np.maximum.accumulate(np.where(starts, np.arange(len(codes)), 0))
    return np.sort(by_class[rank < per_class][:n_most])


def is_table(X: Any) -> bool:
    """Tell a table of numbers, which scikit-learn validates, from a collection of images."""
    if issparse(X):
        return True
    if isinstance(X, pd.DataFrame):
        return X.shape[1] != 1 or pd.api.types.is_numeric_dtype(X.dtypes.iloc[0])
    if isinstance(X, list | tuple):
        return len(X) > 0 and (np.isscalar(X[0]) or np.ndim(X[0]) == 1) and not isinstance(X[0], str | bytes)
    if not hasattr(X, "ndim") and hasattr(X, "__array__"):
        X = np.asarray(X)
    return getattr(X, "ndim", None) == 2 or (getattr(X, "ndim", None) == 1 and pd.api.types.is_numeric_dtype(X.dtype))


def own_index(X: Any) -> np.ndarray | None:
    """Index of a Series or of a one-column DataFrame, as an array; None for anything else."""
    if isinstance(X, pd.Series) or (isinstance(X, pd.DataFrame) and X.shape[1] == 1):
        return X.index.to_numpy()
    return None


def source_names(X: Any) -> np.ndarray | None:
    """Paths of the images, as an object array, with None for images that have none; None if no image has one."""
    if isinstance(X, pd.DataFrame) and X.shape[1] == 1:
        X = X.iloc[:, 0]
    if not isinstance(X, list | tuple | pd.Series) and not (isinstance(X, np.ndarray) and X.ndim == 1):
        return None
    names = [os.fspath(item) if isinstance(item, str | os.PathLike) else None for item in X]
    return None if all(name is None for name in names) else np.array(names, dtype=object)


def check_rows(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Validate X as scikit-learn does where it is 2-D; images are validated as they are read."""
    if estimator.image_shape is None or not is_table(X):
        return X
    return validate_data(estimator, X, reset=reset, dtype="numeric", ensure_2d=True)


def parts_frame(sequence: list) -> pd.DataFrame:
    """Tabulate a sequence of parts; boxes are shares of the image, adaptive cells may reach a little further."""
    frame = pd.DataFrame([(p.level, p.row, p.column, p.rows, p.columns) for p in sequence])
    frame.columns = ["level", "row", "column", "n_rows", "n_columns"]
    return frame.assign(
        top=frame["row"] / frame["n_rows"],
        bottom=(frame["row"] + 1) / frame["n_rows"],
        left=frame["column"] / frame["n_columns"],
        right=(frame["column"] + 1) / frame["n_columns"],
    )
