"""Small helpers for graphs over a few gallery rows."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

__all__ = ["locate", "scale_rows"]


def locate(ids, values):
    """Find where values stand in `ids`.

    Parameters
    ----------
    ids : ndarray of shape (n,), int
        Ascending, without repeats.
    values : ndarray of int
        What to look for.

    Returns
    -------
    ndarray of intp, shaped like values
        Places in ids, -1 for values that are not there.
    """
    at = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[at] == values, at, -1)


def scale_rows(matrix, factors):
    """Multiply each row of a csr array by a number; a new array."""
    data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
    return csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
