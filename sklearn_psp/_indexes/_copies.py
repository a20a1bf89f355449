"""Exact copies among vectors: indexed once, found all."""

from __future__ import annotations

import numpy as np

from sklearn_psp.utils._arrays import row_blocks

__all__ = ["expand_copies", "group_copies"]


def group_copies(vectors):
    """Find exact copies among vectors.

    Parameters
    ----------
    vectors : ndarray of shape (n_samples, n_features), float32
        The vectors.

    Returns
    -------
    distinct : ndarray of shape (n_distinct,), intp, or None
        Position of the first of each set of copies; None if there are no copies.
    copies : tuple of (starts, members), or None
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


def expand_copies(found, copies, k):
    """Replace each distinct vector by its copies, as far as k places can hold them.

    Parameters
    ----------
    found : ndarray of shape (n_queries, k), intp
        Distinct vectors, nearest first.
    copies : tuple of (starts, members), or None
        As from `group_copies`.
    k : int
        How many results each query will have, or the width of `found` where that is more.

    Returns
    -------
    rows, columns : ndarray of shape (n_candidates,)
        Pairs (query, position), at least k and fewer than 2 k for each query.
    """
    if copies is None:
        return np.repeat(np.arange(len(found)), found.shape[1]), found.ravel()
    starts, members = copies
    # Ties go to the smaller position, so of one set of copies only the first k can be results.
    counts = np.minimum(starts[found + 1] - starts[found], k)
    before = np.cumsum(counts, axis=1) - counts
    counts = np.where(before < k, counts, 0).ravel()
    rows = np.repeat(np.repeat(np.arange(len(found)), found.shape[1]), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, members[np.repeat(starts[found.ravel()], counts) + within]
