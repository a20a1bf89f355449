"""The one definition of a distance, and the order it puts neighbours in.

All engines agree because all of them end here: the distance of two float32 vectors is computed from their difference
in float64 and rounded to float32 once,

    euclidean   d(a, b) = ||a - b||
    cosine      d(a, b) = ||a - b||^2 / 2     (a, b of unit length: the same as 1 - a.b, in [0, 2])

because `1 - a.b` in float32 cancels near 0 and depends on how the matrix product was cut into blocks. Identical vectors
are at a distance of exactly 0, d(a, b) = d(b, a) bitwise, and ties go to the smaller position.
"""

from __future__ import annotations

import numpy as np

from sklearn_psp.utils._arrays import row_blocks

__all__ = ["distance_keys", "half_to_distance", "keys_to_result", "pair_distances"]

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def pair_distances(A, rows, B, columns, metric):
    """Distances of the pairs (A[rows[i]], B[columns[i]]), by the definition of this module.

    Parameters
    ----------
    A : ndarray of shape (n, n_features), float32
        Left vectors.
    rows : ndarray of shape (n_pairs,), int
        Positions in A.
    B : ndarray of shape (m, n_features), float32
        Right vectors.
    columns : ndarray of shape (n_pairs,), int
        Positions in B.
    metric : {"cosine", "euclidean"}
        For "cosine" both hold unit vectors.

    Returns
    -------
    distances : ndarray of shape (n_pairs,), float32
        The distances, at least 0; at most 2 for "cosine".
    """
    half = np.empty(len(rows))
    for pairs in row_blocks(len(rows), A.shape[1]):
        difference = np.subtract(A[rows[pairs]], B[columns[pairs]], dtype=np.float64)
        np.multiply(difference, difference, out=difference)
        half[pairs] = difference.sum(axis=1)
    half /= 2
    return half_to_distance(half, metric)


def half_to_distance(half, metric):
    """Turn ||a - b||^2 / 2 (float64) into the distance (float32)."""
    half = np.maximum(half, 0.0)
    if metric == "cosine":
        distance = np.minimum(half, 2.0)
    else:
        half *= 2
        distance = np.sqrt(half)
    with np.errstate(over="ignore"):  # vectors near the largest float32 are infinitely far apart, not an error
        return distance.astype(np.float32)


def distance_keys(distances, positions):
    """Pack distance and position into one integer that sorts by both.

    The bits of float32 numbers >= 0 have the order of the numbers. numpy sorts integers 10 times faster than it sorts
    stably by distance (70 us against 1.2 ms for 20,000), and the position in the low bits breaks every tie.
    """
    bits = np.ascontiguousarray(distances + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    keys = bits.astype(np.uint64)
    keys <<= _SHIFT
    keys |= positions.astype(np.uint64)
    return keys


def keys_to_result(keys):
    """Undo `distance_keys`: float32 distances and intp positions."""
    distances = (keys >> _SHIFT).astype(np.uint32).view(np.float32)
    return distances, (keys & _LOW).astype(np.intp)
