"""Estimators of scikit-learn come back as they were."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from sklearn_psp._persistence import load, save
from sklearn_psp.exceptions import PersistenceError

X = np.random.default_rng(0).normal(size=(60, 20))
Y = np.repeat(["a", "b", "c"], 20)
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)
ESTIMATORS = {
    "pca": make_pipeline(StandardScaler(), PCA(3, random_state=0)),
    "lda": LinearDiscriminantAnalysis(),
    "knn": make_pipeline(PCA(16), KNeighborsClassifier()),
    "svc": SVC(),
    "grid": GridSearchCV(make_pipeline(PCA(), LogisticRegression()), {"pca__n_components": [2, 3]}, cv=FOLDS),
    "scoring": GridSearchCV(LogisticRegression(), {"C": [1, 10]}, scoring=["accuracy", "f1_macro"], refit="accuracy"),
    "union": FeatureUnion([("pca", PCA(2)), ("scaler", StandardScaler())]),
    "columns": ColumnTransformer([("pca", PCA(2), [0, 1, 2]), ("rest", "passthrough", slice(3, 5))]),
}


class Parameters(BaseEstimator):
    """Holds a parameter."""

    def __init__(self, value=None):
        self.value = value


OWN = f"{Parameters.__module__}.Parameters"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_fitted_estimator__computes_the_same_bits(name, path):
    estimator = ESTIMATORS[name].fit(X, Y)
    save(estimator, path)
    loaded = load(path)
    assert type(loaded) is type(estimator)
    assert repr(loaded) == repr(estimator)
    method = "predict_proba" if hasattr(estimator, "predict_proba") else "transform"
    method = method if hasattr(estimator, method) else "predict"
    np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(estimator, method)(X))


def test_results_of_a_grid_search__come_back(path):
    search = ESTIMATORS["grid"].fit(X, Y)
    save(search, path)
    found = load(path).cv_results_
    assert list(found) == list(search.cv_results_)
    pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(search.cv_results_))


def test_columns_by_name__come_back(path):
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": Y})
    columns = ColumnTransformer([("pca", PCA(1), ["a", "b"]), ("kind", OneHotEncoder(), ["kind"])]).fit(frame)
    save(columns, path)
    np.testing.assert_array_equal(load(path).transform(frame), columns.transform(frame))


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 1, 2**70, 0.1, float("inf"), "ü", (1, (2.5, "a")), [1, [None]], {"a": (1,), 2: [3]}),
        *(np.float32(0.1), np.int64(3), np.bool_(True), slice(1, None, 2), {1, 2}, b"bytes"),
    ],
    ids=repr,
)
def test_parameter__comes_back_with_its_type(value, path):
    save(Parameters(value), path)
    found = load(path, trusted=[OWN]).value
    assert type(found) is type(value)
    assert found == value


@pytest.mark.parametrize("size", [(0,), (3,), (3, 5), (200, 100), (100, 20, 10)], ids=repr)
@pytest.mark.parametrize("dtype", ["f4", ">f8", "i2", "bool", "U3", "M8[ns]", "c16"])
def test_array__comes_back_bit_for_bit(size, dtype, path):
    array = np.arange(np.prod(size)).astype("i8").reshape(size).astype(dtype)
    for order in "CF":
        value = np.asarray(array, order=order)
        save(Parameters(value), path)
        found = load(path, trusted=[Parameters]).value
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert found.tobytes() == value.tobytes()
        assert found.flags.f_contiguous == value.flags.f_contiguous
        assert found.flags.writeable


def test_array_that_is_shared__is_shared_again(path):
    for array in (np.zeros(3), np.zeros(100_000)):
        save(Parameters([array, array]), path)
        first, second = load(path, trusted=[OWN]).value
        assert first is second


def test_random_state__goes_on_where_it_was(path):
    state = np.random.RandomState(3)
    state.normal(size=7)
    save(Parameters(state), path)
    np.testing.assert_array_equal(load(path, trusted=[OWN]).value.normal(size=5), state.normal(size=5))


def test_description__is_a_file_of_skops(path):
    estimator = make_pipeline(StandardScaler(), PCA(20)).fit(np.random.default_rng(0).normal(size=(300, 300)))
    save(estimator, path)
    with zipfile.ZipFile(path) as archive:
        description = archive.read("estimator.skops")
    assert skops.io.get_untrusted_types(data=description) == ["sklearn_psp.StoredArray"]
    save(StandardScaler(with_mean=False), path)
    with zipfile.ZipFile(path) as archive:
        assert repr(skops.io.loads(archive.read("estimator.skops"))) == "StandardScaler(with_mean=False)"


def test_file__says_what_it_is(path):
    save(ESTIMATORS["lda"].fit(X, Y), path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("sklearn_psp.json"))
        assert not [name for name in archive.namelist() if name.endswith((".pkl", ".pt", ".pth", ".bin"))]
    assert manifest["format"] == 2
    assert manifest["class"] == "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"
    assert {"sklearn_psp", "sklearn", "numpy", "skops"} <= set(manifest["versions"])


def test_what_cannot_be_saved__is_named_and_leaves_the_old_file(path):
    save(Parameters(1), path)
    table = pd.DataFrame({"a": [1]})
    where = r"Pipeline\.steps\[1\]\[1\]\.value\['x'\] is a pandas.*DataFrame, which"
    with pytest.raises(PersistenceError, match=where):
        save(make_pipeline(PCA(), Parameters({"x": table})), path)
    assert load(path, trusted=[OWN]).value == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
