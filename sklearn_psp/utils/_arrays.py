"""Arrays of row vectors and of rankings: norms, centres, blocks of rows, and rankings without the query itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["blocks", "center_share", "first_others", "row_blocks", "shrunk_mean", "squared_norms", "unit_rows"]

# float64 numbers handled at a time, 2 MiB: the temporaries stay in the cache of one core.
_BLOCK = 1 << 18
_SMALLEST_NORMAL = np.finfo(np.float32).tiny
# The centre is n / (n + _CENTER_PRIOR) of the mean: one image must not become the zero vector, nor two each other's
# opposite.
_CENTER_PRIOR = 50


def center_share(n: int) -> float:
    """Return the share of the mean of n descriptors that is subtracted."""
    return n / (n + _CENTER_PRIOR)


def shrunk_mean(features: np.ndarray) -> np.ndarray:
    """Return the centre of descriptors (n, n_features): their mean times n / (n + 50), float32."""
    return (center_share(len(features)) * features.mean(axis=0, dtype=np.float64)).astype(np.float32)


def blocks(n: int, size: int) -> Iterator[slice]:
    """Yield slices that cut range(n) into blocks of at most `size`; none for n = 0, unlike scikit-learn's."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def row_blocks(n_rows: int, n_features: int) -> Iterator[slice]:
    """Yield slices of rows whose float64 copies stay in the cache of one core."""
    return blocks(n_rows, max(1, _BLOCK // max(1, n_features)))


def squared_norms(X: np.ndarray) -> np.ndarray:
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


def unit_rows(X: np.ndarray, norms_squared: np.ndarray | None = None, out: np.ndarray | None = None) -> np.ndarray:
    """Scale rows to unit length. Rows of zeros stay zero, rows of NaN stay NaN.

    Parameters
    ----------
    X : ndarray of shape (n, n_features), float32
        Rows.
    norms_squared : ndarray of shape (n,), float64, default=None
        As from `squared_norms`, where the caller has them.
    out : ndarray of shape (n, n_features), float32, default=None
        Where the rows go, which may be X itself; None makes a new array.

    Returns
    -------
    ndarray of shape (n, n_features), float32
        Rows of length 1.
    """
    out = np.empty(X.shape, dtype=np.float32) if out is None else out
    # Block by block: a row is still in the processor's cache when it is divided.
    for rows in row_blocks(len(X), X.shape[1]):
        lengths = np.sqrt(squared_norms(X[rows]) if norms_squared is None else norms_squared[rows])
        lengths[lengths == 0] = 1
        with np.errstate(over="ignore"):
            rounded = lengths.astype(np.float32)
        # Lengths that float32 does not hold, or only coarsely; they change no bit of the rows beside them.
        odd = np.isinf(rounded) | (rounded <= _SMALLEST_NORMAL)
        if not odd.any():
            np.divide(X[rows], rounded[:, None], out=out[rows])
            continue
        exact = X[rows][odd] / lengths[odd, None]
        rounded[odd] = 1
        np.divide(X[rows], rounded[:, None], out=out[rows])
        out[rows][odd] = exact
    return out


def first_others(positions: np.ndarray, own: npt.ArrayLike, k: float) -> np.ndarray:
    """Mark the first k in each row of a ranking that are not the row's own position.

    Parameters
    ----------
    positions : ndarray of shape (m, width), int
        Positions.
    own : int, or ndarray of shape (m,), int
        The position to leave out; -1 leaves out none.
    k : int
        How many to mark.

    Returns
    -------
    ndarray of shape (m, width), bool
        Exactly k a row, or all others where there are fewer.
    """
    others = positions != np.reshape(own, (-1, 1))
    return others & (np.cumsum(others, axis=1) <= k)
