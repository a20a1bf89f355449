"""Database augmentation: compare averages of neighbours instead of single images."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from sklearn_psp.reranking._base import Reranker
from sklearn_psp.reranking._neighbors import inverse_lengths
from sklearn_psp.reranking._query_expansion import expand_query, expand_rows
from sklearn_psp.utils._arrays import row_blocks
from sklearn_psp.utils._compat import Interval

__all__ = ["DatabaseAugmentation"]


class DatabaseAugmentation(Reranker):
    r"""Compare averages: each gallery vector, and the query, with its nearest neighbours.

    .. math:: x_i' = \frac{x_i + \sum_{j \le k} w_{ij} x_j}{\lVert x_i + \sum_{j \le k} w_{ij} x_j \rVert},
              \qquad w_{ij} = \left(\frac{\max(s_{ij}, 0)}{s_{i1}}\right)^\alpha

    with all vectors of unit length, :math:`s_{ij}` the cosine of i and its j-th nearest neighbour and :math:`s_{i1}`
    the largest [1]_ [2]_. The weights of [3]_, without the division, suit descriptors whose cosines are all high;
    relative ones still average where they are low, as in descriptors that were centred.

    Parameters
    ----------
    k : int, default=10
        Number of neighbours in an average.
    alpha : float, default=2.0
        How fast the weight of a neighbour falls with its cosine; 0 is the plain average. Measured on the
        sets of `benchmarks/reranking.py`.
    expand_query : bool, default=True
        Whether to average the query too.
    shortlist : int, default=1000
        How many results of the plain search are put in a new order; at least `n_neighbors` are.

    Attributes
    ----------
    gallery_ : object
        The gallery.
    n_features_in_ : int
        Number of features of the gallery.

    See Also
    --------
    QueryExpansion : Averages the query only.

    Notes
    -----
    Distances are cosine distances of q' and x', in [0, 2]. Averages are computed when they are first needed, and kept:
    up to once more the memory of the gallery.

    References
    ----------
    .. [1] P. Turcot, D. G. Lowe. Better Matching with Fewer Features: The Selection of Useful Features in Large
       Database Recognition Problems. ICCV Workshops 2009.
    .. [2] R. Arandjelovic, A. Zisserman. Three Things Everyone Should Know to Improve Object Retrieval. CVPR 2012.
    .. [3] F. Radenovic, G. Tolias, O. Chum. Fine-tuning CNN Image Retrieval with No Human Annotation. TPAMI 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp.reranking import DatabaseAugmentation
    >>> gallery = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    >>> distances, positions = DatabaseAugmentation(k=1).fit(gallery).rerank(gallery[:1], n_neighbors=2, own=[0])
    >>> positions
    array([[1, 2]])
    """

    _parameter_constraints: dict = {
        "k": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "expand_query": ["boolean"],
        "shortlist": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, k=10, *, alpha=2.0, expand_query=True, shortlist=1000):
        self.k = k
        self.alpha = alpha
        self.expand_query = expand_query
        self.shortlist = shortlist

    def shortlist_distances(
        self, query: np.ndarray, positions: np.ndarray, distances: np.ndarray, own: int = -1
    ) -> np.ndarray:
        """Compute the cosine distances of the averages of one query and its shortlist.

        Parameters
        ----------
        query : ndarray of shape (n_features,), float32
            The query.
        positions : ndarray of shape (n_candidates,), intp
            Positions in the gallery, nearest first, without the query itself.
        distances : ndarray of shape (n_candidates,), float32
            Distances of the plain search; not used.
        own : int, default=-1
            Position of the query in the gallery, -1 for none.

        Returns
        -------
        ndarray of shape (n_candidates,), float64
            Distances in [0, 2].
        """
        if self.expand_query:
            unit = expand_query(self.gallery_, query, positions[: self.k], self.alpha)
        else:
            unit = query * inverse_lengths(query[None])
        values = np.empty(len(positions))
        averages = self._averages()
        for part in row_blocks(len(positions), len(unit)):
            values[part] = (averages.get(positions[part])[0] * unit).sum(axis=1)
        if own >= 0:
            neighbors, _ = self.gallery_.neighbors(positions, self.k)
            stale = (neighbors[:, : self.k] == own).any(axis=1)
            rows = expand_rows(self.gallery_, positions[stale], self.k, self.alpha, own)
            values[stale] = (rows * unit).sum(axis=1)
        return np.clip(1 - values, 0, 2)

    def _prepare(self, candidates):
        self.gallery_.similarities(candidates, self.k)
        averages = self._averages()
        for part in row_blocks(len(candidates), self.gallery_.X.shape[1]):
            averages.fill(candidates[part])

    def _averages(self):
        gallery, k, alpha = self.gallery_, self.k, self.alpha
        return gallery.table("averages", (k, alpha), lambda missing: (expand_rows(gallery, missing, k, alpha),))
