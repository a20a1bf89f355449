"""Query expansion: search again with the average of the query and what it found."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from sklearn_psp.reranking._base import Reranker, in_order, search_others
from sklearn_psp.reranking._neighbors import GalleryNeighbors, cosines, inverse_lengths
from sklearn_psp.utils._arrays import first_others, row_blocks
from sklearn_psp.utils._compat import Interval

__all__ = ["QueryExpansion", "expand_query", "expand_rows"]


class QueryExpansion(Reranker):
    r"""Search again with the average of the query and its nearest neighbours.

    .. math:: q' = \frac{q + \sum_{j \le k} w_j x_j}{\lVert q + \sum_{j \le k} w_j x_j \rVert},
              \qquad w_j = \left(\frac{\max(s_j, 0)}{s_1}\right)^\alpha

    with all vectors of unit length, :math:`s_j` the cosine of the query and its j-th neighbour and :math:`s_1` the
    largest. alpha = 0 is average query expansion [1]_. [2]_ weighs with :math:`s_j^\alpha`; weights relative to the
    nearest neighbour do the same to descriptors whose cosines are all high, and still average where they are low.

    Parameters
    ----------
    k : int, default=10
        Number of neighbours in the average.
    alpha : float, default=2.0
        How fast the weight of a neighbour falls with its cosine. Measured on the sets of `benchmarks/reranking.py`.

    Attributes
    ----------
    gallery_ : object
        The gallery.
    n_features_in_ : int
        Number of features of the gallery.

    See Also
    --------
    DatabaseAugmentation : Averages on the side of the gallery too.

    Notes
    -----
    Distances are cosine distances to q', in [0, 2]. The second search asks the index for the neighbours of q', scaled
    to the length of the query, so nothing is cut at a shortlist; equal distances keep the order of that search.

    References
    ----------
    .. [1] O. Chum, J. Philbin, J. Sivic, M. Isard, A. Zisserman. Total Recall: Automatic Query Expansion with a
       Generative Feature Model for Object Retrieval. ICCV 2007.
    .. [2] F. Radenovic, G. Tolias, O. Chum. Fine-tuning CNN Image Retrieval with No Human Annotation. TPAMI 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp.reranking import QueryExpansion
    >>> gallery = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    >>> distances, positions = QueryExpansion(k=1).fit(gallery).rerank(gallery[:1], n_neighbors=2, own=[0])
    >>> positions
    array([[1, 2]])
    """

    _parameter_constraints: dict = {
        "k": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    # The search is repeated: all results are in the new order.
    shortlist: float = float("inf")

    def __init__(self, k=10, *, alpha=2.0):
        self.k = k
        self.alpha = alpha

    def shortlist_distances(
        self, query: np.ndarray, positions: np.ndarray, distances: np.ndarray, own: int = -1
    ) -> np.ndarray:
        """Compute the cosine distances of the expanded query to a shortlist.

        Parameters
        ----------
        query : ndarray of shape (n_features,), float32
            The query.
        positions : ndarray of shape (n_candidates,), intp
            Positions in the gallery, nearest first, without the query itself; the first k are averaged.
        distances : ndarray of shape (n_candidates,), float32
            Distances of the plain search; not used.
        own : int, default=-1
            Not used: no neighbours of the gallery are needed.

        Returns
        -------
        ndarray of shape (n_candidates,), float64
            Distances in [0, 2].
        """
        expanded = expand_query(self.gallery_, query, positions[: self.k], self.alpha)
        return np.clip(1 - cosines(self.gallery_, positions, expanded), 0, 2)

    def _rank(self, Q, own, index, n_neighbors):
        nearest = search_others(index, Q, self.k, own)
        expanded = [
            expand_query(self.gallery_, query, positions, self.alpha)
            for query, (positions, _) in zip(Q, nearest, strict=True)
        ]
        lengths = inverse_lengths(Q)[:, None]
        scaled = np.divide(expanded, lengths, out=np.zeros(Q.shape), where=lengths > 0).astype(np.float32)
        for unit, (positions, plain) in zip(expanded, search_others(index, scaled, n_neighbors, own), strict=True):
            yield in_order(np.clip(1 - cosines(self.gallery_, positions, unit), 0, 2), plain, positions)


def relative_weights(similarities: np.ndarray, keep: np.ndarray, alpha: float) -> np.ndarray:
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


def expand_rows(gallery: GalleryNeighbors, rows: np.ndarray, k: int, alpha: float, own: int = -1) -> np.ndarray:
    """Average gallery rows with their k nearest others: unit(x + sum w x_j), all of unit length.

    Parameters
    ----------
    gallery : GalleryNeighbors
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


def expand_query(gallery: GalleryNeighbors, query: np.ndarray, neighbors: np.ndarray, alpha: float) -> np.ndarray:
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
