"""Groups of near-duplicates: pairs within a radius, put together with or without chains."""

from __future__ import annotations

import heapq

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sklearn_psp._indexes import pair_distances
from sklearn_psp.utils._arrays import blocks

__all__ = ["duplicate_pairs", "group_pairs"]

_QUERY_ROWS = 4096
# Neighbours first asked of a graph; four times as many where all of them are within the radius.
_FIRST_NEIGHBORS = 16


def duplicate_pairs(index, radius):
    """Find the pairs of vectors within a radius.

    Parameters
    ----------
    index : LivingIndex
        The vectors.
    radius : float
        Largest distance.

    Returns
    -------
    left, right : ndarray of shape (n_pairs,), intp
        Their positions, each pair once, left < right.
    """
    findable = np.arange(index.n_vectors) if index.mask is None else np.flatnonzero(index.mask)
    pairs = [np.empty((2, 0), dtype=np.intp)]
    for block in blocks(len(findable), _QUERY_ROWS):
        queries = findable[block]
        if index.graph is None:
            counts, _, found = index.query_radius(index.vectors[queries], radius)
            pairs.append(np.stack((np.repeat(queries, counts), found)))
        else:
            pairs.extend(_walked_pairs(index, queries, radius))
    left, right = np.sort(np.concatenate(pairs, axis=1), axis=0)
    left, right = np.unique(np.stack((left, right))[:, left < right], axis=1)
    return left, right


def _walked_pairs(index, queries, radius):
    k = min(_FIRST_NEIGHBORS, index.n_samples)
    while len(queries):
        distances, found = index.query(index.vectors[queries], k)
        within = distances <= np.float64(radius)  # a Python number would be rounded to float32
        crowded = within[:, -1] if k < index.n_samples else np.zeros(len(queries), dtype=bool)
        row, column = np.nonzero(within & ~crowded[:, None])
        yield np.stack((queries[row], found[row, column]))
        queries, k = queries[crowded], min(4 * k, index.n_samples)


def group_pairs(vectors, left, right, *, metric, chains):
    """Put pairs together to groups.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, n_features), float32
        All vectors.
    left, right : ndarray of shape (n_pairs,), intp
        Pairs within the radius.
    metric : {"cosine", "euclidean"}
        The metric.
    chains : bool
        Whether all that is connected is one group, or each group is within the radius of its first.

    Returns
    -------
    groups : ndarray of shape (n_grouped,), intp
        Number of the group, the largest first.
    members : ndarray of shape (n_grouped,), intp
        Positions, group by group; the first of each has most pairs in it, the others follow by distance.
    distances : ndarray of shape (n_grouped,), float32
        Distance to the first of the group.
    """
    named, ends = np.unique(np.concatenate((left, right)), return_inverse=True)
    n, (a, b) = len(named), np.split(ends, 2)
    graph = coo_array((np.ones(2 * len(a), dtype=bool), (np.append(a, b), np.append(b, a))), shape=(n, n)).tocsr()
    first = _components(graph) if chains else _stars(graph)
    distances = pair_distances(vectors, named[first], vectors, named, metric)
    sizes = np.bincount(first, minlength=n)
    grouped = np.flatnonzero(sizes[first] > 1)
    is_member = named[grouped] != named[first[grouped]]
    # The largest groups first, then those whose first image came first.
    order = np.lexsort((named[grouped], distances[grouped], is_member, first[grouped], -sizes[first[grouped]]))
    grouped = grouped[order]
    starts = np.append(True, first[grouped][1:] != first[grouped][:-1])[: len(grouped)]
    return np.cumsum(starts) - 1, named[grouped], distances[grouped]


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
