"""k-reciprocal re-ranking: two images are alike if they have the same mutual neighbours."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.sparse import csr_array

from sklearn_psp.reranking._base import Reranker
from sklearn_psp.reranking._neighbors import (
    GalleryNeighbors,
    cosines,
    inverse_lengths,
    locate,
    pair_cosines,
    scale_rows,
)
from sklearn_psp.utils._arrays import first_others
from sklearn_psp.utils._compat import Interval

__all__ = ["KReciprocal"]


class KReciprocal(Reranker):
    r"""Compare sets of mutual neighbours by their Jaccard distance.

    With N(p, k) the image p and its k nearest in the gallery and the query together, and d the cosine distance [1]_,

    .. math::
        R(p, k) &= \{ g \in N(p, k) : p \in N(g, k) \} \\
        R^*(p, k) &= R(p, k) \cup \bigcup \{ R(g, \tfrac{k}{2}) : g \in R(p, k),\
            |R(p, k) \cap R(g, \tfrac{k}{2})| \ge \tfrac{2}{3} |R(g, \tfrac{k}{2})| \} \\
        V_{pg} &\propto e^{-d(p, g)} \text{ if } g \in R^*(p, k), \text{ else } 0, \qquad \sum_g V_{pg} = 1 \\
        V'_p &= \text{mean of } V_g \text{ over } g \in N(p, \text{k\_expansion} - 1) \\
        d_J(q, g) &= 1 - \frac{\sum_i \min(V'_{qi}, V'_{gi})}{\sum_i \max(V'_{qi}, V'_{gi})} \\
        d^*(q, g) &= (1 - \lambda) d_J(q, g) + \lambda d(q, g)

    Parameters
    ----------
    k : int, default=20
        Number of neighbours among which mutual ones are sought. Half of it is rounded to the nearest even number, as
        `round` does.
    k_expansion : int, default=6
        Over how many encodings the mean is taken, that of the image itself included; 1 is none.
    lambda_value : float in [0, 1], default=0.3
        Share of the plain distance.
    shortlist : int, default=500
        How many results of the plain search are put in a new order; at least `n_neighbors` are. 1,000 gained .001 of
        mean average precision for a quarter more time, on the sets of `benchmarks/reranking.py`.

    Attributes
    ----------
    gallery_ : object
        The gallery.
    n_features_in_ : int
        Number of features of the gallery.

    See Also
    --------
    Diffusion : Follows chains of neighbours.

    Notes
    -----
    Distances are in [0, 1 + lambda_value]. An image belongs to its own neighbours and encodings have a sum of 1, as in
    the code of the authors. The query counts as a neighbour of the vectors on its shortlist only. Encodings are sparse
    and made for what the shortlist needs. The defaults of k, k_expansion and lambda_value are those of [1]_.

    References
    ----------
    .. [1] Z. Zhong, L. Zheng, D. Cao, S. Li. Re-ranking Person Re-identification with k-reciprocal Encoding. CVPR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp.reranking import KReciprocal
    >>> angles = np.radians([0, 10, 20, 30, -22, -23, -24])
    >>> gallery = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    >>> reranker = KReciprocal(k=2, k_expansion=2).fit(gallery)

    30 degrees come before -22, as 10 and 20 lead there:

    >>> distances, positions = reranker.rerank(gallery[:1], n_neighbors=4, own=[0])
    >>> positions
    array([[1, 2, 3, 4]])
    """

    _parameter_constraints: dict = {
        "k": [Interval(Integral, 1, None, closed="left")],
        "k_expansion": [Interval(Integral, 1, None, closed="left")],
        "lambda_value": [Interval(Real, 0, 1, closed="both")],
        "shortlist": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, k=20, *, k_expansion=6, lambda_value=0.3, shortlist=500):
        self.k = k
        self.k_expansion = k_expansion
        self.lambda_value = lambda_value
        self.shortlist = shortlist

    def shortlist_distances(
        self, query: np.ndarray, positions: np.ndarray, distances: np.ndarray, own: int = -1
    ) -> np.ndarray:
        """Compute Jaccard distances of mutual neighbours, mixed with cosine distances.

        Parameters
        ----------
        query : ndarray of shape (n_features,), float32
            The query.
        positions : ndarray of shape (n_candidates,), intp
            Positions in the gallery, nearest first, without the query itself.
        distances : ndarray of shape (n_candidates,), float32
            Distances of the plain search, as the index gives them: they decide whose neighbour the query is.
        own : int, default=-1
            Position of the query in the gallery, -1 for none.

        Returns
        -------
        ndarray of shape (n_candidates,), float64
            Distances in [0, 1 + lambda_value].
        """
        half, reach = self._half(), self.k_expansion - 1
        gallery, depth = self.gallery_, self._depth()
        encoded = step(gallery, positions, depth, reach, own)
        known = step(gallery, step(gallery, encoded, depth, self.k, own), depth, half, own)
        lists = RankedLists(gallery, known, depth, positions, distances, own)

        need = np.append(locate(known, encoded), len(known))
        sets = expanded_sets(mutual(lists.members(self.k))[need], mutual(lists.members(half)))
        rows = np.append(locate(known, positions), len(known))
        means = lists.members(reach)[rows][:, need]
        means = scale_rows(means, 1 / np.diff(means.indptr))

        # Only encodings that share something with the query's can bring the Jaccard distance below 1.
        support = (means[[-1]] @ sets).toarray().ravel() > 0
        alike = np.flatnonzero(sets @ support.astype(np.float64))
        unit = query * inverse_lengths(query[None])
        V = encodings(gallery, np.append(known, -1), unit, sets[alike], need[alike])
        overlap = overlap_with_last((means[:, alike] @ V).tocsr())
        jaccard = 1 - overlap / (2 - overlap)
        plain = np.clip(1 - cosines(gallery, positions, unit), 0, 2)
        return (1 - self.lambda_value) * jaccard + self.lambda_value * plain

    def _half(self):
        return max(1, round(self.k / 2))

    def _depth(self):
        return max(self.k, self.k_expansion - 1)

    def _prepare(self, candidates):
        rows = candidates
        for k in (self.k_expansion, self.k + 1, self._half() + 1):
            rows = step(self.gallery_, rows, self._depth(), k)
        self.gallery_.neighbors(rows, self._depth())


class RankedLists:
    """Neighbours of gallery rows and a query among each other; the query has the last place.

    Parameters
    ----------
    gallery : GalleryNeighbors
        The gallery.
    ids : ndarray of shape (n,), int
        Positions of the rows, ascending.
    depth : int
        Length of the lists.
    candidates : ndarray of shape (n_candidates,), int
        Neighbours of the query, nearest first, all of them in `ids`.
    distances : ndarray of shape (n_candidates,), float32
        Their distances: the query enters the list of a candidate after what is as near.
    own : int
        Position that is nobody's neighbour, -1 for none.
    """

    def __init__(self, gallery, ids, depth, candidates, distances, own):
        self._n = n = len(ids)
        neighbors, reached = gallery.neighbors(ids, depth)
        keep = first_others(neighbors, own, depth)
        to_query = np.full(n, np.inf, dtype=np.float32)
        to_query[locate(ids, candidates)] = distances
        entry = (keep & (reached <= to_query[:, None])).sum(axis=1)
        entry[np.isinf(to_query)] = depth
        ranks = np.cumsum(keep, axis=1) - 1
        ranks += ranks >= entry[:, None]
        columns = locate(ids, neighbors)
        at, j = np.nonzero(keep & (columns >= 0))
        first = candidates[:depth]
        self._rows = np.concatenate([at, np.arange(n), np.full(len(first), n)])
        self._columns = np.concatenate([columns[at, j], np.full(n, n), locate(ids, first)])
        self._ranks = np.concatenate([ranks[at, j], entry, np.arange(len(first))])

    def members(self, k: int) -> csr_array:
        """Return the matrix of N(p, k), p itself included: a sparse array of shape (n + 1, n + 1) of ones."""
        among = self._ranks < k
        itself = np.arange(self._n + 1)
        rows = np.concatenate([self._rows[among], itself])
        columns = np.concatenate([self._columns[among], itself])
        return csr_array((np.ones(len(rows)), (rows, columns)), shape=(self._n + 1, self._n + 1))


def step(gallery: GalleryNeighbors, rows: np.ndarray, depth: int, k: int, own: int = -1) -> np.ndarray:
    """Add the k nearest others of gallery rows to them; positions, ascending. `own` is nobody's neighbour."""
    neighbors, _ = gallery.neighbors(rows, depth)
    return np.union1d(rows, neighbors[first_others(neighbors, own, k)])


def mutual(members: csr_array) -> csr_array:
    r"""Keep the pairs that are among each other's neighbours: R(p, k)."""
    return members.multiply(members.T).tocsr()


def expanded_sets(R: csr_array, R_half: csr_array) -> csr_array:
    r"""Add the mutual neighbours of mutual neighbours that are mostly known already: R*(p, k).

    Parameters
    ----------
    R : sparse array of shape (m, n)
        Mutual neighbours, one row for each image that is encoded; entries are 1.
    R_half : sparse array of shape (n, n)
        The same with half of k, for all images.

    Returns
    -------
    sparse array of shape (m, n)
        The sets; entries are 1.
    """
    common = R.multiply(R @ R_half.T).tocsr()
    sizes = np.diff(R_half.indptr)
    # In whole numbers: 2/3 is no float.
    common.data = (3 * common.data >= 2 * sizes[common.indices]).astype(np.float64)
    sets = (R + common @ R_half).tocsr()
    sets.eliminate_zeros()
    sets.data[:] = 1
    return sets


def encodings(
    gallery: GalleryNeighbors, nodes: np.ndarray, unit_query: np.ndarray, sets: csr_array, rows: np.ndarray
) -> csr_array:
    r"""Gaussian encodings: :math:`e^{-d}` for the members of a set, with a sum of 1.

    Parameters
    ----------
    gallery : GalleryNeighbors
        The gallery.
    nodes : ndarray of shape (n,), int
        Position of each node in the gallery; the last is the query.
    unit_query : ndarray of shape (n_features,), float64
        The query, of unit length.
    sets : sparse array of shape (m, n)
        Members of each set.
    rows : ndarray of shape (m,), int
        Whose set it is.

    Returns
    -------
    sparse array of shape (m, n), float64
        The encodings.
    """
    n = len(nodes)
    a, b = np.repeat(rows, np.diff(sets.indptr)), sets.indices
    pairs, back = np.unique(np.minimum(a, b).astype(np.int64) * n + np.maximum(a, b), return_inverse=True)
    low, high = pairs // n, pairs % n
    values = np.empty(len(pairs))
    with_query = high == n - 1
    known = low[with_query] < n - 1
    values[with_query] = 1.0
    values[np.flatnonzero(with_query)[known]] = cosines(gallery, nodes[low[with_query][known]], unit_query)
    values[~with_query] = pair_cosines(gallery, nodes[low[~with_query]], nodes[high[~with_query]])
    weights = np.exp(np.clip(values, -1, 1) - 1)[back]
    V = csr_array((weights, sets.indices, sets.indptr), shape=sets.shape)
    return scale_rows(V, 1 / np.asarray(V.sum(axis=1)).ravel())


def overlap_with_last(V: csr_array) -> np.ndarray:
    """Sum up the smaller of each entry of a row and that of the last row; without the last row itself."""
    last = V[[-1]].toarray().ravel()
    smaller = csr_array((np.minimum(V.data, last[V.indices]), V.indices, V.indptr), shape=V.shape)
    return np.asarray(smaller.sum(axis=1)).ravel()[:-1]
