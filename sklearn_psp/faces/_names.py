"""Names of people: as they are given, checked."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils.validation import column_or_1d

from sklearn_psp.utils._labels import as_label_array

__all__ = ["check_names", "check_one_name_each", "n_items", "plain", "sorted_names", "with_unknown"]


def check_names(y, X, unknown_label):
    """Check who is in images.

    Parameters
    ----------
    y : array-like of shape (n_images,)
        Names.
    X : object
        The images; where it tells how many there are, before any of them is read.
    unknown_label : object
        The name of strangers; None: there are none.

    Returns
    -------
    names : ndarray of shape (n_images,)
        The names.
    stranger : ndarray of shape (n_images,), bool
        Who is none of the people.

    Raises
    ------
    ValueError
        If they are missing, of different kinds, or not one an image.
    """
    if y is None:
        raise ValueError("FaceIdentifier requires y to be passed, but the target y is None: a name for each image")
    names = column_or_1d(as_label_array(y), warn=True)
    check_one_name_each(names, n_items(X, default=len(names)))
    missing = np.flatnonzero(pd.isna(names))
    if len(missing):
        strangers = "" if unknown_label is None else f"; a stranger is called {unknown_label!r}"
        raise ValueError(f"y has {len(missing):,} missing names, the first at {missing[0]}{strangers}")
    if not hasattr(y, "dtype") and all(isinstance(name, str) for name in names.tolist()):
        names = names.astype(str)  # as scikit-learn makes of a list of texts
    if names.dtype.kind == "f" and not (np.isfinite(names) & (names == np.floor(names))).all():
        raise ValueError("Unknown label type: continuous. y must hold names, got numbers with fractions")
    if unknown_label is None:
        return names, np.zeros(len(names), dtype=bool)
    return names, np.fromiter((name == unknown_label for name in names.tolist()), bool, len(names))


def check_one_name_each(names, n_images):
    """Refuse names that are not one for each image."""
    if len(names) != n_images:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_images:,} images, but y has "
            f"{len(names):,} names"
        )


def n_items(X, default=None):
    """Return how many images or rows X holds, if it tells without being read."""
    shape = getattr(X, "shape", None)
    if shape:
        return shape[0]
    return len(X) if hasattr(X, "__len__") else default


def plain(name):
    """Return a name without numpy's type around it, as messages show it."""
    return name.item() if isinstance(name, np.generic) else name


def sorted_names(names):
    """Return the sorted different names, and the place of each name among them."""
    codes, people = pd.factorize(names, sort=False)
    try:
        order = np.argsort(people, kind="stable")
    except TypeError:
        kinds = sorted({type(name).__name__ for name in people})
        raise ValueError(f"the names of people must be of one kind, so that they can be sorted, got {kinds}") from None
    places = np.empty(len(order), dtype=np.intp)
    places[order] = np.arange(len(order))
    return np.asarray(people)[order], places[codes]


def with_unknown(people, unknown_label):
    """Return the classes: the people, and the label of strangers at the end unless it is None."""
    if unknown_label is None:
        return people
    classes = np.empty(len(people) + 1, dtype=object)
    classes[:-1], classes[-1] = people, unknown_label
    if people.dtype.kind in "iuU" and np.asarray(unknown_label).dtype.kind == people.dtype.kind:
        return np.array(classes.tolist())
    return classes
