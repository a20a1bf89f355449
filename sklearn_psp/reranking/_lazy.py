"""Tables with a row per gallery vector, computed where they are first asked for."""

from __future__ import annotations

import threading

import numpy as np

__all__ = ["LazyRows"]


class LazyRows:
    """Arrays of n rows that are filled on demand; several threads may ask at once.

    Parameters
    ----------
    n : int
        Number of rows.
    compute : callable
        Takes the positions of rows, ascending and without repeats, and returns a tuple of arrays, one row each.
    """

    def __init__(self, n, compute):
        self._n = n
        self._compute = compute
        self._lock = threading.Lock()
        self._known = None
        self._arrays = None

    def get(self, rows):
        """Return copies of these rows of each array, computing in one go those that are not known."""
        with self._lock:
            self._fill(rows)
            return tuple(array[rows] for array in self._arrays)

    def fill(self, rows):
        """Compute those of these rows that are not known."""
        with self._lock:
            self._fill(rows)

    def _fill(self, rows):
        if self._known is None:
            self._known = np.zeros(self._n, dtype=bool)
        missing = np.unique(rows[~self._known[rows]])
        if len(missing) == 0 and self._arrays is not None:
            return
        computed = self._compute(missing)
        if self._arrays is None:
            self._arrays = tuple(np.empty((self._n, *a.shape[1:]), dtype=a.dtype) for a in computed)
        for array, values in zip(self._arrays, computed, strict=True):
            array[missing] = values
        self._known[missing] = True
