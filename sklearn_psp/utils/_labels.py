"""Arrays of labels, in which each label stays what it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["as_label_array"]


def as_label_array(y: npt.ArrayLike) -> np.ndarray:
    """Make an array of labels that keeps each label what it is.

    Parameters
    ----------
    y : array-like
        Labels.

    Returns
    -------
    ndarray
        The labels; of object dtype where numpy would have turned None, NaN or numbers beside strings into strings.
    """
    labels = np.asarray(y)
    if labels.dtype.kind in "US" and not hasattr(y, "dtype"):
        # np.asarray(["a", nan]) is ["a", "nan"], and two missing labels would match.
        labels = np.asarray(y, dtype=object)
    return labels
