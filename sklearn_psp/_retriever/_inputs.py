"""Checks of the arguments of a retriever: descriptors, ids, labels, metadata and filters, each brought to one form."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from sklearn_psp.exceptions import ImageInputError, ImageReadError, UnknownIdError
from sklearn_psp.utils._arrays import squared_norms, unit_rows
from sklearn_psp.utils._labels import as_label_array
from sklearn_psp.utils._names import shown

__all__ = [
    "Rows",
    "check_added",
    "check_alike",
    "check_ids",
    "check_labels",
    "check_metadata",
    "check_n_neighbors",
    "filtered_rows",
    "prepare_rows",
    "raise_failures",
    "refuse_images",
    "refuse_sparse",
    "refuse_unknown",
]

_SHOWN = 10
RESULT_COLUMNS = ("query", "rank", "id", "distance", "label")


class Rows(NamedTuple):
    """Descriptors ready for search, and where they stood in X.

    Attributes
    ----------
    vectors : ndarray of shape (n_kept, n_features), float32
        C-contiguous, finite; of unit length for "cosine".
    kept : ndarray of shape (n_kept,), intp, or None
        Their rows in X, ascending; None: all of them.
    n_rows : int
        Rows of X.
    """

    vectors: np.ndarray
    kept: np.ndarray | None
    n_rows: int

    def filled(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a vector for each row of X, zeros for one that was left out, and the mask of the others or None."""
        if self.kept is None:
            return self.vectors, None
        vectors = np.zeros((self.n_rows, self.vectors.shape[1]), dtype=np.float32)
        vectors[self.kept] = self.vectors
        mask = np.zeros(self.n_rows, dtype=bool)
        mask[self.kept] = True
        return vectors, mask


def prepare_rows(
    X: np.ndarray, *, metric: str, on_invalid: str, owner: str, failures: pd.DataFrame | None = None
) -> Rows:
    """Drop or refuse the rows that have no place in the metric, and scale the rest for it.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32
        Descriptors.
    metric : {"cosine", "euclidean"}
        The metric. For "cosine" a row of zeros has no direction, so no distance.
    on_invalid : {"raise", "skip"}
        Whether rows of NaN, infinity or, for "cosine", zeros, and those of images that failed, are an error or left
        out.
    owner : str
        The subject of the error message.
    failures : DataFrame or None, default=None
        Images that could not be used, as of `Descriptions`.

    Returns
    -------
    Rows
        The rows that can be searched.

    Raises
    ------
    ValueError
        If a row is invalid and `on_invalid` is "raise"; an ImageReadError if its image failed.
    """
    X = np.ascontiguousarray(X)
    norms = squared_norms(X)
    finite = np.isfinite(norms)
    valid = finite & (norms > 0) if metric == "cosine" else finite
    if failures is not None and len(failures):
        if on_invalid == "raise":
            raise_failures(failures)
        # A later step may have made numbers of it: it is not searched all the same.
        valid[failures["index"].to_numpy()] = False
    kept = None
    if not valid.all():
        if on_invalid == "raise":
            raise ValueError(_describe_invalid(finite, valid, owner))
        kept = np.flatnonzero(valid)
        X, norms = X[kept], norms[kept]
    return Rows(unit_rows(X, norms) if metric == "cosine" else X, kept, len(valid))


def raise_failures(failures: pd.DataFrame) -> None:
    """Raise an error that names the first image that could not be used, and its reason.

    Parameters
    ----------
    failures : DataFrame
        As of `Descriptions`, not empty.

    Raises
    ------
    ImageReadError
        Always; the table is its `errors`.
    """
    index, source, reason = failures.iloc[0][["index", "source", "reason"]]
    named = source if source.startswith("<") else repr(source)
    more = f" (nor can {len(failures) - 1:,} more images, which errors lists)" if len(failures) > 1 else ""
    mend = "mend them, or leave them out" if more else "mend it, or leave it out"
    raise ImageReadError(
        f"X[{index}] ({named}) cannot be searched: {reason}{more}; {mend} with on_invalid='skip'", failures
    )


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


def refuse_images(X: Any) -> None:
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


def refuse_sparse(X: Any, what: str) -> None:
    """Refuse sparse descriptors by name."""
    if sparse.issparse(X):
        raise TypeError(
            f"{what} is a sparse {type(X).__name__}, but NearestImageRetriever searches dense descriptors; use "
            "X.toarray(), or a step such as TruncatedSVD before it"
        )


def check_n_neighbors(n_neighbors: Any, default: Any) -> Any:
    """Return the number of neighbours to find, as scikit-learn checks it."""
    if n_neighbors is None:
        return default
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, Integral):
        raise TypeError(f"n_neighbors does not take {type(n_neighbors)} value, enter integer value")
    if n_neighbors <= 0:
        raise ValueError(f"Expected n_neighbors > 0. Got {n_neighbors}")
    return int(n_neighbors)


def check_ids(ids: Any, n_rows: int, *, default: np.ndarray | None = None) -> np.ndarray:
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


def check_added(ids: Any, index: np.ndarray | None, n_rows: int, gallery: Any) -> np.ndarray:
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


def refuse_unknown(ids: pd.Index, rows: np.ndarray) -> None:
    """Raise for ids without a row (-1)."""
    unknown = ids[rows < 0]
    if len(unknown):
        raise UnknownIdError(f"no image of the gallery has the id {shown(unknown.tolist())}")


def check_labels(y: Any, n_rows: int) -> np.ndarray:
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


def check_metadata(metadata: Any, n_rows: int, *, has_labels: bool) -> pd.DataFrame | None:
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


def check_alike(gallery: Any, y: Any, metadata: Any, n_rows: int) -> tuple[np.ndarray | None, pd.DataFrame | None]:
    """Check labels and metadata of images that are added: there if, and only if, the gallery has them.

    Parameters
    ----------
    gallery : Gallery
        The gallery.
    y : array-like of shape (n_rows,) or None
        Labels.
    metadata : DataFrame of n_rows rows or None
        Metadata.
    n_rows : int
        Number of images.

    Returns
    -------
    labels : ndarray of shape (n_rows,) or None
        The labels.
    metadata : DataFrame or None
        The metadata, with its columns in the order of the gallery's.

    Raises
    ------
    ValueError
        If one is missing, too many, or does not fit.
    """
    if (y is None) != (gallery.labels is None):
        raise ValueError(
            "the gallery has labels: pass y, with None for images without a label"
            if y is None
            else "the gallery has no labels: leave y out, or fit again with labels"
        )
    if (metadata is None) != (gallery.metadata is None):
        raise ValueError(
            "the gallery has metadata: pass a DataFrame with the columns "
            f"{', '.join(map(repr, gallery.metadata.take(np.arange(0)).columns))}"
            if metadata is None
            else "the gallery has no metadata: leave metadata out, or fit again with metadata"
        )
    metadata = check_metadata(metadata, n_rows, has_labels=y is not None)
    if metadata is not None:
        columns = gallery.metadata.take(np.arange(0)).columns
        if set(columns) != set(metadata.columns):
            raise ValueError(
                f"metadata must have the columns of the gallery's, {list(columns)}; got {list(metadata.columns)}"
            )
        metadata = metadata[list(columns)]
    return None if y is None else check_labels(y, n_rows), metadata


def _names(table, mask):
    return ", ".join(repr(name) for name in table.columns[mask].unique().tolist())


def filtered_rows(where: Any, gallery: Any) -> np.ndarray:
    """Turn a filter into a mask of the rows it lets through.

    Parameters
    ----------
    where : array-like or callable
        A mask by position, ids, or a function of the metadata that returns a mask.
    gallery : Gallery
        The gallery.

    Returns
    -------
    ndarray of shape (n_rows,), bool
        The mask; removed rows are False.

    Raises
    ------
    TypeError
        If `where` is none of these.
    ValueError
        If a mask has the wrong length.
    UnknownIdError
        If no image has one of the ids.
    """
    if callable(where):
        if gallery.metadata is None:
            raise ValueError(
                "where is a function of the metadata, but the gallery has none: pass fit(..., metadata=), or a mask or "
                "a list of ids as where"
            )
        mask = np.asarray(where(gallery.of_positions(gallery.metadata)))
        if mask.dtype != bool:
            raise TypeError(f"where(metadata_) must return a boolean mask; got values of type {mask.dtype}")
    elif isinstance(where, str | bytes) or not hasattr(where, "__len__"):
        raise TypeError(
            f"where must be a boolean mask, a list of ids or a function of the metadata; got {where!r}. For one id "
            f"write [{where!r}]"
        )
    else:
        mask = pd.Index(where, tupleize_cols=False)
    if mask.dtype == bool:
        mask = np.asarray(mask)
        if mask.shape != (gallery.n_images,):
            raise ValueError(
                f"a mask as where must have one value for each of the {gallery.n_images} images; got the shape "
                f"{mask.shape}"
            )
        if gallery.rows is None:
            return mask
        of_rows = np.zeros(gallery.n_rows, dtype=bool)
        of_rows[gallery.rows] = mask
        return of_rows
    rows = gallery.rows_with(mask)
    refuse_unknown(mask, rows)
    of_rows = np.zeros(gallery.n_rows, dtype=bool)
    of_rows[rows] = True
    return of_rows
