"""Both forms of a search: a Pipeline, and a retriever with its own featurizer; and what scikit-learn does with them."""

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_psp import NearestImageRetriever, retrieve

DIGITS, LABELS = load_digits(return_X_y=True)
X, y = DIGITS[:400], LABELS[:400]
PATHS = [f"{i}.png" for i in range(400)]


class PathFeaturizer(TransformerMixin, BaseEstimator):
    """Stands for PSPNetFeaturizer: paths in, descriptors out; counts how often it read."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, X, y=None):
        self.read_ = 0
        return self

    def transform(self, X):
        self.read_ += 1
        items = X.iloc[:, 0] if isinstance(X, pd.DataFrame) else X
        return np.array([self.scale * DIGITS[int(path[:-4])] for path in items])


@pytest.fixture
def pipeline():
    return Pipeline([("scale", StandardScaler()), ("pca", PCA(20)), ("retriever", NearestImageRetriever(5))])


def test_a_pipeline_retrieves_predicts_and_scores(pipeline):
    pipeline.fit(X, y, retriever__metadata=pd.DataFrame({"path": PATHS}), retriever__ids=PATHS)
    results = retrieve(pipeline, X[:3], 2)
    assert results.columns.tolist() == ["query", "rank", "id", "distance", "label", "path"]
    assert results["id"].tolist()[::2] == PATHS[:3]
    assert (results["distance"][::2] == 0).all()
    assert (results["id"] == results["path"]).all()
    assert pipeline.predict(X[:10]).tolist() == y[:10].tolist()
    assert 0.5 < pipeline.score(X, y) < 1
    leave_one_out = retrieve(pipeline, None)
    assert len(leave_one_out) == 400 * 5
    assert (leave_one_out["query"] != leave_one_out["id"]).all()
    assert pipeline[-1].score() < pipeline.score(X, y)
    assert pipeline.transform(X[:3]).shape == (3, 400)
    assert "retriever" in pipeline._repr_html_()


def test_queries_in_a_series_keep_their_index():
    pipeline = make_pipeline(PathFeaturizer(), NearestImageRetriever(2)).fit(PATHS, y)
    queries = pd.Series(PATHS[:3], index=["x", "y", "z"])
    assert retrieve(pipeline, queries)["query"].tolist() == list("xxyyzz")
    assert retrieve(pipeline, queries.to_frame())["query"].tolist() == list("xxyyzz")
    assert retrieve(pipeline, PATHS[:2])["query"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("form", [list, pd.Series, lambda paths: pd.DataFrame({"path": paths})])
def test_a_featurizer_of_its_own_gives_the_results_of_the_pipeline(form):
    featurizer = PathFeaturizer(2.0)
    gallery = NearestImageRetriever(4, featurizer=featurizer).fit(form(PATHS), y)
    assert gallery.featurizer_ is not featurizer
    assert not hasattr(featurizer, "read_")
    assert not hasattr(gallery, "n_features_in_")
    pipeline = make_pipeline(PathFeaturizer(2.0), NearestImageRetriever(4)).fit(form(PATHS), y)
    queries = PATHS[50:60]
    pd.testing.assert_frame_equal(gallery.retrieve(queries), retrieve(pipeline, queries))
    pd.testing.assert_frame_equal(retrieve(gallery, queries), retrieve(pipeline, queries))
    assert_array_equal(gallery.predict(queries), pipeline.predict(queries))
    assert gallery.score(queries, y[50:60]) == pipeline.score(queries, y[50:60])
    assert list(gallery.sources_) == PATHS


def test_ids_are_the_index_of_a_series_of_images():
    index = [f"id{i}" for i in range(400)]
    series = pd.Series(PATHS, index=index)
    gallery = NearestImageRetriever(1, featurizer=PathFeaturizer()).fit(series)
    assert gallery.ids_.tolist() == index
    found = gallery.retrieve(series[5:7])
    assert found["query"].tolist() == found["id"].tolist() == index[5:7]
    assert NearestImageRetriever(featurizer=PathFeaturizer()).fit(series, ids=range(400)).ids_.tolist() == list(
        range(400)
    )
    with pytest.raises(
        ValueError, match=r"index of X(.|\n)*more than once: 'twice'; pass unique ids=, or X.reset_index"
    ):
        NearestImageRetriever(featurizer=PathFeaturizer()).fit(pd.Series(PATHS[:2], index=["twice", "twice"]))


def test_fit_and_fit_transform_read_the_images_once():
    gallery = NearestImageRetriever(3, featurizer=PathFeaturizer()).fit(PATHS)
    assert gallery.featurizer_.read_ == 1
    graph = gallery.fit_transform(PATHS)
    assert gallery.featurizer_.read_ == 1
    assert (graph != gallery.transform(PATHS)).nnz == 0
    gallery.kneighbors(), gallery.score(PATHS[:1], [0]) if gallery.labels_ is not None else None
    assert gallery.featurizer_.read_ == 2


def test_switching_the_form_forgets_the_other():
    gallery = NearestImageRetriever(featurizer=PathFeaturizer()).fit(PATHS)
    gallery.set_params(featurizer=None).fit(X)
    assert not hasattr(gallery, "featurizer_")
    assert gallery.n_features_in_ == 64
    gallery.set_params(featurizer=PathFeaturizer()).fit(PATHS)
    assert not hasattr(gallery, "n_features_in_")


def test_what_a_featurizer_gives_is_checked():
    wild = FunctionTransformer(lambda X: X[:, : max(1, len(X) - 1)])
    with pytest.raises(ValueError, match="featurizer_ gave rows of 2 features, but the gallery has 8"):
        NearestImageRetriever(2, featurizer=wild).fit(X[:9, 20:40]).kneighbors(X[:3, 20:40])
    with pytest.raises(TypeError, match="What featurizer_ gives is a sparse"):
        NearestImageRetriever(featurizer=FunctionTransformer(csr_array)).fit(X)
    with pytest.raises(ValueError, match="'featurizer' parameter"):
        NearestImageRetriever(featurizer=3).fit(X)


def test_pandas_output_upstream(pipeline):
    expected = retrieve(pipeline.fit(X, y), X[:4])
    pipeline.set_output(transform="default")
    pipeline[:-1].set_output(transform="pandas")
    pd.testing.assert_frame_equal(retrieve(pipeline.fit(X, y), X[:4]), expected)


class Recording(NearestImageRetriever):
    """Says what each fold was given."""

    seen = []

    def fit(self, X, y=None, ids=None, metadata=None):
        Recording.seen.append((np.asarray(ids), metadata, np.asarray(y)))
        return super().fit(X, y, ids=ids, metadata=metadata)


@pytest.mark.parametrize("routing", [False, True])
def test_grid_search_slices_ids_and_metadata(routing):
    Recording.seen.clear()
    metadata = pd.DataFrame({"digit": y, "path": PATHS})
    with sklearn.config_context(enable_metadata_routing=routing):
        retriever = Recording(5)
        if routing:
            retriever.set_fit_request(ids=True, metadata=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("retriever", retriever)])
        grid = {"scale__with_std": [True, False], "retriever__metric": ["cosine", "euclidean"]}
        cv = StratifiedKFold(3, shuffle=True, random_state=0)
        names = ("ids", "metadata") if routing else ("retriever__ids", "retriever__metadata")
        search = GridSearchCV(pipeline, grid, cv=cv, error_score="raise")
        search.fit(X, y, **dict(zip(names, (PATHS, metadata), strict=True)))
    assert 0.4 < search.best_score_ < 1
    assert len(Recording.seen) == 4 * 3 + 1
    for ids, table, labels in Recording.seen:
        assert table["digit"].tolist() == labels.tolist()
        assert table["path"].tolist() == ids.tolist()
    results = retrieve(search, X[:2])
    assert results["id"][0] == results["path"][0] == PATHS[0]
    assert results["digit"].tolist() == results["label"].tolist()


def test_score_with_weights_and_metadata_routing(pipeline):
    weights = np.arange(400.0)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline.fit(X[:300], y[:300])
        plain = pipeline.score(X[300:], y[300:])
        pipeline["retriever"].set_score_request(sample_weight=True)
        weighted = pipeline.score(X[300:], y[300:], sample_weight=weights[300:])
    assert plain == pipeline.score(X[300:], y[300:])
    assert weighted != plain
    assert weighted == pipeline.score(X[300:], y[300:], sample_weight=weights[300:])


def test_folds_cut_in_order_on_sorted_labels_are_an_error_not_a_zero():
    labels = np.repeat([0, 1, 2], 40)
    with pytest.raises(ValueError, match=r"StratifiedKFold\(n_splits, shuffle=True\)"):
        cross_val_score(NearestImageRetriever(), X[:120], labels, cv=KFold(3), error_score="raise")


def test_search_over_the_second_form():
    search = GridSearchCV(
        NearestImageRetriever(3, featurizer=PathFeaturizer()),
        {"featurizer__scale": [1.0, 2.0], "metric": ["cosine"]},
        cv=StratifiedKFold(2, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(np.array(PATHS, dtype=object), y)
    assert retrieve(search, PATHS[7:8])["id"][0] == 7


def test_loky_workers_give_the_same_answers(pipeline):
    pipeline.fit(X, y)
    expected = retrieve(pipeline, X[:50])
    parts = joblib.Parallel(n_jobs=2)(joblib.delayed(retrieve)(pipeline, X[i : i + 25]) for i in (0, 25))
    parts[1]["query"] += 25
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), expected)


def test_retrieve_names_what_is_no_search():
    with pytest.raises(TypeError, match="Pipeline ends in StandardScaler"):
        retrieve(make_pipeline(PCA(2), StandardScaler()).fit(X), X)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_graph_engine_behind_the_same_verbs(metric):
    rng = np.random.default_rng(0)
    data = rng.standard_normal((3000, 64)).astype(np.float32) * rng.uniform(0.5, 2, (3000, 1)).astype(np.float32)
    labels = rng.integers(0, 4, 3000)
    exact = NearestImageRetriever(10, metric=metric).fit(data, labels)
    graph = NearestImageRetriever(10, metric=metric, algorithm="pynndescent", random_state=0, n_jobs=2)
    graph.fit(data, labels)
    assert graph.algorithm_ == "pynndescent"
    for queries in (None, data[:300] + np.float32(0.1)):
        truth, found = exact.kneighbors(queries)[1], graph.kneighbors(queries)[1]
        assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(truth, found, strict=True)]) >= 0.95
        if queries is None:
            assert (found != np.arange(3000)[:, None]).all()
    assert graph.score(data[:100], labels[:100]) == exact.score(data[:100], labels[:100])
    assert graph.retrieve(data[:1], 3000)["id"].is_unique
    with pytest.raises(ValueError, match="in row 0"):
        graph.kneighbors(np.full((1, 64), np.nan, dtype=np.float32))
