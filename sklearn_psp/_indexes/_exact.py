"""Exact search: blocked matrix products that propose, distances from differences that decide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sklearn_psp._indexes._distances import (
    below,
    distance_keys,
    half_to_distance,
    keys_to_result,
    nearest_of_candidates,
    pair_distances,
    prune,
)
from sklearn_psp._indexes._protocol import Subset
from sklearn_psp.utils._arrays import blocks, squared_norms

__all__ = ["WORKING_MEMORY", "ExactIndex"]

WORKING_MEMORY = 64  # MiB; 8 to 128 are alike at 1,000 queries on 20,000 x 512, 320 takes twice as long
# A product of 1,000 or more queries is as fast as an undivided one; of 250 it took three times as long.
_QUERY_ROWS = 1024
_UNIT_32 = 2.0**-24  # unit round-off
_UNIT_64 = 2.0**-53
# Squares beyond this overflow float32.
_LARGE = 1e37
_LOWEST = np.finfo(np.float32).min


class ExactIndex:
    r"""Find the true nearest neighbours, in bounded memory, with a result that no block size changes.

    With :math:`s(q, g) = q \cdot g - ||g||^2 / 2` the squared distance is :math:`||q||^2 - 2 s(q, g)`. Scores come
    from a float32 matrix product with a known error bound (n_features * 2^-24 * ||q|| ||g||, Higham 2002, chapter 3).
    All vectors that could be among the k nearest within twice the bound are candidates; they are few, and
    `pair_distances` decides between them. So what BLAS rounds differently from block to block never shows.

    Parameters
    ----------
    vectors : ndarray of shape (n_samples, n_features), float32
        Finite, C-contiguous; unit vectors for "cosine". Kept, not copied.
    metric : {"cosine", "euclidean"}
        The metric.
    working_memory : float, default=64
        MiB for temporary arrays. The result of a query and the vectors are not part of it.
    half_norms : ndarray of shape (n_samples,), float64, default=None
        ||g||^2 / 2, where the caller has it.

    References
    ----------
    N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, SIAM 2002, section 3.1.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        *,
        metric: str,
        working_memory: float = WORKING_MEMORY,
        half_norms: np.ndarray | None = None,
    ):
        self.vectors = vectors
        self.metric = metric
        self.working_memory = working_memory
        self._bytes = working_memory * 2**20
        self._half_norms = squared_norms(vectors) / 2 if half_norms is None else half_norms
        # All the same for unit vectors, except for rounding that `_score_error` has room for.
        with np.errstate(over="ignore"):  # `_query_block` uses no scores then
            self._penalty = None if metric == "cosine" else self._half_norms.astype(np.float32)
        self._largest = float(np.sqrt(2 * self._half_norms.max(initial=0.0)))

    @property
    def n_samples(self) -> int:
        """Number of vectors that can be found."""
        return len(self.vectors)

    def query(self, Q: np.ndarray, k: int, subset: Subset | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest vectors of each query.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries, prepared like the vectors.
        k : int in [0, n_samples], or in [0, subset.count]
            How many.
        subset : Subset or None, default=None
            Which vectors may be found; None: all.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Sorted distances.
        positions : ndarray of shape (n_queries, k), intp
            Positions of the nearest, ties by position.
        """
        distances = np.empty((len(Q), k), dtype=np.float32)
        positions = np.empty((len(Q), k), dtype=np.intp)
        if not k:
            return distances, positions
        # With k near n a threshold saves nothing.
        n_findable = self.n_samples if subset is None else subset.count
        search, rows_at_once = (
            (self._query_all, self._rank_rows()) if 4 * k >= n_findable else (self._query_block, self._query_rows(k))
        )
        for rows in blocks(len(Q), rows_at_once):
            distances[rows], positions[rows] = search(Q[rows], k, subset)
        return distances, positions

    def query_radius(
        self, Q: np.ndarray, radius: float, subset: Subset | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find all vectors within a radius of each query.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries, prepared like the vectors.
        radius : float >= 0
            Largest distance, inclusive, in the metric.
        subset : Subset or None, default=None
            Which vectors may be found; None: all.

        Returns
        -------
        counts : ndarray of shape (n_queries,), intp
            How many each query has.
        distances : ndarray of shape (counts.sum(),), float32
            Their distances, query after query, ascending within each.
        positions : ndarray of shape (counts.sum(),), intp
            Their positions, ties by position.
        """
        found = [self._radius_block(Q[rows], radius, subset) for rows in blocks(len(Q), self._query_rows(1))]
        if not found:
            return np.empty(0, np.intp), np.empty(0, np.float32), np.empty(0, np.intp)
        counts, distances, positions = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return counts, distances, positions

    def rank_all(self, Q: np.ndarray, subset: Subset | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Rank all vectors for each query, a block of queries at a time.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries, prepared like the vectors.
        subset : Subset or None, default=None
            Which vectors are ranked; None: all.

        Yields
        ------
        rows : slice
            The queries of the block.
        positions : ndarray of shape (n_rows, n_ranked), intp
            All positions, nearest first, ties by position.
        """
        for rows in blocks(len(Q), self._rank_rows()):
            keys = self._all_keys(Q[rows], subset)
            keys.sort(axis=1)
            yield rows, keys_to_result(keys)[1]

    def _query_rows(self, k):
        # A block of scores has at least 4 k columns and may take a quarter of the memory.
        return int(np.clip(self._bytes // (16 * 4 * k), 1, _QUERY_ROWS))

    def _rank_rows(self):
        # Bytes a vector and query at the same time: distance 4, key 8, two copies of it 16, position 8.
        return int(np.clip(self._bytes // (36 * self.n_samples), 1, _QUERY_ROWS))

    def _query_block(self, Q, k, subset):
        lengths = np.sqrt(squared_norms(Q))
        reach = (lengths + self._largest) ** 2
        if not reach.max() < _LARGE:
            return self._query_all_blocks(Q, k, subset)
        rows, columns, crowded = self._candidates(Q, k, 2 * self._score_error(lengths, reach), subset)
        if not crowded.any():
            return nearest_of_candidates(Q, rows, columns, self.vectors, k, self.metric)

        distances = np.empty((len(Q), k), dtype=np.float32)
        positions = np.empty((len(Q), k), dtype=np.intp)
        calm = np.flatnonzero(~crowded)
        new_row = np.cumsum(~crowded) - 1
        distances[calm], positions[calm] = nearest_of_candidates(
            Q[calm], new_row[rows], columns, self.vectors, k, self.metric
        )
        distances[crowded], positions[crowded] = self._query_all_blocks(Q[crowded], k, subset)
        return distances, positions

    def _radius_block(self, Q, radius, subset):
        norms = squared_norms(Q)
        lengths = np.sqrt(norms)
        reach = (lengths + self._largest) ** 2
        if reach.max() < _LARGE:
            # ||q - g||^2 / 2 = ||q||^2 / 2 - s, which is at most `half` for what is within the radius.
            half = radius if self.metric == "cosine" else radius**2 / 2
            least = below(norms / 2 - half, self._score_error(lengths, reach) + _UNIT_32 * 4 * (half + reach))
            pairs = [
                np.stack((rows, columns))
                for scores, at, n_columns in self._scores(Q, subset, self._width(len(Q)))
                for rows, columns in [_pairs(np.flatnonzero(scores >= least[:, None]), at, n_columns)]
            ]
            rows, columns = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.intp)
        else:
            at = np.arange(self.n_samples) if subset is None else subset.positions
            rows, columns = np.repeat(np.arange(len(Q)), len(at)), np.tile(at, len(Q))
        distances = pair_distances(Q, rows, self.vectors, columns, self.metric)
        within = distances <= np.float64(radius)  # a Python number would be rounded to float32
        rows, keys = rows[within], distance_keys(distances[within], columns[within])
        order = np.lexsort((keys, rows))
        return np.bincount(rows, minlength=len(Q)), *keys_to_result(keys[order])

    def _score_error(self, lengths, reach):
        """Bound |computed - true score|, with room for the rounding of the norms and of the float32 distances."""
        n_features = self.vectors.shape[1]
        bound = _UNIT_32 * ((n_features + 8) * lengths * self._largest + 8 * reach)
        return bound + n_features * float(np.finfo(np.float32).tiny)  # products that underflow

    def _width(self, n_queries):
        return max(1, int(self._bytes // (16 * n_queries)))

    def _scores(self, Q, subset, width):
        """Yield blocks of scores with where their columns stand: a slice, or an array of positions.

        What may not be found has the score -inf. Each block is overwritten by the next.
        """
        gather = subset is not None and subset.narrow
        total = subset.count if gather else self.n_samples
        buffer = np.empty(len(Q) * min(width, total), dtype=np.float32)
        for block in blocks(total, width):
            at = subset.positions[block] if gather else block
            part = self.vectors[at]
            scores = buffer[: len(Q) * len(part)].reshape(len(Q), len(part))
            _products(Q, part, scores)
            if self._penalty is not None:
                scores -= self._penalty[at]
            if subset is not None and not gather:
                scores[:, ~subset.mask[block]] = -np.inf
            yield scores, at, len(part)

    def _candidates(self, Q, k, margin, subset):
        """Collect the pairs that may be among the k nearest.

        Returns
        -------
        rows, columns : ndarray of shape (n_candidates,)
            The pairs.
        crowded : ndarray of shape (n_queries,), bool
            Queries with so many vectors within the error of the k-th that listing them would not pay (a gallery of
            copies, or far from the origin); they have no pairs.
        """
        limit = 2 * k + 256
        crowded = np.zeros(len(Q), dtype=bool)
        pool, pooled, threshold = [], 0, None
        for scores, at, n_columns in self._scores(Q, subset, max(4 * k, self._width(len(Q)))):
            if threshold is None:
                kth = np.partition(scores, n_columns - k, axis=1)[:, n_columns - k]
                # -inf where fewer than k of the block may be found: above it all that may, and nothing that may not.
                threshold = np.maximum(below(kth, margin), _LOWEST)
            flat = np.flatnonzero(scores >= threshold[:, None])
            rows, columns = _pairs(flat, at, n_columns)
            pool.append((rows, columns, scores.ravel()[flat]))
            pooled += len(rows)
            if pooled <= 4 * k * len(Q):
                continue
            rows, columns, kept = (np.concatenate(parts) for parts in zip(*pool, strict=True))
            rows, columns, kept, threshold = prune(rows, columns, kept, k, margin)
            crowded |= np.bincount(rows, minlength=len(Q)) > limit
            if crowded.any():
                threshold[crowded] = np.inf
                calm = ~crowded[rows]
                rows, columns, kept = rows[calm], columns[calm], kept[calm]
            pool, pooled = [(rows, columns, kept)], len(rows)
        rows, columns, kept = (np.concatenate(parts) for parts in zip(*pool, strict=True))
        rows, columns, kept, _ = prune(rows, columns, kept, k, margin)
        many = np.bincount(rows, minlength=len(Q)) > limit
        if many.any():
            crowded |= many
            calm = ~crowded[rows]
            rows, columns = rows[calm], columns[calm]
        return rows, columns, crowded

    def _query_all_blocks(self, Q, k, subset):
        parts = [self._query_all(Q[rows], k, subset) for rows in blocks(len(Q), self._rank_rows())]
        distances, positions = zip(*parts, strict=True)
        return np.concatenate(distances), np.concatenate(positions)

    def _query_all(self, Q, k, subset):
        keys = self._all_keys(Q, subset)
        if k < keys.shape[1]:
            keys = np.partition(keys, k - 1, axis=1)[:, :k]
        return keys_to_result(np.sort(keys, axis=1))

    def _all_keys(self, Q, subset):
        positions = np.arange(self.n_samples) if subset is None else subset.positions
        return distance_keys(self._all_distances(Q, subset), positions)

    def _all_distances(self, Q, subset):
        """Distances of all pairs, bitwise those of `pair_distances`.

        A float64 product settles nearly all: where the float32 value is the same at both ends of the error interval,
        it is the value. The few others (copies, near copies, values on the edge between two floats) are computed.
        """
        n_queries, n_features = Q.shape
        Q64, half = Q.astype(np.float64), squared_norms(Q)[:, None] / 2
        reach = (np.sqrt(2 * half) + self._largest) ** 2
        error = _UNIT_64 * (n_features + 16) * reach + n_features * float(np.finfo(np.float64).tiny)
        n_columns = self.n_samples if subset is None else subset.count
        distances = np.empty((n_queries, n_columns), dtype=np.float32)
        # Bytes a vector: its float64 copy, and for each query product, ends of the interval and pairs.
        width = max(1, int(self._bytes // (2 * (8 * n_features + 56 * n_queries))))
        for block in blocks(n_columns, width):
            at = block if subset is None else subset.positions[block]
            part = self.vectors[at]
            product = Q64 @ part.astype(np.float64).T
            np.subtract(half + self._half_norms[at], product, out=product)
            low = half_to_distance(product - error, self.metric)
            product += error
            rows, columns = np.nonzero(low != half_to_distance(product, self.metric))
            low[rows, columns] = pair_distances(Q, rows, part, columns, self.metric)
            distances[:, block] = low
        return distances


def _pairs(flat, at, n_columns):
    """Rows and positions of places in a block of scores."""
    rows, columns = np.divmod(flat, n_columns)
    return rows, columns + at.start if isinstance(at, slice) else at[columns]


def _products(Q, vectors, out):
    if len(Q) == 1 and hasattr(np, "vecdot"):  # numpy 2
        # One thread. For a single query BLAS's threads wait for each other: 0.6 ms on 20,000 x 512 where nothing else
        # runs, 8 to 48 ms where something does; this takes 1.5 ms in both.
        np.vecdot(vectors, Q, out=out[0])
    else:
        np.matmul(Q, vectors.T, out=out)
