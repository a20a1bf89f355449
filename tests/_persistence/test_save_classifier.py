"""A classifier comes back and predicts the same bits, without the run that trained it."""

from __future__ import annotations

import numpy as np
import pytest
from common.colours import colours, quick
from common.networks import TinyNet
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_psp import PSPNetClassifier
from sklearn_psp._persistence import load, save
from sklearn_psp.exceptions import PersistenceError

NAME = "common.networks.TinyNet"
X, Y = colours(24)
NAMED = {"image_size": 64, "precision": "float32", "device": "cpu", "runtime": "torch", "random_state": 0, "epochs": 2}


def assert_same(loaded, model):
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.classes_, model.classes_)
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.history_.equals(model.history_)
    assert loaded.best_epoch_ == model.best_epoch_
    assert set(vars(loaded)) == set(vars(model)) - {"_training"}
    np.testing.assert_array_equal(loaded.featurizer_.transform_parts(X), model.featurizer_.transform_parts(X))


@pytest.mark.parametrize("train", ["head", "last_stage"])
def test_named_backbone__needs_no_modules(path, train):
    model = PSPNetClassifier(weights=None, train=train, augment="auto", **NAMED).fit(X, Y, validation_data=(X, Y))
    save(model, path)
    loaded = load(path)
    assert_same(loaded, model)
    assert loaded.featurizer_.backbone_info_ == model.featurizer_.backbone_info_
    size = path.stat().st_size
    assert (size < 1_000_000) == (train == "head")  # trained weights are in the file, once
    assert size < 30_000_000
    save(loaded, path)
    assert_same(load(path), model)


@pytest.mark.parametrize("train", ["head", "last_stage", "all"])
def test_own_module__comes_back_with_the_weights_it_was_trained_to(path, train):
    params = {"reduce_dim": 3, "part_weights": "learned", "callbacks": None, "optimizer_params": {"weight_decay": 0.1}}
    model = quick(train, **params, backbone=TinyNet(seed=3)).fit(X, Y, validation_data=(X, Y))
    save(model, path)
    with pytest.raises(PersistenceError, match=NAME.replace(".", r"\.")):
        load(path)
    loaded = load(path, modules={NAME: TinyNet(seed=9)})
    assert_same(loaded, model)
    refitted = loaded.fit(X, Y, validation_data=(X, Y))
    assert refitted.history_.equals(model.history_)


@pytest.mark.parametrize("train", ["head", "all"])
def test_loaded__goes_on(path, train):
    model = quick(train, warm_start=True).fit(X, Y)
    save(model, path)
    loaded = load(path, modules={NAME: TinyNet()})
    n = len(model.history_)
    assert len(loaded.partial_fit(X, Y).history_) == n + 1
    assert loaded.fit(X, Y).history_["epoch"].tolist() == list(range(1, 2 * n + 2))
    assert loaded.history_["loss"].iloc[-1] < model.history_["loss"].iloc[0]


def test_unfitted__comes_back(path):
    model = quick("all", loss="arcface", loss_params={"scale": 20.0}, metrics=("f1_macro",), class_weight={"red": 2.0})
    save(model, path)
    loaded = load(path, modules={NAME: TinyNet()})
    same = loaded.fit(X, Y).history_
    assert same.equals(model.fit(X, Y).history_)


def test_search_over_a_pipeline__comes_back(path):
    search = GridSearchCV(
        make_pipeline(FunctionTransformer(), quick()), {"pspnetclassifier__pooling": ["avg", "max"]}, cv=2
    )
    search.fit(X, Y)
    save(search, path)
    loaded = load(path, modules={NAME: TinyNet()})
    np.testing.assert_array_equal(loaded.predict_proba(X), search.predict_proba(X))


@pytest.mark.parametrize("y", [np.arange(24) % 3, np.arange(24) % 2 == 0], ids=["int", "bool"])
def test_labels__keep_their_type(path, y):
    model = quick().fit(X, y)
    save(model, path)
    assert_same(load(path, modules={NAME: TinyNet()}), model)
