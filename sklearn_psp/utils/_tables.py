"""Tables: told apart from images, the index and the paths that X brings, and the parts of an image as a table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

__all__ = ["check_rows", "is_table", "own_index", "parts_frame", "source_names"]


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


def parts_frame(sequence: Iterable[Any]) -> pd.DataFrame:
    """Describe a sequence of parts; boxes are shares of the image, adaptive cells may reach a little further."""
    frame = pd.DataFrame([(p.level, p.row, p.column, p.rows, p.columns) for p in sequence])
    frame.columns = ["level", "row", "column", "n_rows", "n_columns"]
    return frame.assign(
        top=frame["row"] / frame["n_rows"],
        bottom=(frame["row"] + 1) / frame["n_rows"],
        left=frame["column"] / frame["n_columns"],
        right=(frame["column"] + 1) / frame["n_columns"],
    )
