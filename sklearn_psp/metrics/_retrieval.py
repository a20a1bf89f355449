"""Scores of ranked results, as pure functions on relevance arrays."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import numpy.typing as npt

from sklearn_psp.metrics._relevance import Hits, find_hits
from sklearn_psp.utils._compat import Interval, StrOptions, validate_params
from sklearn_psp.utils._means import mean_over_queries, query_weights

__all__ = [
    "average_precision",
    "cmc_curve",
    "mean_average_precision",
    "mean_reciprocal_rank",
    "ndcg_at_k",
    "precision_at_k",
    "recall_at_k",
]

_RANK = Interval(Integral, 1, None, closed="left")
_INTERPOLATION = StrOptions({"none", "trapezoidal"})


@validate_params({"k": [_RANK, None], "interpolation": [_INTERPOLATION]}, prefer_skip_nested_validation=True)
def average_precision(
    relevance: npt.ArrayLike,
    *,
    k: int | None = None,
    n_relevant: npt.ArrayLike | None = None,
    junk: npt.ArrayLike | None = None,
    interpolation: str = "none",
) -> np.ndarray:
    r"""Average precision of each query.

    With :math:`P(r)` the share of relevant items among the first r, and the sum over the ranks r of the relevant items,

    .. math:: AP = \frac{1}{R} \sum_{r} P(r), \qquad AP@k = \frac{1}{\min(k, R)} \sum_{r \le k} P(r)

    where R is the number of relevant items in the gallery. Dividing by min(k, R), not by R, lets a ranking that
    starts with relevant items only reach 1 at every k.

    Parameters
    ----------
    relevance : array-like of shape (n_queries, n_ranked), bool or number >= 0
        Relevance of the ranked items, best first; whatever is above 0 is relevant.
    k : int >= 1, default=None
        The rank, junk not counted, after which the ranking is cut. None uses all of it.
    n_relevant : array-like of shape (n_queries,), int, default=None
        Number of relevant items of each query in the whole gallery, junk left out. None takes those in the ranking,
        which is right only if the ranking is complete.
    junk : array-like of shape (n_queries, n_ranked), bool, default=None
        Items that are neither right nor wrong, removed from the ranking before it is scored [2]_.
    interpolation : {"none", "trapezoidal"}, default="none"
        "none" is the sum above [1]_. "trapezoidal" is the area under the precision-recall curve by trapezoids, with
        precision 1 at recall 0, as the code of the Oxford benchmarks computes it [2]_ [3]_: P(r) becomes the mean of
        the precision at r and just before it.

    Returns
    -------
    average_precision : ndarray of shape (n_queries,), float64
        The scores in [0, 1]; NaN for a query without a relevant item.

    Raises
    ------
    ValueError
        If an array has the wrong shape, dtype or sign.

    References
    ----------
    .. [1] C. D. Manning, P. Raghavan and H. Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    .. [2] F. Radenović et al., "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018,
       section 2.
    .. [3] J. Philbin et al., "Object retrieval with large vocabularies and fast spatial matching", CVPR 2007, section
       3.2.

    Examples
    --------
    >>> from sklearn_psp.metrics import average_precision
    >>> average_precision([[1, 0, 1, 0], [0, 1, 0, 0]])
    array([0.83333333, 0.5       ])
    """
    hits = find_hits(relevance, junk=junk, n_relevant=n_relevant)
    precision = hits.nth / hits.rank
    if interpolation == "trapezoidal":
        # Before the first item nothing is wrong yet: precision 1 at recall 0.
        before = np.where(hits.rank > 1, (hits.nth - 1) / np.maximum(hits.rank - 1, 1), 1.0)
        precision = (before + precision) / 2
    possible = hits.n_relevant.astype(np.float64)
    if k is not None:
        precision[hits.rank > k] = 0
        possible = np.minimum(possible, k)
    possible[possible == 0] = np.nan
    return hits.sum_by_query(precision) / possible


@validate_params({"k": [_RANK, None], "interpolation": [_INTERPOLATION]}, prefer_skip_nested_validation=True)
def mean_average_precision(
    relevance: npt.ArrayLike,
    *,
    k: int | None = None,
    n_relevant: npt.ArrayLike | None = None,
    junk: npt.ArrayLike | None = None,
    interpolation: str = "none",
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Mean over the queries of the average precision.

    Queries without a relevant item are left out. See `average_precision` for the equation. A ranking that is not
    complete needs `n_relevant`: without it, a query that found nothing is taken for one that has nothing to find.

    Parameters
    ----------
    relevance : array-like of shape (n_queries, n_ranked), bool or number >= 0
        Relevance of the ranked items, best first; whatever is above 0 is relevant.
    k : int >= 1, default=None
        The rank, junk not counted, after which the ranking is cut; the sum is then divided by min(k, n_relevant).
        None uses all of it.
    n_relevant : array-like of shape (n_queries,), int, default=None
        Number of relevant items of each query in the whole gallery, junk left out. None takes those in the ranking,
        which is right only if the ranking is complete.
    junk : array-like of shape (n_queries, n_ranked), bool, default=None
        Items that are neither right nor wrong, removed from the ranking before it is scored [1]_.
    interpolation : {"none", "trapezoidal"}, default="none"
        How the area under the precision-recall curve is summed; "trapezoidal" gives the figures of the Oxford
        benchmarks.
    sample_weight : array-like of shape (n_queries,), default=None
        Weights of the queries.

    Returns
    -------
    score : float
        The score in [0, 1].

    Raises
    ------
    ValueError
        If no query has a relevant item, or an array has the wrong shape, dtype or sign.

    References
    ----------
    .. [1] F. Radenović et al., "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018,
       section 2.

    Examples
    --------
    >>> from sklearn_psp.metrics import mean_average_precision
    >>> mean_average_precision([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    0.75
    """
    values = average_precision(relevance, k=k, n_relevant=n_relevant, junk=junk, interpolation=interpolation)
    return mean_over_queries(values, ~np.isnan(values), sample_weight)


@validate_params({"k": [_RANK]}, prefer_skip_nested_validation=True)
def recall_at_k(
    relevance: npt.ArrayLike,
    k: int = 1,
    *,
    n_relevant: npt.ArrayLike | None = None,
    junk: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Share of the queries that have a relevant item among the first k.

    This is recall@k of image retrieval and metric learning [1]_ [2]_: a query has succeeded as soon as one relevant
    item is found. The set recall of text retrieval and of `sklearn.metrics.recall_score`, the share of all relevant
    items that are among the first k, is another number; they agree where each query has one relevant item.

    Parameters
    ----------
    relevance : array-like of shape (n_queries, n_ranked), bool or number >= 0
        Relevance of the ranked items, best first; whatever is above 0 is relevant.
    k : int >= 1, default=1
        Number of items that count, without junk. Of a shorter ranking all count.
    n_relevant : array-like of shape (n_queries,), int, default=None
        Number of relevant items of each query in the whole gallery, junk left out. Queries with 0 are left out. None
        counts every query, and one that found nothing has failed.
    junk : array-like of shape (n_queries, n_ranked), bool, default=None
        Items that are neither right nor wrong, removed from the ranking before it is scored [3]_.
    sample_weight : array-like of shape (n_queries,), default=None
        Weights of the queries.

    Returns
    -------
    score : float
        The share in [0, 1].

    Raises
    ------
    ValueError
        If `n_relevant` is 0 for every query, or an array has the wrong shape, dtype or sign.

    References
    ----------
    .. [1] H. Jégou, M. Douze and C. Schmid, "Product Quantization for Nearest Neighbor Search", IEEE TPAMI 33(1), 2011,
       section 5.
    .. [2] H. O. Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016, section 6.
    .. [3] F. Radenović et al., "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018,
       section 2.

    Examples
    --------
    >>> from sklearn_psp.metrics import recall_at_k
    >>> ranked = [[1, 0, 0], [0, 1, 1]]
    >>> recall_at_k(ranked, k=1), recall_at_k(ranked, k=2)
    (0.5, 1.0)
    """
    hits = find_hits(relevance, junk=junk, n_relevant=n_relevant)
    found = (hits.first_rank() <= k).astype(np.float64)
    return mean_over_queries(found, _counted(hits, n_relevant), sample_weight)


@validate_params({"k": [_RANK]}, prefer_skip_nested_validation=True)
def precision_at_k(
    relevance: npt.ArrayLike,
    k: int = 1,
    *,
    n_relevant: npt.ArrayLike | None = None,
    junk: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Share of relevant items among the first k, averaged over the queries.

    The number found is always divided by k [1]_, so a query with fewer than k relevant items cannot reach 1. (The
    code of the revisited Oxford benchmark divides by the rank of the last relevant item where that is less than k.)

    Parameters
    ----------
    relevance : array-like of shape (n_queries, n_ranked), bool or number >= 0
        Relevance of the ranked items, best first; whatever is above 0 is relevant.
    k : int >= 1, default=1
        Number of items that count, without junk. The places that a shorter ranking leaves empty count as wrong.
    n_relevant : array-like of shape (n_queries,), int, default=None
        Number of relevant items of each query in the whole gallery, junk left out. Queries with 0 are left out. None
        counts every query, and one that found nothing scores 0.
    junk : array-like of shape (n_queries, n_ranked), bool, default=None
        Items that are neither right nor wrong, removed from the ranking before it is scored [2]_.
    sample_weight : array-like of shape (n_queries,), default=None
        Weights of the queries.

    Returns
    -------
    score : float
        The score in [0, 1].

    Raises
    ------
    ValueError
        If `n_relevant` is 0 for every query, or an array has the wrong shape, dtype or sign.

    References
    ----------
    .. [1] C. D. Manning, P. Raghavan and H. Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    .. [2] F. Radenović et al., "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018,
       section 2.

    Examples
    --------
    >>> from sklearn_psp.metrics import precision_at_k
    >>> precision_at_k([[1, 0, 1, 1], [0, 1, 0, 0]], k=2)
    0.5
    """
    hits = find_hits(relevance, junk=junk, n_relevant=n_relevant)
    values = hits.sum_by_query(hits.rank <= k) / k
    return mean_over_queries(values, _counted(hits, n_relevant), sample_weight)


@validate_params({"k": [_RANK, None]}, prefer_skip_nested_validation=True)
def ndcg_at_k(
    relevance: npt.ArrayLike,
    k: int | None = None,
    *,
    n_relevant: npt.ArrayLike | None = None,
    junk: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    r"""Normalized discounted cumulative gain, averaged over the queries.

    .. math:: nDCG@k = \frac{1}{Z} \sum_{r=1}^{k} \frac{g_r}{\log_2(1 + r)}

    where :math:`g_r` is the gain of the item at rank r, taken as it is (linear), and Z is the sum for the best
    possible order. The discount is the one of `sklearn.metrics.ndcg_score`; the paper [1]_ leaves ranks 1 and 2
    without discount and divides by :math:`\log_2 r` after them.

    Parameters
    ----------
    relevance : array-like of shape (n_queries, n_ranked), bool or number >= 0
        Gains of the ranked items, best first.
    k : int >= 1, default=None
        The rank, junk not counted, after which the ranking is cut. None uses all of it.
    n_relevant : array-like of shape (n_queries,), int, default=None
        Number of relevant items of each query in the whole gallery, junk left out. Queries with 0 are left out. None
        takes those in the ranking for the best possible order, counts every query, and one that found nothing scores
        0.
    junk : array-like of shape (n_queries, n_ranked), bool, default=None
        Items that are neither right nor wrong, removed from the ranking before it is scored.
    sample_weight : array-like of shape (n_queries,), default=None
        Weights of the queries.

    Returns
    -------
    score : float
        The score in [0, 1].

    Raises
    ------
    ValueError
        If `n_relevant` is 0 for every query; if it counts items outside the ranking whose gains cannot be known
        because the gains in the ranking are not all 1; if an array has the wrong shape, dtype or sign.

    References
    ----------
    .. [1] K. Järvelin and J. Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", ACM TOIS 20(4), 2002,
       sections 2.2 and 2.3.

    Examples
    --------
    >>> from sklearn_psp.metrics import ndcg_at_k
    >>> round(ndcg_at_k([[0, 1, 2]]), 4)
    0.6199
    """
    hits = find_hits(relevance, junk=junk, n_relevant=n_relevant)
    outside = hits.n_relevant > hits.n_found
    if outside.any() and (hits.gain != 1).any():
        row = int(np.argmax(outside))
        raise ValueError(
            "n_relevant may count items outside the ranking only if all gains are 1, else their gains are unknown; "
            f"n_relevant[{row}] is {hits.n_relevant[row]} and the ranking of that query holds {hits.n_found[row]}; "
            "give the full ranking"
        )
    reached = hits.sum_by_query(_discounted(hits.gain, hits.rank, k))
    # In the best order the hits of a query stand at ranks 1, 2, ... with falling gains; nth is those ranks.
    best_first = hits.gain[np.lexsort((-hits.gain, hits.query))]
    possible = hits.sum_by_query(_discounted(best_first, hits.nth, k))
    if outside.any():
        possible = _ideal_of_ones(hits.n_relevant, k)
    values = np.divide(reached, possible, out=np.zeros_like(reached), where=possible > 0)
    return mean_over_queries(values, _counted(hits, n_relevant), sample_weight)


@validate_params({"k": [_RANK, None]}, prefer_skip_nested_validation=True)
def mean_reciprocal_rank(
    relevance: npt.ArrayLike,
    *,
    k: int | None = None,
    n_relevant: npt.ArrayLike | None = None,
    junk: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Mean over the queries of 1 / rank of the first relevant item.

    Parameters
    ----------
    relevance : array-like of shape (n_queries, n_ranked), bool or number >= 0
        Relevance of the ranked items, best first; whatever is above 0 is relevant.
    k : int >= 1, default=None
        The rank, junk not counted, after which the ranking is cut. None uses all of it.
    n_relevant : array-like of shape (n_queries,), int, default=None
        Number of relevant items of each query in the whole gallery, junk left out. Queries with 0 are left out. None
        counts every query, and one that found nothing scores 0.
    junk : array-like of shape (n_queries, n_ranked), bool, default=None
        Items that are neither right nor wrong, removed from the ranking before it is scored.
    sample_weight : array-like of shape (n_queries,), default=None
        Weights of the queries.

    Returns
    -------
    score : float
        The score in [0, 1].

    Raises
    ------
    ValueError
        If `n_relevant` is 0 for every query, or an array has the wrong shape, dtype or sign.

    References
    ----------
    .. [1] E. M. Voorhees, "The TREC-8 Question Answering Track Report", TREC 1999, section 3.

    Examples
    --------
    >>> from sklearn_psp.metrics import mean_reciprocal_rank
    >>> mean_reciprocal_rank([[1, 0, 0], [0, 1, 1]])
    0.75
    """
    hits = find_hits(relevance, junk=junk, n_relevant=n_relevant)
    values = 1 / hits.first_rank()
    if k is not None:
        values[hits.first_rank() > k] = 0
    return mean_over_queries(values, _counted(hits, n_relevant), sample_weight)


@validate_params({"max_rank": [_RANK, None]}, prefer_skip_nested_validation=True)
def cmc_curve(
    relevance: npt.ArrayLike,
    *,
    max_rank: int | None = None,
    n_relevant: npt.ArrayLike | None = None,
    junk: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> np.ndarray:
    """Cumulative match characteristic: the share of the queries matched within each rank.

    Entry r - 1 is `recall_at_k` at k = r: the queries whose first relevant item stands at rank r or before [1]_. All
    items of the gallery take part, as in the protocol of Market-1501 [2]_; items of the query's own camera go into
    `junk` there.

    Parameters
    ----------
    relevance : array-like of shape (n_queries, n_ranked), bool or number >= 0
        Relevance of the ranked items, best first; whatever is above 0 is relevant.
    max_rank : int >= 1, default=None
        Length of the curve. None takes n_ranked.
    n_relevant : array-like of shape (n_queries,), int, default=None
        Number of relevant items of each query in the whole gallery, junk left out. Queries with 0 are left out. None
        counts every query, and one that found nothing is never matched.
    junk : array-like of shape (n_queries, n_ranked), bool, default=None
        Items that are neither right nor wrong, removed from the ranking before it is scored.
    sample_weight : array-like of shape (n_queries,), default=None
        Weights of the queries.

    Returns
    -------
    curve : ndarray of shape (max_rank,), float64
        The shares in [0, 1], never falling.

    Raises
    ------
    ValueError
        If `n_relevant` is 0 for every query, or an array has the wrong shape, dtype or sign.

    References
    ----------
    .. [1] H. Moon and P. J. Phillips, "Computational and performance aspects of PCA-based face-recognition algorithms",
       Perception 30(3), 2001.
    .. [2] L. Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015, section 3.2.

    Examples
    --------
    >>> from sklearn_psp.metrics import cmc_curve
    >>> cmc_curve([[1, 0, 0], [0, 0, 1]])
    array([0.5, 0.5, 1. ])
    """
    relevance = np.asarray(relevance)
    hits = find_hits(relevance, junk=junk, n_relevant=n_relevant)
    length = relevance.shape[1] if max_rank is None else max_rank
    weights = query_weights(_counted(hits, n_relevant), sample_weight)
    first = hits.first_rank()
    inside = first <= length
    # Counted by first rank and summed up: a matrix of queries by ranks would be as large as the ranking.
    matched = np.bincount(first[inside].astype(np.intp) - 1, weights=weights[inside], minlength=length)
    # Rounding of the sums must not lift a share above 1.
    return np.minimum(np.cumsum(matched) / weights.sum(), 1.0)


def _counted(hits: Hits, n_relevant: npt.ArrayLike | None) -> np.ndarray:
    """Select the queries that the mean is over: all, or those that the caller says have something to find.

    A ranking cut at k cannot tell a query that missed from one with nothing to find; leaving both out would make
    recall@1 of rankings of length 1 always 1.
    """
    if n_relevant is None:
        return np.ones(len(hits.n_found), dtype=bool)
    return hits.n_relevant > 0


def _discounted(gain: np.ndarray, rank: np.ndarray, k: int | None) -> np.ndarray:
    values = gain / np.log2(1.0 + rank)
    if k is not None:
        values[rank > k] = 0
    return values


def _ideal_of_ones(n_relevant: np.ndarray, k: int | None) -> np.ndarray:
    """DCG of n relevant items of gain 1 at the first n ranks."""
    length = n_relevant if k is None else np.minimum(n_relevant, k)
    discount = 1 / np.log2(1.0 + np.arange(1, length.max(initial=0) + 1))
    return np.concatenate([[0.0], np.cumsum(discount)])[length]
