"""Featurizers of faces, and the descriptors they give, with the images that have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sklearn_psp.exceptions import FaceError, ImageInputError
from sklearn_psp.faces._aligner import FaceAligner
from sklearn_psp.faces._chips import Chip
from sklearn_psp.faces._detectors import find_faces, make_detector
from sklearn_psp.utils._arrays import squared_norms, unit_rows
from sklearn_psp.utils._descriptions import Descriptions, Failure, describe, failures_frame, fit_describe
from sklearn_psp.utils._validation import is_table

__all__ = [
    "FEATURIZERS",
    "FaceDescriptors",
    "check_one_name_each",
    "check_one_row_each",
    "comparable",
    "describe_all_faces",
    "describe_images",
    "describe_rows",
    "has_aligner",
    "make_face_featurizer",
    "n_items",
    "new_featurizer",
    "no_boxes",
    "reasons_of",
]

FEATURIZERS = ("dlib_face",)
_BOX = ["left", "top", "right", "bottom", "confidence"]


def make_face_featurizer(
    backbone: Any = "dlib_face",
    *,
    detector: str | Callable | None = "hog",
    on_error: str = "raise",
    verbose: int = 0,
) -> Pipeline:
    """Make the `Pipeline` that describes faces: `FaceAligner`, then `PSPNetFeaturizer`.

    It is what `FaceVerifier` and `FaceIdentifier` make of `featurizer="dlib_face"`. Made here, its parameters can be
    set and tuned: `aligner__detector`, `aligner__select`, `psp__bin_sizes`, `psp__part_weights` ...

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="dlib_face"
        The network, as for `PSPNetFeaturizer`.
    detector : {"hog", "cnn"}, callable or None, default="hog"
        What finds faces, as for `FaceAligner`; None: the images are aligned chips.
    on_error : {"raise", "nan"}, default="raise"
        What an image does that cannot be read or has no face, as for both.
    verbose : int, default=0
        Above 0, both show progress.

    Returns
    -------
    Pipeline
        With the steps `aligner` and `psp`. One part, pooled by its average, no centre, unit length: with "dlib_face"
        dlib's own descriptor, except for its length.

    See Also
    --------
    FaceVerifier : Tells whether two images show the same person.
    FaceIdentifier : Tells who it is, if anybody enrolled.

    Examples
    --------
    >>> from skimage.data import astronaut
    >>> from sklearn_psp.faces import make_face_featurizer
    >>> make_face_featurizer().fit_transform([astronaut()]).shape
    (1, 128)
    """
    from sklearn_psp._featurizer import PSPNetFeaturizer

    # No centre: it would be that of few people, often of one.
    one_part = {"bin_sizes": (1,), "pooling": "avg", "center": False}
    return Pipeline(
        [
            ("aligner", FaceAligner(detector, on_error=on_error, verbose=verbose)),
            ("psp", PSPNetFeaturizer(backbone, **one_part, on_error=on_error, verbose=verbose)),
        ]
    )


def new_featurizer(featurizer: Any, on_error: str) -> Any:
    """Return an unfitted featurizer: a clone, or the one that a name stands for; None stays None."""
    if isinstance(featurizer, str):
        return make_face_featurizer(featurizer, on_error=on_error)
    return None if featurizer is None else clone(featurizer)


def describe_images(
    featurizer: Any, X: Any, y: npt.ArrayLike | None = None, *, on_error: str, fit: bool = False
) -> Descriptions:
    """Describe images.

    Parameters
    ----------
    featurizer : estimator or None
        A transformer of images; None takes X for descriptors.
    X : collection of images, or array-like of shape (n, n_features)
        Whatever the featurizer takes.
    y : array-like of shape (n,) or None, default=None
        Who is in the images, for a featurizer that learns.
    on_error : {"raise", "nan"}
        What an image does that cannot be described, in every step of ours.
    fit : bool, default=False
        Whether the featurizer is fitted to the images first.

    Returns
    -------
    Descriptions
        Its rows of shape (n, n_features) are float32 and C-contiguous; rows of NaN stay.

    Raises
    ------
    ImageReadError
        With `on_error="raise"`, if a step of ours cannot use an image.
    ValueError
        If the rows are no descriptors.
    """
    if featurizer is None:
        rows, failures, name = X, failures_frame(), "X"
    else:
        name = "featurizer_.transform(X)"
        if fit:
            rows, failures = fit_describe(featurizer, X, y, on_error=on_error)
        else:
            rows, failures = describe(featurizer, X, on_error=on_error)
    # scikit-learn's check swaps the warning filters of the whole process for a moment, which other threads may be at:
    # what a featurizer of ours gives needs no check.
    if not _are_descriptors(rows):
        rows = check_array(rows, dtype=np.float32, order="C", ensure_all_finite=False, input_name=name)
    return Descriptions(rows, failures)


def _are_descriptors(rows: Any) -> bool:
    return (
        type(rows) is np.ndarray
        and rows.dtype == np.float32
        and rows.ndim == 2
        and rows.size > 0
        and rows.flags.c_contiguous
    )


def describe_rows(estimator: Any, X: Any, *, reset: bool) -> Descriptions:
    """Take X for descriptors, which scikit-learn checks for an estimator; `reset` notes the features of X there."""
    named = reset or hasattr(estimator, "feature_names_in_")
    if named or not _are_descriptors(X) or X.shape[1] != estimator.n_features_in_:
        X = validate_data(estimator, X, reset=reset, dtype=np.float32, order="C", ensure_all_finite=False)
    return Descriptions(X, failures_frame())


class FaceDescriptors:
    """Descriptors of faces, scaled for the metric they are compared by, and why some cannot be compared.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features), float32
        Descriptors.
    metric : {"cosine", "euclidean"}
        For "cosine" rows are brought to unit length, and a row of zeros, which has no direction, is not valid.
    failures : DataFrame or None, default=None
        Images that could not be described, as of `Descriptions`.

    Attributes
    ----------
    rows : ndarray of shape (n, n_features), float32
        The rows.
    valid : ndarray of shape (n,), bool
        Which can be compared.
    """

    def __init__(self, rows: np.ndarray, metric: str, failures: pd.DataFrame | None = None):
        norms = squared_norms(rows)
        self._finite = np.isfinite(norms)
        self._reasons = {} if failures is None else reasons_of(failures)
        self.valid = self._finite & (norms > 0) if metric == "cosine" else self._finite
        self.rows = unit_rows(rows, np.where(self._finite, norms, 1)) if metric == "cosine" else rows

    def reason(self, row: int) -> str:
        """Say why a row is not valid: by the step that failed, or by what the row holds."""
        if row in self._reasons:
            return self._reasons[row]
        return "its descriptor is zero" if self._finite[row] else "its descriptor is NaN or infinite"

    def reasons(self) -> dict[int, str]:
        """Say of all rows that are not valid why."""
        return {row: self.reason(row) for row in np.flatnonzero(~self.valid).tolist()}


def reasons_of(failures: pd.DataFrame) -> Mapping[int, str]:
    """Return the reasons of a table of failures by position."""
    return dict(zip(failures["index"].tolist(), failures["reason"], strict=True))


def comparable(
    described: Descriptions, X: Any, metric: str, on_error: str, names: np.ndarray | None = None
) -> tuple[FaceDescriptors, pd.DataFrame]:
    """Scale descriptors for a metric, and tabulate those that cannot be compared.

    Parameters
    ----------
    described : Descriptions
        As of `describe_images`.
    X : collection of images, or array-like of shape (n, n_features)
        What was described, in which each item must have one row.
    metric : {"cosine", "euclidean"}
        The metric.
    on_error : {"raise", "nan"}
        Whether one that cannot be compared is an error.
    names : ndarray of shape (n,) or None, default=None
        Who is in the images, where that is given; the images of a stream are counted only when it has been read.

    Returns
    -------
    descriptors : FaceDescriptors
        The rows, and which are valid.
    failures : DataFrame
        Those that are not, as of `Descriptions`.

    Raises
    ------
    FaceError
        With `on_error="raise"`, if one cannot be compared.
    ValueError
        If there is not one row, or one name, for each image.
    """
    check_one_row_each(described.rows, n_items(X, default=len(described.rows)))
    if names is not None:
        check_one_name_each(names, len(described.rows))
    descriptors = FaceDescriptors(described.rows, metric, described.failures)
    reasons = descriptors.reasons()
    sources = _sources(X, list(reasons)) if reasons else []
    failures = failures_frame(
        Failure(row, source, reason) for (row, reason), source in zip(reasons.items(), sources, strict=True)
    )
    if on_error == "raise" and reasons:
        first = failures.iloc[0]
        named = f"X[{first['index']}] ({first['source']}): {first['reason']}"
        raise FaceError(f'{named}; remove it from X or pass on_error="nan"', failures)
    return descriptors, failures


def _sources(X: Any, rows: list[int]) -> list[str]:
    # A table of descriptors is no collection of images; finding that out would load the reader of images.
    if not is_table(X):
        from sklearn_psp._images import as_images

        try:
            images = as_images(X)
            return [images.describe(row) for row in rows]
        except (ImageInputError, TypeError):  # a stream that has been read, or a container that is none of images
            pass
    return [f"row {row}" for row in rows]


def has_aligner(featurizer: Any) -> bool:
    """Tell whether a featurizer is a `Pipeline` that begins with a `FaceAligner`."""
    return isinstance(featurizer, Pipeline) and isinstance(featurizer[0], FaceAligner)


def describe_all_faces(
    featurizer: Pipeline, X: Any, *, metric: str, select: str, on_error: str
) -> tuple[pd.DataFrame, FaceDescriptors | None, pd.DataFrame]:
    """Find and describe any number of faces in each image, by a featurizer that `has_aligner`.

    Parameters
    ----------
    featurizer : Pipeline
        Fitted; of its first step all parameters are used, except `select` and `on_error`.
    X : collection of images
        Images.
    metric : {"cosine", "euclidean"}
        The metric that descriptors are scaled for.
    select : {"all", "largest", "confident", "error"}
        Which faces of an image with several.
    on_error : {"raise", "nan"}
        What an image does that cannot be read. One that has no face is a failure, whatever this says.

    Returns
    -------
    boxes : DataFrame
        A row for each face: `image`, and the columns of `no_boxes`.
    descriptors : FaceDescriptors or None
        A row for each face; None if there is none.
    failures : DataFrame
        Images without a face, as of `Descriptions`.
    """
    aligner = featurizer[0]
    found = find_faces(
        X,
        make_detector(aligner.detector, select, aligner.upsample),
        Chip(aligner.size, aligner.padding),
        on_error=on_error,
        need_face=False,
        n_jobs=aligner.n_jobs,
        verbose=aligner.verbose,
    )
    boxes = found.faces.loc[found.faces["selected"], ["image", *_BOX]].reset_index(drop=True)
    chips = [chip for chip in found.chips if chip is not None]
    if not chips:
        return boxes, None, found.failures
    rows, failures = describe_images(featurizer[1:], chips, on_error=on_error)
    return boxes, FaceDescriptors(rows, metric, failures), found.failures


def no_boxes(images: np.ndarray) -> pd.DataFrame:
    """Return a row for each of the images, with no box and no confidence."""
    return pd.DataFrame({"image": images, **dict.fromkeys(_BOX, np.nan)})


def n_items(X: Any, default: int) -> int:
    """Return how many images or rows X holds, if it tells without being read."""
    shape = getattr(X, "shape", None)
    if shape:
        return shape[0]
    return len(X) if hasattr(X, "__len__") else default


def check_one_name_each(names: np.ndarray, n_images: int) -> None:
    """Refuse names that are not one for each image."""
    if len(names) != n_images:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_images:,} images, but y has "
            f"{len(names):,} names"
        )


def check_one_row_each(rows: np.ndarray, n_images: int) -> None:
    """Refuse descriptors that are not one for each image."""
    if len(rows) != n_images:
        raise ValueError(
            f"featurizer gave {len(rows):,} rows for {n_images:,} images, where each must give one: use "
            'select="largest" or "confident" in FaceAligner, not "all"'
        )
