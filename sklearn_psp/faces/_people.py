"""Similarities to people rather than to images, and what a gallery scores when images are taken out of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_psp.utils._arrays import blocks, squared_norms

__all__ = ["Cohort", "cohort", "person_similarities", "same_image_of_two"]

# Compared at a time: 16 MiB of products, and 8 MiB of 128 features.
_QUERIES, _VECTORS = 256, 8192


def person_similarities(queries, vectors, codes, n_people, own=None):
    r"""Similarity of queries to people: that to the most alike image of each.

    .. math:: s(x, p) = \max_{v \in p} 1 - \tfrac{1}{2} \lVert x - v \rVert^2

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_features), float32
        Descriptors; of unit length for the metric "cosine", as `vectors`.
    vectors : ndarray of shape (n_vectors, n_features), float32
        The gallery.
    codes : ndarray of shape (n_vectors,), int
        Whose image each is, from 0; everybody has one.
    n_people : int
        Number of people.
    own : ndarray of shape (n_queries,), int, or None, default=None
        Which of the vectors each query is, and is not compared with.

    Returns
    -------
    ndarray of shape (n_queries, n_people), float64
        The similarities; minus infinity where a query is all there is of a person.
    """
    order = np.argsort(codes, kind="stable")
    ordered_codes = codes[order]
    similarities = np.full((len(queries), n_people), -np.inf)
    for part in blocks(len(order), _VECTORS):
        # float64: products of float32 rows do not tell nearly equal images apart.
        vectors_of = vectors[order[part]].astype(np.float64)
        halves = squared_norms(vectors[order[part]]) / 2
        first = ordered_codes[part.start]
        people = slice(first, ordered_codes[part.stop - 1] + 1)
        starts = np.searchsorted(ordered_codes[part], np.arange(people.start, people.stop))
        for block in blocks(len(queries), _QUERIES):
            products = queries[block].astype(np.float64) @ vectors_of.T
            products += 1 - squared_norms(queries[block])[:, None] / 2 - halves
            if own is not None:
                products[own[block][:, None] == order[part]] = -np.inf
            best = np.maximum.reduceat(products, starts, axis=1)
            np.maximum(similarities[block, people], best, out=similarities[block, people])
    return similarities


class Cohort(NamedTuple):
    """What images of the gallery score when they are taken out of it, one by one.

    Parameters
    ----------
    own : ndarray of shape (n_probes,), float64
        Similarity to the other images of the same person; minus infinity where there are none.
    best_other : ndarray of shape (n_probes,), float64
        The best similarity to anybody else, which is what the person would score if not enrolled; minus infinity where
        nobody else is.
    others : ndarray of shape (n,), float64
        Similarities to other people, all or some.
    """

    own: np.ndarray
    best_other: np.ndarray
    others: np.ndarray


def cohort(vectors, codes, n_people, *, n_probes, n_others, random_state):
    """Take images out of a gallery one by one, and compare them with what is left.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, n_features), float32
        The gallery.
    codes : ndarray of shape (n_vectors,), int
        Whose image each is, from 0; everybody has one.
    n_people : int
        Number of people.
    n_probes : int
        How many are taken out, at most; drawn at random.
    n_others : int
        How many similarities to other people are returned, at most.
    random_state : RandomState
        Draws.

    Returns
    -------
    Cohort
        The similarities.
    """
    probes = _drawn(len(vectors), n_probes, random_state)
    similarities = person_similarities(vectors[probes], vectors, codes, n_people, own=probes)
    is_own = codes[probes][:, None] == np.arange(n_people)
    own = similarities[is_own]
    others = similarities[~is_own]
    best_other = np.where(is_own, -np.inf, similarities).max(axis=1)
    return Cohort(own, best_other, others[_drawn(len(others), n_others, random_state)])


def _drawn(n, n_most, random_state):
    return np.arange(n) if n <= n_most else np.sort(random_state.choice(n, n_most, replace=False))


def same_image_of_two(vectors, codes):
    """Find an image that is enrolled as two people.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, n_features), float32, C-contiguous
        Descriptors.
    codes : ndarray of shape (n_vectors,), int
        Whose image each is.

    Returns
    -------
    tuple of two ints, or None
        Two vectors that are the same, of two people.
    """
    vectors = np.ascontiguousarray(vectors) + np.float32(0)  # -0.0 is 0.0
    whole = vectors.view(np.dtype((np.void, vectors.itemsize * vectors.shape[1])))[:, 0]
    _, first, group = np.unique(whole, return_index=True, return_inverse=True)
    other = np.flatnonzero(codes != codes[first[group]])
    return (int(first[group[other[0]]]), int(other[0])) if len(other) else None
