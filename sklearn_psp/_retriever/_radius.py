"""Everything within a radius: neighbours, pairs, and groups of near-duplicates."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sklearn_psp._indexes import Index, pair_distances
from sklearn_psp.utils._arrays import blocks

__all__ = ["DUPLICATE_RADIUS", "check_radius", "duplicate_groups", "ragged", "rows_within"]

# With the default featurizer duplicates that were re-encoded, resized or mirrored were at most .05 from their
# originals, and the nearest image of another motif at .6. Of 1,000 photographs of ten subjects fewer than 5 have
# another within .05, but 20 have one within .11. Crops and rotations are further away (.1-.5): no radius tells them
# from look-alikes.
DUPLICATE_RADIUS = 0.05
_QUERY_ROWS = 4096
# Neighbours first asked of an approximate index; four times as many where all of them are within the radius.
_FIRST_NEIGHBORS = 16


class Within(NamedTuple):
    """Rows within a radius of each query.

    Attributes
    ----------
    counts : ndarray of shape (n_queries,), intp
        How many each query has.
    distances : ndarray of shape (counts.sum(),), float32
        Their distances, query after query, ascending within each.
    rows : ndarray of shape (counts.sum(),), intp
        The rows.
    """

    counts: np.ndarray
    distances: np.ndarray
    rows: np.ndarray


def check_radius(radius: Any, default: float) -> float:
    """Return the radius as a float; the default for None."""
    if radius is None:
        return float(default)
    if isinstance(radius, bool) or not isinstance(radius, Real) or not 0 <= float(radius) < float("inf"):
        raise ValueError(f"radius must be a number >= 0; got {radius!r}")
    return float(radius)


def rows_within(index: Index, Q: np.ndarray, radius: float, selves: np.ndarray | None = None) -> Within:
    """Find all rows within a radius of each query.

    Parameters
    ----------
    index : Index
        The index.
    Q : ndarray of shape (n_queries, n_features), float32
        The queries, fit for search.
    radius : float >= 0
        Largest distance, inclusive.
    selves : ndarray of shape (n_queries,), intp, or None, default=None
        Row of each query, which is not among its own results; None: queries are no rows of the index.

    Returns
    -------
    Within
        The rows.
    """
    counts, distances, rows = index.query_radius(Q, radius)
    if selves is None:
        return Within(counts, distances, rows)
    query = np.repeat(np.arange(len(counts)), counts)
    others = rows != selves[query]
    return Within(np.bincount(query[others], minlength=len(counts)), distances[others], rows[others])


def ragged(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Cut values into an object array of arrays of these lengths."""
    out = np.empty(len(counts), dtype=object)
    out[:] = np.split(values, np.cumsum(counts)[:-1])
    return out


def duplicate_groups(index: Index, radius: float, *, chains: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put rows within a radius of each other to groups.

    Parameters
    ----------
    index : Index
        The index.
    radius : float
        Largest distance.
    chains : bool
        Whether all that is connected is one group, or each group is within the radius of its first.

    Returns
    -------
    groups : ndarray of shape (n_grouped,), intp
        Number of the group, the largest first.
    members : ndarray of shape (n_grouped,), intp
        Rows, group by group; the first of each has most pairs in it, the others follow by distance.
    distances : ndarray of shape (n_grouped,), float32
        Distance to the first of the group.
    """
    left, right = _pairs(index, radius)
    named, ends = np.unique(np.concatenate((left, right)), return_inverse=True)
    n, (a, b) = len(named), np.split(ends, 2)
    graph = coo_array((np.ones(2 * len(a), dtype=bool), (np.append(a, b), np.append(b, a))), shape=(n, n)).tocsr()
    first = _components(graph) if chains else _stars(graph)
    vectors = index.vectors_at(named)
    distances = pair_distances(vectors, first, vectors, np.arange(n), index.metric)
    sizes = np.bincount(first, minlength=n)
    grouped = np.flatnonzero(sizes[first] > 1)
    is_member = grouped != first[grouped]
    # The largest groups first, then those whose first image came first.
    order = np.lexsort((grouped, distances[grouped], is_member, first[grouped], -sizes[first[grouped]]))
    grouped = grouped[order]
    starts = np.append(True, first[grouped][1:] != first[grouped][:-1])[: len(grouped)]
    return np.cumsum(starts) - 1, named[grouped], distances[grouped]


def _pairs(index: Index, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs of rows within a radius, each once: the smaller row, and the larger."""
    findable = np.arange(index.n_vectors) if index.mask is None else np.flatnonzero(index.mask)
    pairs = [np.empty((2, 0), dtype=np.intp)]
    for block in blocks(len(findable), _QUERY_ROWS):
        queries = findable[block]
        if index.sublinear:
            pairs.extend(_pairs_of_neighbors(index, queries, radius))
        else:
            counts, _, found = index.query_radius(index.vectors_at(queries), radius)
            pairs.append(np.stack((np.repeat(queries, counts), found)))
    left, right = np.sort(np.concatenate(pairs, axis=1), axis=0)
    left, right = np.unique(np.stack((left, right))[:, left < right], axis=1)
    return left, right


def _pairs_of_neighbors(index: Index, queries: np.ndarray, radius: float) -> Iterator[np.ndarray]:
    k = min(_FIRST_NEIGHBORS, index.n_samples)
    while len(queries):
        distances, found = index.query(index.vectors_at(queries), k)
        within = distances <= np.float64(radius)  # a Python number would be rounded to float32
        crowded = within[:, -1] if k < index.n_samples else np.zeros(len(queries), dtype=bool)
        row, column = np.nonzero(within & ~crowded[:, None])
        yield np.stack((queries[row], found[row, column]))
        queries, k = queries[crowded], min(4 * k, index.n_samples)


def _components(graph):
    """First of the connected component of each vertex: the one with most neighbours, of several the smallest."""
    _, component = connected_components(graph, directed=False)
    degrees = np.diff(graph.indptr)
    order = np.lexsort((np.arange(len(degrees)), -degrees, component))
    _, firsts = np.unique(component[order], return_index=True)
    return order[firsts][component]


def _stars(graph):
    """First of the star of each vertex: again and again the one with most neighbours that are still free takes them."""
    centre = np.full(graph.shape[0], -1, dtype=np.intp)
    waiting = [(-degree, vertex) for vertex, degree in enumerate(np.diff(graph.indptr).tolist())]
    heapq.heapify(waiting)
    while waiting:
        degree, vertex = heapq.heappop(waiting)
        if centre[vertex] >= 0:
            continue
        neighbors = graph.indices[graph.indptr[vertex] : graph.indptr[vertex + 1]]
        free = neighbors[centre[neighbors] < 0]
        if len(free) < -degree:  # some have been taken since
            heapq.heappush(waiting, (-len(free), vertex))
            continue
        centre[vertex] = vertex
        centre[free] = vertex
    return centre
