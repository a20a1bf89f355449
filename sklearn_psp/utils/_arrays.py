"""Arrays of row vectors: norms, blocks of rows, and their assembly."""

from __future__ import annotations

import numpy as np

__all__ = ["RowBlocks", "blocks", "row_blocks", "squared_norms", "unit_rows"]

# float64 numbers handled at a time, 2 MiB: the temporaries stay in the cache of one core.
_BLOCK = 1 << 18


class RowBlocks:
    """Blocks of rows on their way into one array, written in place when the number of rows is known.

    Parameters
    ----------
    n_rows : int or None
        Total number of rows; None keeps the blocks until the end.
    """

    def __init__(self, n_rows: int | None):
        self._n_rows = n_rows
        self._blocks = []
        self._array = None
        self._filled = 0

    def append(self, block: np.ndarray) -> None:
        """Add the next rows."""
        if self._n_rows is None:
            self._blocks.append(block)
            return
        if self._array is None:
            self._array = np.empty((self._n_rows, *block.shape[1:]), dtype=block.dtype)
        self._array[self._filled : self._filled + len(block)] = block
        self._filled += len(block)

    def array(self) -> np.ndarray:
        """Return all rows."""
        return np.concatenate(self._blocks) if self._n_rows is None else self._array


def blocks(n, size):
    """Yield slices that cut range(n) into blocks of at most `size`; none for n = 0, unlike scikit-learn's."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def row_blocks(n_rows, n_features):
    """Yield slices of rows whose float64 copies stay in the cache of one core."""
    return blocks(n_rows, max(1, _BLOCK // max(1, n_features)))


def squared_norms(X):
    """Squared length of each row of a float32 array, as float64.

    Not finite where, and only where, a row holds NaN or infinity: the square of any float32 number is a finite
    float64. The same row gives the same bits wherever it stands in X.
    """
    norms = np.empty(len(X))
    for rows in row_blocks(len(X), X.shape[1]):
        squares = X[rows].astype(np.float64)
        np.multiply(squares, squares, out=squares)
        # Not einsum: it may cut the sum differently for one row than for many.
        norms[rows] = squares.sum(axis=1)
    return norms


def unit_rows(X, norms_squared=None):
    """Scale rows to unit length; a new float32 array. Rows of zeros stay zero, rows of NaN stay NaN.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), float32
        Rows.
    norms_squared : ndarray of shape (n,), float64, default=None
        As from `squared_norms`, where the caller has them.

    Returns
    -------
    ndarray of shape (n, n_features), float32
        Rows of length 1.
    """
    lengths = np.sqrt(squared_norms(X) if norms_squared is None else norms_squared)
    units = np.empty(X.shape, dtype=np.float32)
    np.divide(X, np.where(lengths == 0, 1, lengths)[:, None], out=units, casting="same_kind")
    return units
