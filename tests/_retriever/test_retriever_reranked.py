"""Re-ranking inside the retriever: all verbs, tuning, and a gallery that changes."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_psp import NearestImageRetriever
from sklearn_psp.reranking import DatabaseAugmentation, Diffusion, KReciprocal, QueryExpansion, make_reranker

NAMES = ["aqe", "alpha_qe", "dba", "kreciprocal", "diffusion"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((6, 12))
    y = np.repeat(np.arange(6), 15)
    X = centres[y] + 1.4 * rng.standard_normal((90, 12))
    return X.astype(np.float32), np.array(list("abcdef"))[y]


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_the_re_ranker(data, name):
    from sklearn_psp.utils._arrays import unit_rows

    X, y = data
    units = unit_rows(X)
    gallery = NearestImageRetriever(5, reranker=name).fit(X[:80], y[:80])
    distances, positions = gallery.kneighbors(X[80:])
    expected_distances, expected = make_reranker(name).fit(units[:80]).rerank(units[80:], 5)
    assert_array_equal(positions, expected)
    np.testing.assert_allclose(distances, expected_distances, atol=1e-6)
    assert_array_equal(gallery.retrieve(X[80:])["id"].to_numpy().reshape(10, 5), expected)


@pytest.mark.parametrize("name", NAMES)
def test_scores_rank_the_head_anew_and_keep_the_rest(data, name):
    X, y = data
    plain = NearestImageRetriever().fit(X, y)
    gallery = NearestImageRetriever(reranker=name).fit(X, y)
    assert gallery.score() != plain.score()
    for (_, ranked), (_, before) in zip(gallery.ranked_labels(X[:7]), plain.ranked_labels(X[:7]), strict=True):
        assert ranked.shape == before.shape
        assert_array_equal(np.sort(ranked, axis=1), np.sort(before, axis=1))
    if name not in ("aqe", "alpha_qe"):
        gallery.set_params(reranker=type(make_reranker(name))(shortlist=4))
        rankings = gallery._gallery.rankings(gallery._queries(X[:7], gallery._gallery), reranker=gallery.reranker)
        positions = np.concatenate([ranked for _, ranked in rankings])
        order = plain.kneighbors(X[:7], 90)[1]
        assert_array_equal(np.sort(positions[:, :4]), np.sort(order[:, :4]))
        assert_array_equal(positions[:, 4:], order[:, 4:])


@pytest.mark.parametrize("name", NAMES)
def test_a_image_of_the_gallery_is_searched_for_as_if_it_were_not_there(data, name):
    X, y = data
    whole = NearestImageRetriever(6, reranker=name).fit(X, y, ids=np.arange(90))
    found = whole.retrieve()
    for i in (0, 17, 89):
        others = np.delete(np.arange(90), i)
        without = NearestImageRetriever(6, reranker=name).fit(X[others], y[others], ids=others)
        assert_array_equal(found.loc[found["query"] == i, "id"], without.retrieve(X[[i]])["id"])


def test_parameters_are_tuned_by_name(data):
    X, y = data
    search = Pipeline([("scale", StandardScaler()), ("retriever", NearestImageRetriever(reranker=Diffusion()))])
    grid = {"retriever__reranker__k": [4, 8], "retriever__reranker__alpha": [0.5, 0.9]}
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    tuned = GridSearchCV(search, grid, cv=cv).fit(X, y)
    assert len(set(tuned.cv_results_["mean_test_score"])) > 1
    whole = GridSearchCV(search, {"retriever__reranker": [None, "dba", KReciprocal(k=5)]}, cv=cv).fit(X, y)
    assert len(set(whole.cv_results_["mean_test_score"])) == 3


def test_parameters_set_after_fit_take_effect(data):
    X, y = data
    gallery = NearestImageRetriever(5, reranker=QueryExpansion(k=1)).fit(X, y)
    before = gallery.kneighbors(X[:9])[0]
    gallery.set_params(reranker__k=20)
    assert not np.allclose(gallery.kneighbors(X[:9])[0], before)
    gallery.set_params(reranker__k=1)
    assert_array_equal(gallery.kneighbors(X[:9])[0], before)


@pytest.mark.parametrize("name", NAMES)
def test_a_gallery_that_changed_is_re_ranked_as_it_is(data, name):
    X, y = data
    gallery = NearestImageRetriever(6, reranker=name).fit(X[:80], y[:80], ids=np.arange(80))
    gallery.retrieve(X[:3])
    gallery.partial_fit(X[80:], y[80:], ids=np.arange(80, 90)).remove(np.arange(10))
    fresh = NearestImageRetriever(6, reranker=name).fit(X[10:], y[10:], ids=np.arange(10, 90))
    pd.testing.assert_frame_equal(gallery.retrieve(X[:20]), fresh.retrieve(X[:20]))
    assert gallery.score() == fresh.score()
    again = pickle.loads(pickle.dumps(gallery))
    pd.testing.assert_frame_equal(again.retrieve(X[:20]), gallery.retrieve(X[:20]))


def test_a_graph_gives_the_shortlists(data):
    X, y = data
    params = {"n_neighbors": 8, "epsilon": 0.5}
    graph = NearestImageRetriever(5, algorithm="pynndescent", reranker="dba", engine_params=params, random_state=0)
    exact = NearestImageRetriever(5, algorithm="exact", reranker=DatabaseAugmentation()).fit(X, y)
    assert np.mean(graph.fit(X, y).kneighbors(X[:30])[1] == exact.kneighbors(X[:30])[1]) > 0.95


@pytest.mark.parametrize("reranker", ["difusion", 3, Diffusion])
def test_what_is_no_re_ranker_is_refused(data, reranker):
    with pytest.raises((ValueError, TypeError), match="reranker"):
        NearestImageRetriever(reranker=reranker).fit(data[0]).kneighbors(data[0][:1])
