"""Vectors that grow at the end: adding one copies one, not all."""

from __future__ import annotations

import numpy as np

from sklearn_psp.utils._arrays import squared_norms

__all__ = ["Vectors"]


class Vectors:
    """Rows of float32 in an array with room at its end, which never change once they are there.

    Adding makes a new `Vectors` over the same memory, so that whoever searches the old one goes on undisturbed. Only
    the longest of those that share memory can be added to in place; any other is copied first.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features), float32
        The rows, which are copied.
    """

    def __init__(self, rows):
        self._allocate(rows, squared_norms(rows) / 2)

    def _allocate(self, rows, half_norms):
        n = len(rows)
        # Memory that is not written to takes no room. A graph is built anew after a tenth has been added.
        capacity = n + n // 8 + 1024
        self._rows = np.empty((capacity, rows.shape[1]), dtype=np.float32)
        self._half_norms = np.empty(capacity)
        self._rows[:n], self._half_norms[:n] = rows, half_norms
        self._n = n
        self._filled = [n]

    def __len__(self):
        return self._n

    @property
    def rows(self):
        """The rows, as a view of shape (n, n_features)."""
        return self._rows[: self._n]

    @property
    def half_norms(self):
        """Half the squared length of each row, float64."""
        return self._half_norms[: self._n]

    def added(self, rows):
        """Return these rows followed by further ones."""
        new = Vectors.__new__(Vectors)
        stop = self._n + len(rows)
        if self._filled[0] == self._n and stop <= len(self._rows):
            new._rows, new._half_norms, new._filled, new._n = self._rows, self._half_norms, self._filled, stop
            self._filled[0] = stop
        else:
            new._allocate(np.concatenate((self.rows, rows)), np.empty(stop))
            new._half_norms[: self._n] = self.half_norms
        new._rows[self._n : stop] = rows
        new._half_norms[self._n : stop] = squared_norms(rows) / 2
        return new

    @classmethod
    def over(cls, rows, half_norms):
        """Return rows whose norms are known, not copied until something is added."""
        self = cls.__new__(cls)
        self._rows, self._half_norms, self._n, self._filled = rows, half_norms, len(rows), [len(rows)]
        return self
