"""The one definition of a distance, the order it puts neighbours in, and lists of candidate pairs settled by it.

All engines agree because all of them end here: the distance of two float32 vectors is computed from their difference
in float64 and rounded to float32 once,

    euclidean   d(a, b) = ||a - b||
    cosine      d(a, b) = ||a - b||^2 / 2     (a, b of unit length: the same as 1 - a.b, in [0, 2])

because `1 - a.b` in float32 cancels near 0 and depends on how the matrix product was cut into blocks. Identical vectors
are at a distance of exactly 0, d(a, b) = d(b, a) bitwise, and ties go to the smaller position.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sklearn_psp.utils._arrays import row_blocks

__all__ = [
    "below",
    "distance_keys",
    "expand_duplicates",
    "group_duplicates",
    "half_to_distance",
    "keys_to_result",
    "nearest_of_candidates",
    "pair_distances",
    "prune",
]

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def pair_distances(
    A: np.ndarray, rows: npt.ArrayLike, B: np.ndarray, columns: npt.ArrayLike, metric: str
) -> np.ndarray:
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
    rows, columns = np.asarray(rows), np.asarray(columns)
    half = np.empty(len(rows))
    for pairs in row_blocks(len(rows), A.shape[1]):
        difference = np.subtract(A[rows[pairs]], B[columns[pairs]], dtype=np.float64)
        np.multiply(difference, difference, out=difference)
        half[pairs] = difference.sum(axis=1)
    half /= 2
    return half_to_distance(half, metric)


def half_to_distance(half: np.ndarray, metric: str) -> np.ndarray:
    """Turn ||a - b||^2 / 2 (float64) into the distance (float32)."""
    half = np.maximum(half, 0.0)
    if metric == "cosine":
        distance = np.minimum(half, 2.0)
    else:
        half *= 2
        distance = np.sqrt(half)
    with np.errstate(over="ignore"):  # vectors near the largest float32 are infinitely far apart, not an error
        return distance.astype(np.float32)


def distance_keys(distances: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Pack distance and position into one integer that sorts by both.

    The bits of float32 numbers >= 0 have the order of the numbers. numpy sorts integers 10 times faster than it sorts
    stably by distance (70 us against 1.2 ms for 20,000), and the position in the low bits breaks every tie.
    """
    bits = np.ascontiguousarray(distances + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    keys = bits.astype(np.uint64)
    keys <<= _SHIFT
    keys |= positions.astype(np.uint64)
    return keys


def keys_to_result(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Undo `distance_keys`: float32 distances and intp positions."""
    distances = (keys >> _SHIFT).astype(np.uint32).view(np.float32)
    return distances, (keys & _LOW).astype(np.intp)


def prune(
    rows: np.ndarray, columns: np.ndarray, scores: np.ndarray, k: int, margin: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Drop candidates that cannot be among the k best of their query.

    Parameters
    ----------
    rows, columns : ndarray of shape (n_candidates,), int
        Query and vector of each candidate.
    scores : ndarray of shape (n_candidates,), float32
        Their scores, larger is nearer.
    k : int
        How many are wanted; each query has no candidate or at least k.
    margin : ndarray of shape (n_queries,), float64
        How far below the k-th best score a true neighbour may stand.

    Returns
    -------
    rows, columns, scores : ndarray
        The candidates that remain, sorted by query.
    threshold : ndarray of shape (n_queries,), float32
        The score a further candidate has to reach; infinite for queries without candidates.
    """
    order = np.argsort(_row_and_score_keys(rows, scores))
    rows, columns, scores = rows[order], columns[order], scores[order]
    counts = np.bincount(rows, minlength=len(margin))
    present = np.flatnonzero(counts)
    kth = scores[(np.cumsum(counts) - counts)[present] + k - 1]
    threshold = np.full(len(margin), np.inf, dtype=np.float32)
    threshold[present] = below(kth, margin[present])
    keep = scores >= threshold[rows]
    return rows[keep], columns[keep], scores[keep], threshold


def _row_and_score_keys(rows, scores):
    """Pack row and descending score into one integer; sorting those is 10 times faster than `lexsort`."""
    bits = (-scores).view(np.int32)
    bits = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # negative floats: more bits mean less
    return (rows << 32) + bits


def below(scores: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Return `scores - margin` in float32, rounded down: a comparison in float64 would copy the whole block."""
    return np.nextafter((scores - margin).astype(np.float32), np.float32(-np.inf))


def nearest_of_candidates(
    Q: np.ndarray, rows: np.ndarray, columns: np.ndarray, vectors: np.ndarray, k: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of each query's candidates.

    Parameters
    ----------
    Q : ndarray of shape (n_queries, n_features), float32
        The queries.
    rows, columns : ndarray of shape (n_candidates,), int
        Pairs (query, vector) without repeats; each query has at least k.
    vectors : ndarray of shape (n_samples, n_features), float32
        The vectors.
    k : int
        How many to keep.
    metric : {"cosine", "euclidean"}
        The metric.

    Returns
    -------
    distances : ndarray of shape (n_queries, k), float32
        Sorted distances.
    positions : ndarray of shape (n_queries, k), intp
        Positions of the nearest, ties by position.
    """
    keys = distance_keys(pair_distances(Q, rows, vectors, columns, metric), columns)
    order = np.lexsort((keys, rows))
    counts = np.bincount(rows, minlength=len(Q))
    first = np.cumsum(counts) - counts
    return keys_to_result(keys[order[first[:, None] + np.arange(k)]])


def group_duplicates(
    vectors: np.ndarray,
) -> tuple[np.ndarray | None, tuple[np.ndarray, np.ndarray] | None]:
    """Find exact duplicates among vectors: indexed once, found all.

    Parameters
    ----------
    vectors : ndarray of shape (n_samples, n_features), float32
        The vectors.

    Returns
    -------
    distinct : ndarray of shape (n_distinct,), intp, or None
        Position of the first of each set of duplicates; None if there are no duplicates.
    duplicates : tuple of (starts, members), or None
        Positions equal to the i-th distinct vector, ascending: `members[starts[i]:starts[i + 1]]`.
    """
    hashes = _hashes(vectors)
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    if len(first) == len(vectors):
        return None, None
    suspects = np.flatnonzero(first[group] != np.arange(len(vectors)))
    if any(
        not np.array_equal(vectors[suspects[rows]], vectors[first[group[suspects[rows]]]])
        for rows in row_blocks(len(suspects), vectors.shape[1])
    ):  # two different vectors of one hash: compare all bytes instead
        rows = np.ascontiguousarray(vectors + np.float32(0)).view(f"V{vectors.itemsize * vectors.shape[1]}").ravel()
        _, first, group = np.unique(rows, return_index=True, return_inverse=True)
    members = np.argsort(group, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(group))))
    return first, (starts, members)


def _hashes(vectors):
    """Hash the bytes of each row: 1,000,000 rows in a second, where sorting the bytes takes ten."""
    multipliers = np.random.default_rng(0).integers(1, 2**63, vectors.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(vectors), dtype=np.uint64)
    for rows in row_blocks(len(vectors), vectors.shape[1]):
        # + 0.0: the bytes of -0.0 and 0.0 differ.
        words = (vectors[rows] + np.float32(0)).view(np.uint32).astype(np.uint64)
        words ^= words >> np.uint64(15)
        words *= multipliers
        words ^= words >> np.uint64(29)
        hashes[rows] = words.sum(axis=1, dtype=np.uint64)
    return hashes


def expand_duplicates(
    found: np.ndarray, duplicates: tuple[np.ndarray, np.ndarray] | None, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Replace each distinct vector by its duplicates, as far as k places can hold them.

    Parameters
    ----------
    found : ndarray of shape (n_queries, k), intp
        Distinct vectors, nearest first.
    duplicates : tuple of (starts, members), or None
        As from `group_duplicates`.
    k : int
        How many results each query will have, or the width of `found` where that is more.

    Returns
    -------
    rows, columns : ndarray of shape (n_candidates,)
        Pairs (query, position), at least k and fewer than 2 k for each query.
    """
    if duplicates is None:
        return np.repeat(np.arange(len(found)), found.shape[1]), found.ravel()
    starts, members = duplicates
    # Ties go to the smaller position, so of one set of duplicates only the first k can be results.
    counts = np.minimum(starts[found + 1] - starts[found], k)
    before = np.cumsum(counts, axis=1) - counts
    counts = np.where(before < k, counts, 0).ravel()
    rows = np.repeat(np.repeat(np.arange(len(found)), found.shape[1]), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, members[np.repeat(starts[found.ravel()], counts) + within]
