"""Names of identities, as they are given by y: checked, sorted, listed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.validation import column_or_1d

from sklearn_psp.faces._describing import check_one_name_each, n_items
from sklearn_psp.utils._labels import as_label_array
from sklearn_psp.utils._names import shown

__all__ = [
    "check_names",
    "check_somebody",
    "featurizer_labels",
    "listed",
    "lost",
    "plain",
    "sorted_names",
    "with_unknown",
]


def check_names(y: Any, X: Any, unknown_label: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check who is in images.

    Parameters
    ----------
    y : array-like of shape (n_images,)
        Names.
    X : object
        The images; where it tells how many there are, before any of them is read.
    unknown_label : object
        The name of unknown people; None: there are none.

    Returns
    -------
    names : ndarray of shape (n_images,)
        The names.
    unknown : ndarray of shape (n_images,), bool
        Who is to be enrolled by no name.

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
        unknown = "" if unknown_label is None else f"; an unknown person is called {unknown_label!r}"
        raise ValueError(f"y has {len(missing):,} missing names, the first at {missing[0]}{unknown}")
    if not hasattr(y, "dtype") and all(isinstance(name, str) for name in names.tolist()):
        names = names.astype(str)  # as scikit-learn makes of a list of texts
    if names.dtype.kind == "f" and not (np.isfinite(names) & (names == np.floor(names))).all():
        raise ValueError("Unknown label type: continuous. y must hold names, got numbers with fractions")
    if unknown_label is None:
        return names, np.zeros(len(names), dtype=bool)
    return names, np.fromiter((name == unknown_label for name in names.tolist()), bool, len(names))


def check_somebody(unknown: np.ndarray, unknown_label: Any) -> None:
    """Refuse to fit where there is nobody to enroll."""
    if not len(unknown):
        raise ValueError("X is empty: Found array with 0 sample(s) while a minimum of 1 is required")
    if unknown.all():
        raise ValueError(f"y holds nobody except {unknown_label!r}: there is nobody to enroll")


def plain(name: Any) -> Any:
    """Return a name without numpy's type around it, as messages show it."""
    return name.item() if isinstance(name, np.generic) else name


def listed(names: npt.ArrayLike) -> str:
    """List the different names for a message."""
    return shown(pd.unique(np.asarray(names)).tolist())


def sorted_names(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def with_unknown(people: np.ndarray, unknown_label: Any) -> np.ndarray:
    """Return the classes: the people, and the label of unknown people at the end unless it is None."""
    if unknown_label is None:
        return people
    classes = np.empty(len(people) + 1, dtype=object)
    classes[:-1], classes[-1] = people, unknown_label
    if people.dtype.kind in "iuU" and np.asarray(unknown_label).dtype.kind == people.dtype.kind:
        return np.array(classes.tolist())
    return classes


def featurizer_labels(names: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Number who is in images, for a featurizer that learns: unknown people are each a class of their own."""
    people, codes = sorted_names(names[~unknown])
    labels = np.empty(len(names), dtype=np.intp)
    labels[~unknown], labels[unknown] = codes, len(people) + np.arange(np.count_nonzero(unknown))
    return labels


def lost(names: np.ndarray, enrolled: np.ndarray, unknown: np.ndarray) -> str:
    """Say for a message who is to be enrolled, but has no image left."""
    left_out = np.setdiff1d(names[~unknown], names[enrolled])
    return f", and so are {listed(left_out)}, who have no other" if len(left_out) else ""
