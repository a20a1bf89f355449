"""Small helpers on arrays of row vectors."""

from __future__ import annotations

import numpy as np

__all__ = ["RowBlocks", "unit_rows"]


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


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Bring rows to unit length; rows of zeros stay zero and rows of NaN stay NaN.

    Parameters
    ----------
    vectors : ndarray of shape (n, n_features), float32
        Rows.

    Returns
    -------
    ndarray of shape (n, n_features), float32
        A new array.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    lengths[lengths == 0] = 1.0
    return vectors / lengths[:, None].astype(vectors.dtype)
