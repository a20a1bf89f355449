"""What a retriever is given: descriptors, ids, labels, metadata - checked, and brought to one form."""

from __future__ import annotations

import os
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from sklearn_psp.exceptions import ImageInputError, UnknownIdError
from sklearn_psp.utils._arrays import squared_norms, unit_rows
from sklearn_psp.utils._labels import as_label_array
from sklearn_psp.utils._names import shown
from sklearn_psp.utils._tables import own_index, source_names

__all__ = [
    "Rows",
    "check_added",
    "check_ids",
    "check_labels",
    "check_metadata",
    "check_n_neighbors",
    "own_index",
    "prepare_rows",
    "refuse_images",
    "refuse_sparse",
    "refuse_unknown",
    "shown",
    "source_names",
]

_SHOWN = 10
RESULT_COLUMNS = ("query", "rank", "id", "distance", "label")


class Rows(NamedTuple):
    """Descriptors ready for search, and where they stood in X."""

    vectors: np.ndarray  # (n_kept, n_features) float32, C-contiguous, finite; of unit length for "cosine"
    kept: np.ndarray | None  # (n_kept,) intp, their rows in X; None: all of them
    n_rows: int  # rows of X


def prepare_rows(X, *, metric, on_invalid, owner):
    """Drop or refuse the rows that have no place in the metric, and scale the rest for it.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32
        Descriptors.
    metric : {"cosine", "euclidean"}
        The metric. For "cosine" a row of zeros has no direction, so no distance.
    on_invalid : {"raise", "skip"}
        What to do with rows of NaN, infinity or, for "cosine", zeros.
    owner : str
        The subject of the error message.

    Returns
    -------
    Rows
        The rows that can be searched.

    Raises
    ------
    ValueError
        If a row is invalid and `on_invalid` is "raise".
    """
    X = np.ascontiguousarray(X)
    norms = squared_norms(X)
    finite = np.isfinite(norms)
    valid = finite & (norms > 0) if metric == "cosine" else finite
    kept = None
    if not valid.all():
        if on_invalid == "raise":
            raise ValueError(_describe_invalid(finite, valid, owner))
        kept = np.flatnonzero(valid)
        X, norms = X[kept], norms[kept]
    return Rows(unit_rows(X, norms) if metric == "cosine" else X, kept, len(valid))


def _describe_invalid(finite, valid, owner):
    reasons = []
    for rows, what in ((np.flatnonzero(~finite), "NaN or infinity (inf)"), (np.flatnonzero(finite & ~valid), "zeros")):
        if len(rows):
            more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
            plural = "s" if len(rows) > 1 else ""
            reasons.append(f"{what} in row{plural} {', '.join(map(str, rows[:_SHOWN]))}{more}")
    zero = ", which have no direction for metric='cosine'" if (finite & ~valid).any() else ""
    return (
        f"Input X contains {' and only '.join(reasons)}{zero}. {owner} cannot search such rows: mend the featurizer or "
        "the images, or leave the rows out with on_invalid='skip'"
    )


def refuse_images(X):
    """Say what is missing where images are given and no featurizer is there to read them."""
    first = None
    if isinstance(X, list | tuple) and X:
        first = X[0]
    elif isinstance(X, pd.Series) and len(X):
        first = X.iloc[0]
    if isinstance(first, str | bytes | os.PathLike):
        raise ImageInputError(
            f"X holds images (X[0] is a {type(first).__name__}), but featurizer is None, so X must be descriptors of "
            "shape (n_samples, n_features). Give NearestImageRetriever(featurizer=PSPNetFeaturizer()), or put the "
            "featurizer before the retriever in a Pipeline"
        )


def refuse_sparse(X, what):
    """Refuse sparse descriptors by name."""
    if sparse.issparse(X):
        raise TypeError(
            f"{what} is a sparse {type(X).__name__}, but NearestImageRetriever searches dense descriptors; use "
            "X.toarray(), or a step such as TruncatedSVD before it"
        )


def check_n_neighbors(n_neighbors, default):
    """Return the number of neighbours to find, as scikit-learn checks it."""
    if n_neighbors is None:
        return default
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, Integral):
        raise TypeError(f"n_neighbors does not take {type(n_neighbors)} value, enter integer value")
    if n_neighbors <= 0:
        raise ValueError(f"Expected n_neighbors > 0. Got {n_neighbors}")
    return int(n_neighbors)


def check_ids(ids, n_rows, *, default=None):
    """Bring ids to an array of unique values.

    Parameters
    ----------
    ids : array-like of shape (n_rows,) or None
        Ids, int or str.
    n_rows : int
        Number of images.
    default : ndarray or None, default=None
        The index of X, used if `ids` is None; positions if this is None too.

    Returns
    -------
    ndarray of shape (n_rows,)
        The ids.

    Raises
    ------
    ValueError
        If their number is wrong, one is missing, or one is there twice.
    """
    if ids is None and default is None:
        return np.arange(n_rows)
    name, values = ("the index of X, which gives the ids,", default) if ids is None else ("ids", ids)
    # An Index keeps 1 and "1" apart where np.asarray([1, "1"]) makes both strings.
    index = pd.Index(values, tupleize_cols=False)
    if len(index) != n_rows:
        raise ValueError(f"{name} must hold one id for each of the {n_rows} images; got {len(index)}")
    if index.hasnans:
        raise ValueError(f"{name} must not hold missing values; position {int(np.argmax(index.isna()))} is missing")
    if not index.is_unique:
        twice = index[index.duplicated()].unique()
        remedy = (
            "pass unique ids=, or X.reset_index(drop=True)" if ids is None else "make them unique, or leave ids out"
        )
        raise ValueError(f"{name} must be unique, but holds more than once: {shown(twice.tolist())}; {remedy}")
    return index.to_numpy()


def check_added(ids, index, n_rows, gallery):
    """Check the ids of images that are added to a gallery.

    Parameters
    ----------
    ids : array-like of shape (n_rows,) or None
        Ids that were given; one that is there already replaces.
    index : ndarray or None
        The index of X, which must not replace: a range starts at 0 again in every table.
    n_rows : int
        Number of images.
    gallery : Gallery
        The gallery.

    Returns
    -------
    ndarray of shape (n_rows,)
        The ids.

    Raises
    ------
    ValueError
        If there are none, they are not unique, or the index of X has ids that are there already.
    """
    if ids is None and index is None:
        raise ValueError("the gallery was given ids, so added images need ids too: pass ids=")
    checked = check_ids(ids, n_rows, default=index)
    if ids is None:
        known = gallery.rows_with(checked) >= 0
        if known.any():
            raise ValueError(
                f"the index of X holds ids that the gallery has already: {shown(checked[known].tolist())}; pass them "
                "as ids= to replace these images, or give X an index of its own"
            )
    return checked


def refuse_unknown(ids, rows):
    """Raise for ids without a row (-1)."""
    unknown = ids[rows < 0]
    if len(unknown):
        raise UnknownIdError(f"no image of the gallery has the id {shown(unknown.tolist())}")


def check_labels(y, n_rows):
    """Bring labels to an array.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Labels of any type; missing ones (None, NaN) equal nothing.
    n_rows : int
        Number of images.

    Returns
    -------
    ndarray of shape (n_rows,)
        The labels.

    Raises
    ------
    ValueError
        If there is not one label an image.
    """
    labels = as_label_array(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n_rows,):
        raise ValueError(f"y must hold one label for each of the {n_rows} images; got the shape {labels.shape}")
    return labels


def check_metadata(metadata, n_rows, *, has_labels):
    """Check the table about the images.

    Parameters
    ----------
    metadata : DataFrame of n_rows rows, or None
        One row an image, in the order of X.
    n_rows : int
        Number of images.
    has_labels : bool
        Whether results will have a column "label" of their own.

    Returns
    -------
    DataFrame or None
        The table, numbered by position.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        If its length is wrong, a name is there twice, or a name is one that results have already.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, pd.DataFrame):
        remedy = "; use metadata.to_frame()" if isinstance(metadata, pd.Series) else ""
        raise TypeError(f"metadata must be a DataFrame with one row an image; got a {type(metadata).__name__}{remedy}")
    if len(metadata) != n_rows:
        raise ValueError(f"metadata must have one row for each of the {n_rows} images; got {len(metadata)} rows")
    if not metadata.columns.is_unique:
        raise ValueError(f"metadata holds columns more than once: {_names(metadata, metadata.columns.duplicated())}")
    taken = [name for name in RESULT_COLUMNS if has_labels or name != "label"]
    clash = metadata.columns.isin(taken)
    if clash.any():
        raise ValueError(
            f"metadata has columns that the results of retrieve have already: {_names(metadata, clash)}; rename or "
            "drop them, e.g. metadata.add_prefix('meta_')"
        )
    return metadata.reset_index(drop=True)


def _names(table, mask):
    return ", ".join(repr(name) for name in table.columns[mask].unique().tolist())
