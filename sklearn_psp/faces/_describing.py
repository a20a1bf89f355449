"""From faces to descriptors: the transformer that the estimators of faces use, and what is asked of its rows."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

from sklearn_psp.utils._arrays import squared_norms, unit_rows

__all__ = ["FEATURIZERS", "Described", "check_one_row_each", "describe", "make_face_featurizer", "new_featurizer"]

FEATURIZERS = ("dlib_face",)


def make_face_featurizer(backbone="dlib_face", *, detector="hog", on_error="raise", verbose=0):
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
        dlib's own descriptor, but for its length.

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
    from sklearn_psp.faces._aligner import FaceAligner

    # No centre: it would be that of few people, often of one.
    one_part = {"bin_sizes": (1,), "pooling": "avg", "center": False}
    return Pipeline(
        [
            ("aligner", FaceAligner(detector, on_error=on_error, verbose=verbose)),
            ("psp", PSPNetFeaturizer(backbone, **one_part, on_error=on_error, verbose=verbose)),
        ]
    )


def new_featurizer(featurizer, on_error):
    """Return an unfitted featurizer: a clone, or the one that a name stands for; None stays None."""
    if isinstance(featurizer, str):
        return make_face_featurizer(featurizer, on_error=on_error)
    return None if featurizer is None else clone(featurizer)


class Described:
    """Descriptors that can be compared.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features), float32
        Descriptors.
    metric : {"cosine", "euclidean"}
        For "cosine" rows are brought to unit length, and a row of zeros, which has no direction, is not valid.

    Attributes
    ----------
    rows : ndarray of shape (n, n_features), float32
        The rows.
    valid : ndarray of shape (n,), bool
        Which can be compared.
    """

    def __init__(self, rows, metric):
        norms = squared_norms(rows)
        self._finite = np.isfinite(norms)
        self.valid = self._finite & (norms > 0) if metric == "cosine" else self._finite
        self.rows = unit_rows(rows, np.where(self._finite, norms, 1)) if metric == "cosine" else rows

    def reason(self, row):
        """Say why a row is not valid."""
        return "its descriptor is NaN or infinite" if not self._finite[row] else "its descriptor is zero"


def describe(featurizer, X, y=None, *, fit=False):
    """Describe images.

    Parameters
    ----------
    featurizer : estimator or None
        A transformer of images; None takes X for descriptors.
    X : collection of images, or array-like of shape (n, n_features)
        What it takes.
    y : array-like of shape (n,) or None, default=None
        Who is in them, for a featurizer that learns.
    fit : bool, default=False
        Whether it is fitted to them first.

    Returns
    -------
    ndarray of shape (n, n_features), float32, C-contiguous
        Their descriptors; rows of NaN stay.

    Raises
    ------
    ValueError
        If they are not descriptors.
    """
    name = "X"
    if featurizer is not None:
        name = "featurizer_.transform(X)"
        if not fit:
            X = featurizer.transform(X)
        elif hasattr(featurizer, "fit_transform"):
            X = featurizer.fit_transform(X, y)
        else:
            X = featurizer.fit(X, y).transform(X)
    return check_array(X, dtype=np.float32, order="C", ensure_all_finite=False, input_name=name)


def check_one_row_each(rows, n_images):
    """Refuse descriptors that are not one for each image."""
    if len(rows) != n_images:
        raise ValueError(
            f"featurizer gave {len(rows):,} rows for {n_images:,} images, where each must give one: use "
            'select="largest" or "confident" in FaceAligner, not "all"'
        )
