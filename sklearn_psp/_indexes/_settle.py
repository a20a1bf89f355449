"""Distances of what a walk found, compiled: imported only where numba is in use anyway."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["half_squared_distances"]


@numba.njit(
    numba.float64[:, ::1](
        numba.types.Array(numba.float32, 2, "C", readonly=True),
        numba.types.Array(numba.float32, 2, "C", readonly=True),
        numba.types.Array(numba.int64, 2, "C", readonly=True),
    ),
    fastmath={"reassoc", "contract"},
    nogil=True,
    cache=True,
)
def half_squared_distances(Q, vectors, found):  # pragma: no cover - compiled
    """||q - g||^2 / 2 in float64 for each query and the vectors at its places.

    `pair_distances` gives the same float32 values, a sum in another order apart; this takes a quarter of its time.
    """
    out = np.empty(found.shape, dtype=np.float64)
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            row = found[i, j]
            total = 0.0
            for t in range(Q.shape[1]):
                difference = np.float64(Q[i, t]) - np.float64(vectors[row, t])
                total += difference * difference
            out[i, j] = total / 2
    return out
