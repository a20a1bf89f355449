"""Averages of a vector and its neighbours."""

from __future__ import annotations

import numpy as np

from sklearn_psp.reranking._gallery import cosines, first_others, inverse_lengths
from sklearn_psp.utils._arrays import row_blocks

__all__ = ["expand_query", "expand_rows", "relative_weights"]


def relative_weights(similarities, keep, alpha):
    r"""Weights of the neighbours in an average where the vector itself has weight 1.

    .. math:: w_j = \left(\frac{\max(s_j, 0)}{\max_i s_i}\right)^\alpha

    With alpha = 0 all count alike [1]_; with the weights :math:`s_j^\alpha` of [2]_ an average over descriptors that
    were centred would hardly be one, as cosines of neighbours are .3 to .6 there: .03 to .2 with alpha = 3.

    Parameters
    ----------
    similarities : ndarray of shape (m, k), float
        Cosines s.
    keep : ndarray of shape (m, k), bool
        Which neighbours count.
    alpha : float
        How much faster than the cosine the weight falls.

    Returns
    -------
    ndarray of shape (m, k), float64
        In [0, 1], 0 where `keep` is False. The nearest has weight 1, unless its cosine is not above 0.

    References
    ----------
    .. [1] O. Chum, J. Philbin, J. Sivic, M. Isard, A. Zisserman. Total Recall: Automatic Query Expansion with a
       Generative Feature Model for Object Retrieval. ICCV 2007.
    .. [2] F. Radenovic, G. Tolias, O. Chum. Fine-tuning CNN Image Retrieval with No Human Annotation. TPAMI 2019.
    """
    s = np.where(keep, np.maximum(similarities, 0), 0).astype(np.float64)
    top = s.max(axis=1, keepdims=True, initial=0)
    ratio = np.divide(s, top, out=np.zeros_like(s), where=top > 0)
    return np.where(keep, ratio**alpha, 0)


def expand_rows(gallery, rows, k, alpha, own=-1):
    """Average gallery rows with their k nearest others: unit(x + sum w x_j), all of unit length.

    Parameters
    ----------
    gallery : Gallery
        The gallery.
    rows : ndarray of shape (r,), int
        Positions.
    k : int
        Number of neighbours.
    alpha : float
        As for `relative_weights`.
    own : int, default=-1
        Position that is nobody's neighbour.

    Returns
    -------
    ndarray of shape (r, n_features), float32
        Unit vectors.
    """
    out = np.empty((len(rows), gallery.X.shape[1]), dtype=np.float32)
    positions, similarities = gallery.similarities(rows, k)
    weights = relative_weights(similarities, first_others(positions, own, k), alpha)
    weights *= gallery.inverse_lengths(positions.ravel()).reshape(weights.shape)
    lengths = gallery.inverse_lengths(rows)
    for part in row_blocks(len(rows), gallery.X.shape[1]):
        total = gallery.X[rows[part]] * lengths[part, None]
        for j in range(positions.shape[1]):
            total += gallery.X[positions[part, j]] * weights[part, j, None]
        out[part] = _unit(total)
    return out


def expand_query(gallery, query, neighbors, alpha):
    """Average a query with the gallery rows nearest to it; a unit vector, float64."""
    unit = query * inverse_lengths(query[None])
    if len(neighbors):
        similarities = cosines(gallery, neighbors, unit)[None]
        weights = relative_weights(similarities, np.ones_like(similarities, dtype=bool), alpha)[0]
        weights *= gallery.inverse_lengths(neighbors)
        unit = unit + (gallery.X[neighbors] * weights[:, None]).sum(axis=0)
    return _unit(unit[None])[0]


def _unit(X):
    lengths = np.sqrt((X * X).sum(axis=1, keepdims=True))
    return np.divide(X, lengths, out=np.zeros_like(X), where=lengths > 0)
