"""Search in an index: nearest rows and exact rankings, re-ranked, and without the query itself where it is a row.

Everything here counts rows of the index; what a retriever returns are positions, which the gallery makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from sklearn_psp._indexes import Index, Subset
from sklearn_psp.utils._arrays import blocks, first_others

__all__ = ["View", "nearest", "rank", "runs"]

# Queries whose rankings are cut at k are ranked this many at a time.
_RANKED_ROWS = 1024


class View:
    """Search in an index for some of its rows only, as a `Searcher`.

    Parameters
    ----------
    index : Index
        The index.
    subset : Subset or None, default=None
        What may be found; None: all that can.
    exact : bool, default=False
        Whether to miss nothing, whatever the engine.
    """

    def __init__(self, index: Index, subset: Subset | None = None, *, exact: bool = False):
        self._index, self._subset, self._exact = index, subset, exact
        self.n_samples = index.n_samples if subset is None else subset.count

    def query(self, Q: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest rows of each query."""
        return self._index.query(Q, k, self._subset, exact=self._exact)


def nearest(
    index: Index,
    Q: np.ndarray,
    k: int,
    *,
    selves: np.ndarray | None = None,
    subset: Subset | None = None,
    reranker: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest rows of each query.

    Parameters
    ----------
    index : Index
        The index.
    Q : ndarray of shape (n_queries, n_features), float32
        The queries, fit for search.
    k : int
        How many.
    selves : ndarray of shape (n_queries,), intp, or None, default=None
        Row of each query, which is not among its own results; None: queries are no rows of the index.
    subset : Subset or None, default=None
        Which rows may be found; None: all that can.
    reranker : Reranker or None, default=None
        Fitted to the index.

    Returns
    -------
    distances : ndarray of shape (n_queries, k), float32
        Ascending; NaN in places that are left over.
    rows : ndarray of shape (n_queries, k), intp
        The rows; -1 in places that are left over, because a query is one of no more than k rows that may be found.
    """
    view = View(index, subset)
    if reranker is not None and k:
        return _reranked(reranker, Q, k, view, selves, subset)
    if selves is None:
        return view.query(Q, k)
    distances, rows = view.query(Q, min(k + 1, view.n_samples))
    return _drop_self(distances, rows, selves, k)


def _reranked(reranker, Q, k, view, selves, subset):
    """Re-rank; queries that are among what can be found have one result less where all of it is asked for."""
    if selves is None or k < view.n_samples:
        return reranker.rerank(Q, k, index=view, own=selves)
    distances, rows = np.full((len(Q), k), np.nan, dtype=np.float32), np.full((len(Q), k), -1, dtype=np.intp)
    inside = subset.mask[selves]
    for queries, n in ((np.flatnonzero(~inside), k), (np.flatnonzero(inside), k - 1)):
        if len(queries) and n:
            found = reranker.rerank(Q[queries], n, index=view, own=selves[queries])
            distances[queries, :n], rows[queries, :n] = found
    return distances, rows


def rank(
    index: Index, Q: np.ndarray, *, selves: np.ndarray | None = None, k: int | None = None, reranker: Any = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Rank the rows for each query, exactly whatever the engine, a block of queries at a time.

    Parameters
    ----------
    index : Index
        The index.
    Q : ndarray of shape (n_queries, n_features), float32
        The queries, fit for search.
    selves : ndarray of shape (n_queries,), intp, or None, default=None
        Row of each query, which is left out of its own ranking; None: queries are no rows of the index.
    k : int or None, default=None
        Where to cut; None ranks all rows that can be found.
    reranker : Reranker or None, default=None
        Fitted to the index. It orders the first rows; the others follow in the order they have.

    Yields
    ------
    queries : slice
        The queries of the block.
    rows : ndarray of shape (n, n_ranked), intp
        Rows, best first.
    """
    view = View(index, exact=True)
    if k is None or k + (selves is not None) >= view.n_samples:
        for part, ranked in index.rank_all(Q):
            own = None if selves is None else selves[part]
            if own is not None:
                ranked = ranked[ranked != own[:, None]].reshape(len(ranked), -1)
            if reranker is not None and ranked.shape[1]:
                head = int(min(reranker.shortlist, ranked.shape[1]))
                ranked = _head_first(reranker.rerank(Q[part], head, index=view, own=own)[1], ranked)
            yield part, ranked
        return
    for part in blocks(len(Q), _RANKED_ROWS):
        own = None if selves is None else selves[part]
        if reranker is not None:
            yield part, reranker.rerank(Q[part], k, index=view, own=own)[1]
        elif own is not None:
            yield part, _drop_self(*view.query(Q[part], k + 1), own, k)[1]
        else:
            yield part, view.query(Q[part], k)[1]


def runs(searched: np.ndarray | None, n_queries: int) -> Iterator[tuple[slice, slice | None]]:
    """Cut queries where searched and skipped ones meet.

    Parameters
    ----------
    searched : ndarray of shape (n_searched,), intp, or None
        The queries that are searched, ascending; None: all.
    n_queries : int
        Number of queries.

    Yields
    ------
    queries : slice
        A run of queries.
    places : slice or None
        Their places among those that are searched; None for a run of skipped ones.
    """
    if searched is None:
        yield slice(0, n_queries), slice(0, n_queries)
        return
    is_searched = np.zeros(n_queries, dtype=bool)
    is_searched[searched] = True
    before = np.concatenate(([0], np.cumsum(is_searched)))
    edges = [0, *(np.flatnonzero(np.diff(is_searched)) + 1), n_queries]
    for start, stop in pairwise(edges):
        yield slice(start, stop), slice(before[start], before[stop]) if is_searched[start] else None


def _drop_self(distances, rows, selves, k):
    """Take the query itself out of its m neighbours, and return k of the others: NaN and -1 where there are fewer.

    By row, not by distance: duplicates of the query are neighbours like any other. A query may be missing among its
    neighbours: more duplicates than places come before it, or a filter left it out.
    """
    if k < rows.shape[1]:
        others = first_others(rows, selves, k)
        return distances[others].reshape(len(selves), k), rows[others].reshape(len(selves), k)
    is_self = rows == selves[:, None]
    order = np.argsort(is_self, axis=1, kind="stable")
    last = is_self.any(axis=1)
    distances, rows = np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
    distances[last, -1], rows[last, -1] = np.nan, -1
    return distances, rows


def _head_first(head, ranking):
    """Put some rows first, each query's in its own order, and the others after them in the order they have."""
    n_queries, n_ranked = ranking.shape
    queries = np.arange(n_queries)[:, None]
    in_head = np.zeros((n_queries, int(ranking.max(initial=0)) + 1), dtype=bool)
    in_head[queries, head] = True
    others = ranking[~in_head[queries, ranking]].reshape(n_queries, n_ranked - head.shape[1])
    return np.concatenate((head, others), axis=1)
