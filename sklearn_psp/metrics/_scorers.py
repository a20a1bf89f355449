"""Scores of rankings as `scorer(estimator, X, y)`, for `GridSearchCV`, `cross_val_score` and the like."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import get_config
from sklearn.utils.metadata_routing import MetadataRequest

from sklearn_psp.metrics._relevance import relevance_from_labels
from sklearn_psp.metrics._retrieval import mean_average_precision, mean_reciprocal_rank, recall_at_k
from sklearn_psp.utils._flags import check_sample_weight
from sklearn_psp.utils._labels import as_label_array
from sklearn_psp.utils._means import NO_WEIGHT, NOTHING_RELEVANT
from sklearn_psp.utils._pipeline import split_search

__all__ = [
    "make_retrieval_scorer",
    "mean_average_precision_scorer",
    "mean_reciprocal_rank_scorer",
    "recall_at_1_scorer",
    "recall_at_5_scorer",
    "recall_at_10_scorer",
]

_PER_QUERY = ("junk", "n_relevant", "sample_weight")


def make_retrieval_scorer(metric: Callable[..., float], **kwargs: Any) -> Callable[..., float]:
    """Make a scorer of searches from a score of rankings.

    The scorer ranks the whole gallery for every query, exactly, and gives the metric True where the label of an item
    is the label of the query. It does so block by block, so that queries x gallery is never in memory at once.
    Queries without a relevant item in the gallery are left out; if none is left the scorer raises, because scoring 0
    would hide that the folds are wrong.

    Parameters
    ----------
    metric : callable
        `metric(relevance, **kwargs) -> float`, a mean over the queries such as `mean_average_precision` or
        `recall_at_k`; more is better. With sample weights it is called with `sample_weight=` too.
    **kwargs : dict
        Further arguments of the metric, such as `k=5`.

    Returns
    -------
    scorer : callable
        `scorer(estimator, X, y, sample_weight=None) -> float`. The estimator is a fitted `NearestImageRetriever`, a
        `Pipeline` that ends in one, or a fitted search over either. It can be pickled if the metric can.

    Raises
    ------
    TypeError
        If the metric is not callable or does not take the arguments.
    ValueError
        If an argument is one that differs from query to query.

    Examples
    --------
    >>> from sklearn_psp.metrics import make_retrieval_scorer, recall_at_k
    >>> make_retrieval_scorer(recall_at_k, k=5)
    make_retrieval_scorer(recall_at_k, k=5)
    """
    return _RetrievalScorer(metric, kwargs)


class _RetrievalScorer:
    """The scorer of `make_retrieval_scorer`; a class, because closures cannot be pickled."""

    def __init__(self, metric: Callable[..., float], kwargs: dict[str, Any]):
        if not callable(metric):
            raise TypeError(f"metric must be callable, such as sklearn_psp.metrics.recall_at_k; got {metric!r}")
        for name in _PER_QUERY:
            if name in kwargs:
                raise ValueError(f"{name} differs from query to query and cannot be fixed for a scorer; leave it out")
        try:
            # A mistyped argument should fail here, not in the last fold of a long search.
            inspect.signature(metric).bind(None, **kwargs)
        except TypeError as error:
            raise TypeError(f"{_name(metric)} does not take these arguments: {error}") from None
        self._metric = metric
        self._kwargs = kwargs
        self._sample_weight_request: bool | str | None = None

    def __call__(
        self, estimator: Any, X: Any, y: npt.ArrayLike | None = None, sample_weight: npt.ArrayLike | None = None
    ) -> float:
        if y is None:
            raise ValueError(f"{self!r} needs y, the labels of the queries: call fit(X, y) or scorer(estimator, X, y)")
        retriever, X = split_search(estimator, X)
        if not hasattr(retriever, "ranked_labels"):
            raise TypeError(
                "estimator must be a NearestImageRetriever or a Pipeline that ends in one; "
                f"got {_describe(estimator, retriever)}, which cannot rank a gallery (it has no ranked_labels)"
            )
        labels = as_label_array(y)
        weights = check_sample_weight(sample_weight, len(labels))
        return self._mean_over_blocks(retriever.ranked_labels(X), labels, weights)

    def _mean_over_blocks(
        self, blocks: Iterable[tuple[slice, np.ndarray]], y: np.ndarray, weights: np.ndarray | None
    ) -> float:
        total, total_weight, n_ranked, n_relevant = 0.0, 0.0, 0, 0
        for rows, y_ranked in blocks:
            n_ranked += len(y_ranked)
            if len(y[rows]) != len(y_ranked):
                raise ValueError(_wrong_length(len(y), f"at least {n_ranked}"))
            relevance = relevance_from_labels(y[rows], y_ranked)
            counted = relevance.any(axis=1)
            n_relevant += int(np.count_nonzero(counted))
            block_weights = np.ones(len(relevance)) if weights is None else weights[rows]
            weight = block_weights[counted].sum()
            # A block may hold no such query and still not be the last word.
            if weight > 0:
                given = {} if weights is None else {"sample_weight": block_weights[counted]}
                total += weight * self._score_block(relevance[counted], given)
                total_weight += weight
        if n_ranked != len(y):
            raise ValueError(_wrong_length(len(y), n_ranked))
        if n_relevant == 0:
            raise ValueError(NOTHING_RELEVANT)
        if total_weight == 0:
            raise ValueError(NO_WEIGHT)
        return float(total / total_weight)

    def _score_block(self, relevance: np.ndarray, given: dict[str, np.ndarray]) -> float:
        score = self._metric(relevance, **self._kwargs, **given)
        if np.ndim(score) != 0:
            raise TypeError(
                f"metric must return one number, the mean over the queries; {_name(self._metric)} returned an array of "
                f"the shape {np.shape(score)}. For average_precision take mean_average_precision"
            )
        return float(score)

    def set_score_request(self, *, sample_weight: bool | str | None = None) -> _RetrievalScorer:
        """Ask for sample weights where metadata routing is enabled.

        Unlike scikit-learn's scorers this returns a changed copy: the scorers of this module are shared by all.

        Parameters
        ----------
        sample_weight : bool, str or None, default=None
            As in scikit-learn: True asks for it, False ignores it, None raises if it is given, a string is its name
            in the caller.

        Returns
        -------
        scorer : callable
            The scorer with the request.
        """
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing: call sklearn.set_config(enable_metadata_routing=True) first"
            )
        scorer = copy.copy(self)
        scorer._sample_weight_request = sample_weight
        return scorer

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the request for sample weights, in the form scikit-learn's meta-estimators read.

        Returns
        -------
        MetadataRequest
            The request.
        """
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_weight", alias=self._sample_weight_request)
        return request

    def __repr__(self) -> str:
        arguments = [_name(self._metric), *(f"{name}={value!r}" for name, value in self._kwargs.items())]
        return f"make_retrieval_scorer({', '.join(arguments)})"


def _wrong_length(n_labels: int, n_queries: int | str) -> str:
    return f"y must hold one label for each query; got {n_labels} labels for {n_queries} queries"


def _name(metric: Any) -> str:
    return getattr(metric, "__name__", repr(metric))


def _describe(estimator: Any, last_step: Any) -> str:
    """Name the type of an estimator, and that of its last step."""
    if last_step is estimator:
        return type(estimator).__name__
    last = repr(last_step) if last_step is None or isinstance(last_step, str) else type(last_step).__name__
    return f"a {type(estimator).__name__} that ends in {last}"


mean_average_precision_scorer = make_retrieval_scorer(mean_average_precision)
mean_reciprocal_rank_scorer = make_retrieval_scorer(mean_reciprocal_rank)
recall_at_1_scorer = make_retrieval_scorer(recall_at_k, k=1)
recall_at_5_scorer = make_retrieval_scorer(recall_at_k, k=5)
recall_at_10_scorer = make_retrieval_scorer(recall_at_k, k=10)
