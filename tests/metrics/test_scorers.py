"""Scorers on a stub of the retriever, alone and inside scikit-learn's machinery."""

import pickle
import weakref

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_psp.metrics import (
    average_precision,
    make_retrieval_scorer,
    mean_average_precision,
    mean_average_precision_scorer,
    mean_reciprocal_rank,
    mean_reciprocal_rank_scorer,
    precision_at_k,
    recall_at_1_scorer,
    recall_at_5_scorer,
    recall_at_10_scorer,
    recall_at_k,
    relevance_from_labels,
)
from sklearn_psp.utils._pipeline import split_search

from .stub_retriever import StubRetriever

SHUFFLED = StratifiedKFold(3, shuffle=True, random_state=0)


@pytest.fixture
def blobs():
    return make_blobs(60, n_features=3, centers=4, cluster_std=6.0, random_state=0)


def double(X):
    return 2 * X


def full_relevance(retriever, X, y):
    return relevance_from_labels(y, np.concatenate([block for _, block in retriever.ranked_labels(X)]))


@pytest.mark.parametrize(
    ("scorer", "metric"),
    [
        (mean_average_precision_scorer, mean_average_precision),
        (mean_reciprocal_rank_scorer, mean_reciprocal_rank),
        (recall_at_1_scorer, recall_at_k),
        (recall_at_5_scorer, lambda relevance, **kw: recall_at_k(relevance, 5, **kw)),
        (recall_at_10_scorer, lambda relevance, **kw: recall_at_k(relevance, 10, **kw)),
        (make_retrieval_scorer(precision_at_k, k=3), lambda relevance, **kw: precision_at_k(relevance, 3, **kw)),
    ],
)
@pytest.mark.parametrize("block_size", [1, 7, 1000])
def test_blocks_add_up_to_the_metric_of_all_queries(blobs, scorer, metric, block_size):
    X, y = blobs
    retriever = StubRetriever(block_size=block_size).fit(X[:30], y[:30])
    weights = np.random.default_rng(0).random(30)
    weights[:5] = 0
    relevance = full_relevance(retriever, X[30:], y[30:])
    assert scorer(retriever, X[30:], y[30:]) == pytest.approx(metric(relevance), rel=1e-12)
    expected = metric(relevance, sample_weight=weights)
    assert scorer(retriever, X[30:], y[30:], sample_weight=weights) == pytest.approx(expected, rel=1e-12)


def test_blocks_are_let_go_so_that_queries_by_gallery_is_never_in_memory():
    alive, most = weakref.WeakSet(), 0

    class Block(np.ndarray):
        pass

    class Retriever:
        def ranked_labels(self, X, k=None):
            nonlocal most
            for row in range(len(X)):
                block = np.arange(50).reshape(1, 50).view(Block)
                alive.add(_Handle(block))
                yield slice(row, row + 1), block
                del block
                most = max(most, len(alive))

    class _Handle:
        """Lives as long as its block: arrays cannot be hashed."""

        def __init__(self, block):
            block.handle = self

    assert recall_at_1_scorer(Retriever(), np.zeros(40), np.zeros(40)) == 1
    assert most <= 2


@pytest.mark.parametrize("block_size", [1, 10])
def test_queries_without_relevant_item_are_left_out_in_every_metric(block_size):
    retriever = StubRetriever(block_size=block_size).fit([[0], [1]], ["a", "b"])
    queries, labels = [[0.1], [0.2], [0.9]], ["a", "unknown", None]
    assert recall_at_1_scorer(retriever, queries, labels) == 1
    assert mean_average_precision_scorer(retriever, queries, pd.Series(labels)) == 1


def test_leave_one_out_passes_none_to_the_retriever(blobs):
    X, y = blobs
    search = make_pipeline(StandardScaler(), StubRetriever()).fit(X, y)
    expected = mean_average_precision(full_relevance(search[-1], None, y))
    assert mean_average_precision_scorer(search, None, y) == pytest.approx(expected)


def test_pipeline_nested_pipeline_frozen_and_search_are_opened(blobs):
    X, y = blobs
    scaled = StandardScaler().fit(X)
    inner = Pipeline([("double", FunctionTransformer(double)), ("stub", StubRetriever())])
    flat = StubRetriever().fit(scaled.transform(X) * 2, y)
    nested = Pipeline([("scale", StandardScaler()), ("search", inner)]).fit(X, y)
    search = GridSearchCV(nested, {"search__stub__block_size": [7]}, scoring=recall_at_1_scorer, cv=SHUFFLED).fit(X, y)
    for estimator in (nested, FrozenEstimator(nested), search, make_pipeline(FunctionTransformer(), nested)):
        last, Xt = split_search(estimator, X)
        assert type(last) is StubRetriever
        np.testing.assert_allclose(Xt, scaled.transform(X) * 2)
        assert mean_average_precision_scorer(estimator, X, y) == mean_average_precision_scorer(
            flat, 2 * scaled.transform(X), y
        )


def test_split_of_a_bare_retriever_or_a_pipeline_of_one_step_leaves_queries_alone():
    X = object()
    stub = StubRetriever()
    assert split_search(stub, X) == (stub, X)
    assert split_search(Pipeline([("stub", stub)]), X) == (stub, X)


@pytest.mark.parametrize("refit", [True, False])
def test_search_without_best_estimator_says_so(blobs, refit):
    search = GridSearchCV(StubRetriever(), {"best_first": [True]}, scoring=recall_at_1_scorer, refit=refit, cv=SHUFFLED)
    if not refit:
        search.fit(*blobs)
    with pytest.raises(NotFittedError, match=rf"GridSearchCV has no best_estimator_.*refit={refit}.*call fit first"):
        recall_at_1_scorer(search, *blobs)


# ------------------------------------------------------------------------------------------------- scikit-learn


def test_grid_search_finds_the_better_retriever(blobs):
    X, y = blobs
    search = make_pipeline(StandardScaler(), StubRetriever())
    scoring = {"map": mean_average_precision_scorer, "r1": recall_at_1_scorer}
    grid = GridSearchCV(search, {"stubretriever__best_first": [False, True]}, scoring=scoring, refit="map", cv=SHUFFLED)
    grid = sklearn.clone(grid).fit(X, y)
    assert grid.best_params_ == {"stubretriever__best_first": True}
    assert grid.cv_results_["mean_test_map"][1] > grid.cv_results_["mean_test_map"][0]
    assert mean_average_precision_scorer(grid, X, y) == grid.score(X, y)


def test_scorer_works_in_worker_processes(blobs):
    options = {"scoring": recall_at_5_scorer, "cv": SHUFFLED, "error_score": "raise"}
    alone = cross_val_score(StubRetriever(), *blobs, **options)
    with_pickles = cross_val_score(StubRetriever(), *blobs, **options, n_jobs=2)
    np.testing.assert_array_equal(alone, with_pickles)


def test_plain_kfold_on_sorted_labels_is_an_error_not_a_score_of_zero():
    y = np.repeat([0, 1, 2], 10)
    X = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ValueError, match=r"plain KFold.*StratifiedKFold\(n_splits, shuffle=True\)"):
        cross_val_score(StubRetriever(), X, y, cv=KFold(3), scoring=mean_average_precision_scorer, error_score="raise")


def test_sample_weight_is_routed_where_it_is_asked_for(blobs):
    X, y = blobs
    weights = np.random.default_rng(0).random(60)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = recall_at_1_scorer.set_score_request(sample_weight=True)
        options = {"cv": SHUFFLED, "params": {"sample_weight": weights}, "error_score": "raise"}
        scores = cross_validate(StubRetriever(), X, y, scoring=scorer, **options)["test_score"]
        with pytest.raises(ValueError, match="sample_weight"):
            cross_validate(StubRetriever(), X, y, scoring=recall_at_1_scorer, **options)
    for score, (train, test) in zip(scores, SHUFFLED.split(X, y), strict=True):
        fitted = StubRetriever().fit(X[train], y[train])
        assert score == recall_at_1_scorer(fitted, X[test], y[test], sample_weight=weights[test])


def test_set_score_request_needs_routing():
    with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
        recall_at_1_scorer.set_score_request(sample_weight=True)


def test_scorer_survives_pickling_and_reads_as_it_was_made(blobs):
    X, y = blobs
    retriever = StubRetriever().fit(X, y)
    copy = pickle.loads(pickle.dumps(recall_at_5_scorer))
    assert copy(retriever, X, y) == recall_at_5_scorer(retriever, X, y)
    assert repr(copy) == "make_retrieval_scorer(recall_at_k, k=5)"
    assert repr(mean_average_precision_scorer) == "make_retrieval_scorer(mean_average_precision)"


# ------------------------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (GaussianNB(), "NearestImageRetriever or a Pipeline that ends in one; got GaussianNB"),
        (make_pipeline(StandardScaler(), GaussianNB()), "got a Pipeline that ends in GaussianNB"),
        (make_pipeline(StandardScaler(), "passthrough"), "got a Pipeline that ends in 'passthrough'"),
    ],
)
def test_estimator_that_cannot_rank_is_named(blobs, estimator, message):
    with pytest.raises(TypeError, match=message):
        recall_at_1_scorer(estimator.fit(*blobs), *blobs)


def test_labels_of_the_queries_are_needed(blobs):
    with pytest.raises(ValueError, match=r"make_retrieval_scorer\(recall_at_k, k=1\) needs y"):
        recall_at_1_scorer(StubRetriever().fit(*blobs), blobs[0])


@pytest.mark.parametrize(("n_labels", "found"), [(59, "59 labels for at least 60"), (61, "61 labels for 60")])
def test_number_of_labels_must_be_the_number_of_queries(blobs, n_labels, found):
    X, y = blobs
    with pytest.raises(ValueError, match=f"y must hold one label for each query; got {found} queries"):
        recall_at_1_scorer(StubRetriever().fit(X, y), X, np.resize(y, n_labels))


def test_weights_that_leave_no_query_are_refused(blobs):
    X, y = blobs
    with pytest.raises(ValueError, match="sample_weight must be above 0"):
        recall_at_1_scorer(StubRetriever().fit(X, y), X, y, sample_weight=np.zeros(60))


def test_mistyped_argument_fails_when_the_scorer_is_made():
    with pytest.raises(TypeError, match=r"recall_at_k does not take these arguments: .*'K'"):
        make_retrieval_scorer(recall_at_k, K=5)
    with pytest.raises(TypeError, match=r"metric must be callable.*'recall_at_k'"):
        make_retrieval_scorer("recall_at_k")
    with pytest.raises(ValueError, match="junk differs from query to query"):
        make_retrieval_scorer(recall_at_k, junk=None)


def test_metric_that_returns_one_value_a_query_is_refused(blobs):
    X, y = blobs
    scorer = make_retrieval_scorer(average_precision)
    with pytest.raises(
        TypeError, match=r"must return one number.*average_precision returned an array of the shape \(7,\)"
    ):
        scorer(StubRetriever().fit(X, y), X, y)
