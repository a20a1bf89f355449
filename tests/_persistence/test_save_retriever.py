"""A gallery comes back: the same neighbours, distances, ids, labels and metadata."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from common.networks import TinyNet
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer
from sklearn_psp._persistence import load, save

NAME = "common.networks.TinyNet"
SIZE = {"image_size": 32, "scales": (1.0,), "precision": "float32", "batch_size": 4, "device": "cpu"}
# A network of one's own is converted anew for OpenVINO at every fit.
TINY = SIZE | {"runtime": "torch"}
N = 300
X = np.random.default_rng(0).normal(size=(N, 64)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(7, 64)).astype(np.float32)
LABELS = {
    "str": np.array(["ä", "b", "c"] * 100),
    "object": np.array(["ä", None, "c"] * 100, dtype=object),
    "int": np.arange(N) % 3,
    "bool": np.arange(N) % 2 == 0,
    "float": np.where(np.arange(N) % 3, np.arange(N) % 3, np.nan),
    "category": pd.Series(["a", "b", "c"] * 100, dtype="category"),
    "pandas": pd.Series(["a", "b", "c"] * 100, dtype="str"),
    "Int64": pd.Series([1, 2, None] * 100, dtype="Int64"),
    "list": ["a", "b", "c"] * 100,
}
METADATA = pd.DataFrame(
    {
        "place": pd.Categorical(["x", "y", None] * 100),
        "day": pd.date_range("2020", periods=N),
        "zone": pd.date_range("2020", periods=N, tz=datetime.UTC),
        "count": pd.Series([1, None, 3] * 100, dtype="Int64"),
        "note": pd.Series(["a", 1, None] * 100, dtype=object),
        7: np.arange(N, dtype="int8"),
    }
)


def assert_same_gallery(loaded, gallery, queries=QUERIES):
    for given in (queries, None):
        for found, expected in zip(loaded.kneighbors(given), gallery.kneighbors(given), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        pd.testing.assert_frame_equal(loaded.retrieve(given), gallery.retrieve(given))
    assert type(loaded.ids_) is type(gallery.ids_)
    assert loaded.ids_.dtype == gallery.ids_.dtype
    assert loaded.ids_.tolist() == gallery.ids_.tolist()
    assert loaded.get_params(deep=False).keys() == gallery.get_params(deep=False).keys()
    np.testing.assert_array_equal(loaded.skipped_, gallery.skipped_)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    "ids",
    [None, range(1000, 1000 + N), [f"folder/ü{i}.jpg" for i in range(N)], [i if i % 2 else str(i) for i in range(N)]],
    ids=["none", "int", "str", "mixed"],
)
def test_gallery__finds_the_same_bits(ids, metric, path):
    gallery = NearestImageRetriever(metric=metric).fit(X, ids=ids)
    save(gallery, path)
    assert_same_gallery(load(path), gallery)


@pytest.mark.parametrize("kind", LABELS)
def test_labels__come_back(kind, path):
    gallery = NearestImageRetriever().fit(X, LABELS[kind])
    save(gallery, path)
    loaded = load(path)
    assert_same_gallery(loaded, gallery)
    assert loaded.labels_.dtype == gallery.labels_.dtype
    assert loaded.classes_.dtype == gallery.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(QUERIES), gallery.predict(QUERIES))
    np.testing.assert_array_equal(loaded.predict_proba(QUERIES), gallery.predict_proba(QUERIES))
    assert loaded.score(X[:20], LABELS[kind][:20]) == gallery.score(X[:20], LABELS[kind][:20])


def test_metadata__comes_back(path):
    gallery = NearestImageRetriever().fit(X, LABELS["str"], metadata=METADATA)
    save(gallery, path)
    loaded = load(path)
    pd.testing.assert_frame_equal(loaded.metadata_, gallery.metadata_)
    assert_same_gallery(loaded, gallery)


def test_skipped_rows__stay_skipped(path):
    rows = X.copy()
    rows[[3, 50]] = np.nan
    gallery = NearestImageRetriever(on_invalid="skip").fit(rows)
    save(gallery, path)
    loaded = load(path)
    assert loaded.skipped_.tolist() == [3, 50]
    np.testing.assert_array_equal(loaded.kneighbors(QUERIES)[1], gallery.kneighbors(QUERIES)[1])


def test_changed_gallery__comes_back_and_can_be_changed_further(path):
    gallery = NearestImageRetriever().fit(X[:200], LABELS["str"][:200], ids=range(200))
    gallery.partial_fit(X[200:280], LABELS["str"][200:280], ids=range(200, 280))
    gallery.remove([5, 210])
    save(gallery, path)
    loaded = load(path)
    assert_same_gallery(loaded, gallery)
    for one in (loaded, gallery):
        one.partial_fit(X[280:], LABELS["str"][280:], ids=range(280, N)).remove([0])
    assert_same_gallery(loaded, gallery)


def test_gallery_without_fit__comes_back(path):
    save(NearestImageRetriever(n_neighbors=3, engine_params={"working_memory": 8}), path)
    assert load(path).get_params() == NearestImageRetriever(3, engine_params={"working_memory": 8}).get_params()


def test_gallery_of_images__comes_back_with_its_featurizer(path, images):
    featurizer = PSPNetFeaturizer(TinyNet(), **TINY)
    gallery = NearestImageRetriever(3, featurizer=featurizer).fit(list(images), LABELS["str"][:12])
    save(gallery, path)
    loaded = load(path, modules={NAME: TinyNet()})
    assert_same_gallery(loaded, gallery, list(images[:4]))


def test_pipeline__comes_back(path, images):
    search = make_pipeline(PSPNetFeaturizer(TinyNet(), **TINY), PCA(3), NearestImageRetriever(3))
    search.fit(images, LABELS["str"][:12])
    save(search, path)
    loaded = load(path, modules={NAME: TinyNet()})
    assert_same_gallery(loaded[-1], search[-1], search[:-1].transform(images))
    np.testing.assert_array_equal(loaded.predict(images), search.predict(images))


def test_grid_search__comes_back(path):
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(NearestImageRetriever(), {"n_neighbors": [2, 3]}, cv=folds).fit(X, LABELS["str"])
    save(search, path)
    loaded = load(path)
    assert loaded.best_score_ == search.best_score_
    assert_same_gallery(loaded.best_estimator_, search.best_estimator_)
