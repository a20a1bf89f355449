"""The verbs of NearestImageRetriever, against scipy and scikit-learn."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer, NearestNeighbors
from sklearn.utils import estimator_html_repr

from sklearn_psp import NearestImageRetriever


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 24)).astype(np.float32), rng.integers(0, 5, 400)
    X[y == 1] += 1
    X[50:60] = X[3]  # copies
    return X, np.array(["ash", "birch", "cedar", "elm", "fir"])[y], rng.standard_normal((90, 24)).astype(np.float32)


METRICS = pytest.mark.parametrize("metric", ["cosine", "euclidean"])


@METRICS
def test_kneighbors_agrees_with_scikit_learn(data, metric):
    X, y, Q = data
    ours = NearestImageRetriever(7, metric=metric).fit(X, y)
    theirs = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute").fit(X.astype(np.float64))
    distances, positions = ours.kneighbors(Q)
    expected, expected_positions = theirs.kneighbors(Q.astype(np.float64))
    assert distances.dtype == np.float32
    assert_allclose(distances, expected, rtol=1e-5)
    untied = np.isin(positions, [3, *range(50, 60)], invert=True)
    assert_array_equal(positions[untied], expected_positions[untied])
    assert_array_equal(ours.kneighbors(Q, return_distance=False), positions)
    assert ours.kneighbors(Q, 3)[0].shape == (90, 3)
    assert ours.n_samples_fit_ == 400
    assert ours.n_features_in_ == 24


@METRICS
def test_without_x_each_image_is_left_out_by_position_not_by_distance(data, metric):
    X, _, _ = data
    distances, positions = NearestImageRetriever(6, metric=metric).fit(X).kneighbors()
    assert (positions != np.arange(400)[:, None]).all()
    copies = [3, *range(50, 60)]
    for row in copies:  # 10 copies each, all at 0, the query not among them
        assert_array_equal(positions[row], [i for i in copies if i != row][:6])
        assert (distances[row] == 0).all()
    truth = cdist(X.astype(np.float64), X.astype(np.float64), metric)
    np.fill_diagonal(truth, np.inf)
    assert_allclose(distances, np.sort(truth, axis=1)[:, :6], rtol=1e-5, atol=1e-7)


def test_distances_are_in_range_and_zero_for_the_identical_vector(data):
    X, _, _ = data
    distances, positions = NearestImageRetriever(400).fit(X).kneighbors(np.vstack([X, -X]))
    assert (distances[:400, 0] == 0).all()
    assert distances.min() == 0
    assert distances.max() <= 2
    assert distances[400:, -1].min() > 1.999999
    assert_array_equal(np.sort(positions, axis=1), np.tile(np.arange(400), (800, 1)))


def test_cosine_ignores_length_and_ranks_unit_vectors_as_euclidean(data):
    X, _, Q = data
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    by_cosine = NearestImageRetriever(20).fit(units).kneighbors(4 * Q, return_distance=False)
    queries = Q / np.linalg.norm(Q, axis=1, keepdims=True)
    by_length = NearestImageRetriever(20, metric="euclidean").fit(units).kneighbors(queries, return_distance=False)
    assert np.mean(by_cosine == by_length) > 0.999


@pytest.mark.parametrize(
    ("X", "k", "error", "message"),
    [
        (
            "queries",
            401,
            ValueError,
            r"Expected n_neighbors <= n_samples_fit, but n_neighbors = 401, n_samples_fit = 400",
        ),
        (None, 400, ValueError, r"Expected n_neighbors < n_samples_fit, but n_neighbors = 400, n_samples_fit = 400"),
        (None, 0, ValueError, r"Expected n_neighbors > 0. Got 0"),
        (None, 2.5, TypeError, "enter integer value"),
    ],
)
def test_impossible_numbers_of_neighbours_are_errors(data, X, k, error, message):
    fitted = NearestImageRetriever().fit(data[0])
    with pytest.raises(error, match=message):
        fitted.kneighbors(data[2] if X else None, k)


@METRICS
@pytest.mark.parametrize("weights", ["distance", "uniform"])
def test_votes_agree_with_kneighborsclassifier(data, metric, weights):
    X, y, Q = data
    keep = np.setdiff1d(np.arange(400), np.arange(50, 60))  # ties among copies are broken differently
    X, y = X[keep], y[keep]
    Q = np.vstack([Q, X[:5]])  # distance 0
    ours = NearestImageRetriever(8, metric=metric, weights=weights).fit(X, y)
    theirs = KNeighborsClassifier(8, metric=metric, weights=weights, algorithm="brute").fit(X.astype(np.float64), y)
    Q64 = Q.astype(np.float64)
    assert_array_equal(ours.classes_, theirs.classes_)
    assert_array_equal(ours.predict(Q), theirs.predict(Q64))
    shares = ours.predict_proba(Q)
    if metric == "euclidean" or weights == "uniform":
        assert_allclose(shares, theirs.predict_proba(Q64), rtol=1e-5, atol=1e-6)
    else:  # scikit-learn's cosine distance of a vector to itself is not always 0
        assert_allclose(shares[:90], theirs.predict_proba(Q64)[:90], rtol=1e-5, atol=1e-6)
        assert_array_equal(shares[90:], y[:5, None] == ours.classes_)
    assert_allclose(shares.sum(axis=1), 1)


def test_leave_one_out_predict_does_not_vote_for_itself():
    X = np.float32([[0, 1], [0, 1.01], [1, 0], [1.01, 0]])
    gallery = NearestImageRetriever(1, metric="euclidean").fit(X, [1, 2, 3, 4])
    assert_array_equal(gallery.predict(), [2, 1, 4, 3])
    assert_array_equal(gallery.predict(X), [1, 2, 3, 4])


@pytest.mark.parametrize(
    "y", [[3, 1, 2, 1], ["b", "a", "c", "a"], [True, False, True, False], [0.5, 1.5, 2.5, 1.5], [1, "a", 2, "b"]]
)
def test_labels_of_any_type_come_back_as_they_are(y):
    gallery = NearestImageRetriever(1).fit(np.eye(4), y)
    assert gallery.labels_.tolist() == y
    assert gallery.predict(np.eye(4)).tolist() == y
    assert gallery.retrieve(np.eye(4))["label"].tolist() == y
    assert [type(value) for value in gallery.labels_.tolist()] == [type(value) for value in y]


def test_a_missing_label_casts_no_vote_and_matches_nothing():
    gallery = NearestImageRetriever(2, weights="uniform").fit(np.eye(4) + 0.1, ["a", None, "a", np.nan])
    assert gallery.classes_.tolist() == ["a"]
    # Only the two labelled ones are queries; all are equally far, so the one is found at rank 2 and the other at 1.
    assert gallery.score() == 0.75
    with pytest.raises(ValueError, match="no neighbour that votes"):
        NearestImageRetriever(1).fit(np.eye(2), [None, None]).predict(np.eye(2))


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_graphs_agree_with_kneighborstransformer(data, mode):
    X, _, Q = data
    X = X[:50]
    ours = NearestImageRetriever(5, mode=mode, metric="euclidean")
    theirs = KNeighborsTransformer(mode=mode, n_neighbors=5)
    graph, expected = ours.fit_transform(X), theirs.fit_transform(X)
    assert sparse.issparse(graph)
    assert graph.format == "csr"
    assert graph.dtype == np.float32
    assert graph.nnz == expected.nnz == 50 * (6 if mode == "distance" else 5)
    assert_allclose(graph.toarray(), expected.toarray(), rtol=1e-5, atol=1e-6)
    assert_allclose(ours.transform(Q).toarray(), theirs.transform(Q).toarray(), rtol=1e-5)
    assert_allclose(ours.kneighbors_graph().toarray(), theirs.kneighbors_graph(mode=mode).toarray(), rtol=1e-5)
    assert ours.kneighbors_graph(Q, 3, mode="connectivity").sum() == 90 * 3
    assert_array_equal(ours.get_feature_names_out()[:2], ["nearestimageretriever0", "nearestimageretriever1"])
    with pytest.raises(ValueError, match="mode must be 'distance' or 'connectivity'; got 'both'"):
        ours.kneighbors_graph(mode="both")


def test_retrieve_is_a_table_with_ids_labels_and_metadata(data):
    X, y, _ = data
    table = pd.DataFrame(
        {"path": [f"{i}.jpg" for i in range(400)], "year": np.arange(400) % 7}, index=np.arange(400) + 9
    )
    gallery = NearestImageRetriever(4).fit(X, y, ids=[f"id{i}" for i in range(400)], metadata=table)
    results = gallery.retrieve(X[:3])
    assert results.columns.tolist() == ["query", "rank", "id", "distance", "label", "path", "year"]
    assert results["query"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert results["rank"].tolist() == [1, 2, 3, 4] * 3
    distances, positions = gallery.kneighbors(X[:3])
    assert_array_equal(results["distance"], distances.ravel())
    assert results["distance"].dtype == np.float32
    assert results["id"].tolist() == [f"id{i}" for i in positions.ravel()]
    assert results["label"].tolist() == y[positions.ravel()].tolist()
    assert results["path"].tolist() == [f"{i}.jpg" for i in positions.ravel()]
    assert results["year"].dtype == table["year"].dtype
    assert table.index[0] == 9


def test_retrieve_returns_what_exists(data):
    X, _, Q = data
    gallery = NearestImageRetriever(10).fit(X[:3])
    assert len(gallery.retrieve(Q[:2])) == 6
    assert "label" not in gallery.retrieve(Q[:2])
    alone = gallery.retrieve()
    assert alone["query"].tolist() == [0, 0, 1, 1, 2, 2]
    assert (alone["query"] != alone["id"]).all()
    nothing = NearestImageRetriever().fit(X[:1], ["a"]).retrieve()
    assert len(nothing) == 0
    assert nothing.columns.tolist() == ["query", "rank", "id", "distance", "label"]


def test_leave_one_out_retrieve_names_queries_by_id(data):
    results = NearestImageRetriever(1).fit(data[0][:4], ids=list("wxyz")).retrieve()
    assert results["query"].tolist() == list("wxyz")


@METRICS
def test_score_is_the_mean_average_precision_of_the_full_ranking(data, metric):
    X, y, Q = data
    keep = np.setdiff1d(np.arange(400), np.arange(50, 60))  # average_precision_score scores ties as one step
    X, y = X[keep], y[keep]
    wanted = np.resize(["ash", "birch", "not in the gallery"], 90)
    gallery = NearestImageRetriever(1, metric=metric).fit(X, y)
    similarity = -cdist(Q.astype(np.float64), X.astype(np.float64), metric)
    expected = [average_precision_score(y == w, s) for w, s in zip(wanted, similarity, strict=True) if w in y]
    assert gallery.score(Q, wanted) == pytest.approx(np.mean(expected), abs=1e-6)  # float32 makes ties
    weights = np.arange(90.0)
    expected = np.average(expected, weights=weights[wanted != "not in the gallery"])
    assert gallery.score(Q, wanted, sample_weight=weights) == pytest.approx(expected, abs=1e-6)

    similarity = -cdist(X.astype(np.float64), X.astype(np.float64), metric)
    others = ~np.eye(len(X), dtype=bool)
    expected = [average_precision_score(y[o] == own, s[o]) for own, s, o in zip(y, similarity, others, strict=True)]
    assert gallery.score() == pytest.approx(np.mean(expected), abs=1e-6)


def test_score_does_not_depend_on_blocks_engine_or_n_neighbors(data):
    X, y, Q = data
    scores = {
        NearestImageRetriever(k, engine_params={"working_memory": memory}).fit(X, y).score(Q, np.resize(y, 90))
        for k, memory in [(1, 64), (50, 64), (5, 0.01), (5, 0.2)]
    }
    assert len(scores) == 1
    looking_at_itself = {
        NearestImageRetriever(engine_params={"working_memory": memory}).fit(X, y).score() for memory in (64, 0.01, 0.2)
    }
    assert len(looking_at_itself) == 1


def test_score_agrees_with_the_scorer(data):
    from sklearn_psp.metrics import mean_average_precision_scorer

    X, y, Q = data
    gallery = NearestImageRetriever().fit(X, y)
    assert gallery.score(Q, y[:90]) == pytest.approx(mean_average_precision_scorer(gallery, Q, y[:90]), abs=1e-12)
    assert gallery.score() == pytest.approx(mean_average_precision_scorer(gallery, None, y), abs=1e-12)


def test_score_says_what_is_wrong(data):
    X, y, Q = data
    gallery = NearestImageRetriever().fit(X, y)
    with pytest.raises(ValueError, match=r"sorted by labels(.|\n)*StratifiedKFold\(n_splits, shuffle=True\)"):
        gallery.score(Q, ["oak"] * 90)
    with pytest.raises(ValueError, match="X and y, or neither"):
        gallery.score(Q)
    with pytest.raises(ValueError, match="one label for each of the 90 images"):
        gallery.score(Q, y)
    with pytest.raises(ValueError, match=r"score needs labels: call fit\(X, y\)"):
        NearestImageRetriever().fit(X).score()


@pytest.mark.parametrize("k", [None, 1, 7, 399, 400, 1000])
@pytest.mark.parametrize("own", [True, False])
def test_ranked_labels_follow_the_full_order(data, k, own):
    X, y, Q = data
    gallery = NearestImageRetriever(2, engine_params={"working_memory": 0.5}).fit(X, y)
    n_others = 399 if own else 400
    order = gallery.kneighbors(None if own else Q, n_others, return_distance=False)
    seen = 0
    for rows, ranked in gallery.ranked_labels(None if own else Q, k):
        assert rows.start == seen
        seen = rows.stop
        assert_array_equal(ranked, y[order[rows, : n_others if k is None else k]])
    assert seen == len(order)


def test_refit_forgets(data):
    X, y, _ = data
    gallery = NearestImageRetriever().fit(X, y, ids=np.arange(400) + 1, metadata=pd.DataFrame({"a": range(400)}))
    gallery.fit(X[:20, :5])
    assert not hasattr(gallery, "classes_")
    assert gallery.labels_ is None
    assert gallery.metadata_ is None
    assert gallery.ids_.tolist() == list(range(20))
    assert gallery.n_features_in_ == 5
    with pytest.raises(ValueError, match=r"predict and predict_proba need labels: call fit\(X, y\)"):
        gallery.predict(X[:2, :5])


def test_a_failed_fit_leaves_the_gallery_whole(data):
    X, y, Q = data
    gallery = NearestImageRetriever(3).fit(X, y)
    before = gallery.retrieve(Q)
    with pytest.raises(ValueError, match="unique"):
        gallery.fit(X[:4], y[:4], ids=[1, 1, 2, 3])
    pd.testing.assert_frame_equal(gallery.retrieve(Q), before)


@METRICS
def test_the_gallery_does_not_follow_the_callers_array(data, metric):
    X, _, Q = data
    mine = X.copy()
    gallery = NearestImageRetriever(metric=metric).fit(mine)
    before = gallery.kneighbors(Q)
    mine[:] = 0
    for got, expected in zip(gallery.kneighbors(Q), before, strict=True):
        assert_array_equal(got, expected)


def test_pickle_clone_and_unfitted(data):
    X, y, Q = data
    gallery = NearestImageRetriever(3).fit(X, y)
    again = pickle.loads(pickle.dumps(gallery))
    pd.testing.assert_frame_equal(again.retrieve(Q), gallery.retrieve(Q))
    fresh = clone(gallery)
    for verb in ("kneighbors", "retrieve", "predict", "score", "kneighbors_graph", "ranked_labels"):
        with pytest.raises(NotFittedError):
            getattr(fresh, verb)()
    assert "NearestImageRetriever" in estimator_html_repr(gallery)
    public = {name for name in dir(gallery) if name.endswith("_") and not name.startswith("_")}
    assert public == {
        "algorithm_",
        "classes_",
        "effective_metric_",
        "ids_",
        "labels_",
        "metadata_",
        "n_features_in_",
        "n_samples_fit_",
        "recall_",
        "recall_sample_size_",
        "skipped_",
        "sources_",
    }


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"ids": [1, 2, 2, 1]}, ValueError, r"ids must be unique, but holds more than once: 2, 1; make them unique"),
        ({"ids": [1, 2]}, ValueError, r"ids must hold one id for each of the 4 images; got 2"),
        ({"ids": ["a", None, "b", "c"]}, ValueError, "ids must not hold missing values; position 1"),
        ({"y": [1, 2]}, ValueError, r"y must hold one label for each of the 4 images; got the shape \(2,\)"),
        ({"y": np.ones((4, 2))}, ValueError, r"got the shape \(4, 2\)"),
        (
            {"metadata": {"a": [1, 2, 3, 4]}},
            TypeError,
            "metadata must be a DataFrame with one row an image; got a dict",
        ),
        ({"metadata": pd.Series([1, 2, 3, 4])}, TypeError, r"use metadata.to_frame\(\)"),
        ({"metadata": pd.DataFrame({"a": [1]})}, ValueError, "one row for each of the 4 images; got 1"),
        (
            {"metadata": pd.DataFrame({"rank": range(4)})},
            ValueError,
            "results of retrieve have already: 'rank'; rename",
        ),
        ({"metadata": pd.DataFrame(np.ones((4, 2)), columns=["a", "a"])}, ValueError, "more than once: 'a'"),
        ({"y": [1, 2, 1, 2], "metadata": pd.DataFrame({"label": range(4)})}, ValueError, "already: 'label'"),
    ],
)
def test_what_does_not_fit_is_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        NearestImageRetriever().fit(np.eye(4), **kwargs)


def test_metadata_may_have_a_label_column_where_there_are_no_labels():
    gallery = NearestImageRetriever(1).fit(np.eye(2), metadata=pd.DataFrame({"label": ["a", "b"]}))
    assert gallery.retrieve(np.eye(2))["label"].tolist() == ["a", "b"]


def test_ids_keep_their_type():
    gallery = NearestImageRetriever(1).fit(np.eye(3), ids=[1, "1", "x"])
    assert gallery.retrieve(np.eye(3))["id"].tolist() == [1, "1", "x"]


def test_wrong_input_is_refused_with_the_remedy(data):
    X, _, _ = data
    with pytest.raises(ValueError, match=r"featurizer=PSPNetFeaturizer\(\)"):
        NearestImageRetriever().fit(["a.jpg", "b.jpg"])
    with pytest.raises(TypeError, match=r"sparse csr_(array|matrix).*toarray"):
        NearestImageRetriever().fit(sparse.csr_array(X))
    with pytest.raises(ValueError, match="The 'metric' parameter of NearestImageRetriever"):
        NearestImageRetriever(metric="dot").fit(X)
    with pytest.raises(ValueError, match="X has 3 features, but NearestImageRetriever is expecting 24"):
        NearestImageRetriever().fit(X).kneighbors(X[:, :3])


def test_feature_names_are_checked(data):
    X, _, _ = data
    frame = pd.DataFrame(X, columns=[f"psp{i}" for i in range(24)])
    gallery = NearestImageRetriever(2).fit(frame)
    assert gallery.feature_names_in_.tolist() == frame.columns.tolist()
    assert gallery.ids_.tolist() == list(range(400))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        gallery.kneighbors(X[:1])
    assert_array_equal(gallery.kneighbors(frame.iloc[5:6])[1][0, 0], 3 if 50 <= 5 < 60 else 5)


def test_digits_are_recognised():
    X, y = load_digits(return_X_y=True)
    gallery = NearestImageRetriever(5).fit(X[:1200], y[:1200])
    assert gallery.algorithm_ == "exact"
    assert np.mean(gallery.predict(X[1200:]) == y[1200:]) > 0.94


def test_a_small_gallery_loads_neither_torch_nor_numba():
    code = """
import sys
import numpy as np
from sklearn_psp import NearestImageRetriever, retrieve

X = np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32)
gallery = NearestImageRetriever(random_state=0, n_jobs=2).fit(X, np.arange(1000) % 7)
gallery.kneighbors(X[:5]), retrieve(gallery, X[:5]), gallery.predict(X[:5]), gallery.score(), gallery.transform(X[:5])
heavy = {"torch", "torchvision", "timm", "numba", "pynndescent", "matplotlib", "dask"}
print(sorted({name.partition(".")[0] for name in sys.modules} & heavy))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900, check=True)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr
