"""What counts how much: weights of classes and of images, and what the model is judged by."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from common.colours import batches, colours, quick
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

TRAINS = ["head", "last_stage", "all"]


def same_model(one, other):
    np.testing.assert_array_equal(one.coef_, other.coef_)
    np.testing.assert_array_equal(one.intercept_, other.intercept_)
    assert one.history_.equals(other.history_)


@pytest.mark.parametrize("train", TRAINS)
def test_a_image_of_weight_zero_is_left_out_exactly(training, train):
    X, y = training
    weights = np.ones(len(X))
    weights[[0, 7, 8]] = 0
    kept = weights > 0
    same_model(quick(train).fit(X, y, weights), quick(train).fit(X[kept], y[kept]))


def test_a_class_of_which_no_image_counts_is_none(training):
    X, y = training
    assert quick().fit(X, y, (y != "red").astype(float)).classes_.tolist() == ["blue", "green"]


@pytest.mark.parametrize("train", TRAINS)
def test_only_the_proportions_of_weights_count(training, train):
    X, y = training
    same_model(quick(train).fit(X, y, np.full(len(X), 4.0)), quick(train).fit(X, y))
    weights = np.random.default_rng(0).choice([0.5, 1, 2], len(X))
    weighted = quick(train).fit(X, y, weights)
    same_model(weighted, quick(train).fit(X, y, 8 * weights))
    assert np.abs(weighted.coef_ - quick(train).fit(X, y).coef_).max() > 1e-4


@pytest.mark.parametrize("train", TRAINS)
def test_weight_of_a_class_is_that_of_its_images(training, train):
    X, y = training
    by_class = {"red": 4.0, "green": 1.0, "blue": 0.5}
    weights = np.array([by_class[label] for label in y])
    weighted = quick(train, class_weight=by_class).fit(X, y)
    same_model(weighted, quick(train).fit(X, y, weights))
    shares = weighted.predict_proba(X).mean(axis=0) - quick(train).fit(X, y).predict_proba(X).mean(axis=0)
    assert weighted.classes_[shares.argmax()] == "red"
    assert shares.max() > 1e-3


@pytest.mark.parametrize("train", ["head", "all"])
def test_balanced_weights_are_those_of_the_counts(training, train):
    X, y = training
    some = np.flatnonzero((y != "red") | (np.arange(len(y)) % 3 == 0))
    X, y = X[some], y[some]
    counts = dict(zip(*np.unique(y, return_counts=True), strict=True))
    assert len(set(counts.values())) > 1
    by_class = {str(label): len(y) / (3 * count) for label, count in counts.items()}
    balanced = quick(train, class_weight="balanced").fit(X, y)
    same_model(balanced, quick(train, class_weight=by_class).fit(X, y))
    assert not np.array_equal(balanced.coef_, quick(train).fit(X, y).coef_)


@pytest.mark.parametrize("train", ["head", "all"])
def test_weights_of_classes_count_in_a_stream(training, train):
    by_class = {"red": 4.0, "green": 1.0, "blue": 0.5}
    stream = batches(*training)
    weighted, plain = quick(train, class_weight=by_class).fit(stream), quick(train).fit(stream)
    shares = weighted.predict_proba(training[0]).mean(axis=0)
    shares -= plain.predict_proba(training[0]).mean(axis=0)
    assert weighted.classes_[shares.argmax()] == "red"
    assert shares.max() > 1e-3


@pytest.mark.parametrize(
    ("params", "weights", "message"),
    [
        ({}, np.zeros(30), "(?i)zero"),
        ({}, -np.ones(30), "Negative values in data passed to `sample_weight`"),
        ({}, np.ones(29), r"sample_weight.shape == \(29,\), expected \(30,\)"),
        ({"class_weight": {"pink": 2.0}}, None, "are not in class_weight"),
    ],
)
def test_wrong_weights_are_refused(training, params, weights, message):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(*training, weights)


def test_weights_do_not_go_with_a_stream(training):
    with pytest.raises(ValueError, match="sample_weight does not go with an iterable of batches"):
        quick().fit(batches(*training), sample_weight=np.ones(30))


def test_weights_are_routed_through_a_pipeline_and_a_search(training):
    X, y = training
    weights = (y != "red").astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        model = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), model).fit(X, y, sample_weight=weights)
        assert pipeline[-1].classes_.tolist() == ["blue", "green"]
        assert pipeline.score(X, y, sample_weight=weights) == 1.0
        search = GridSearchCV(model, {"part_dropout": [0.0, 0.5]}, cv=2).fit(X, y, sample_weight=weights)
        assert search.best_estimator_.classes_.tolist() == ["blue", "green"]
        assert search.best_score_ == 1.0
        unasked = make_pipeline(FunctionTransformer(), quick())
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            unasked.fit(X, y, sample_weight=weights)


@pytest.mark.parametrize("train", ["head", "all"])
def test_a_share_is_held_out_by_class_and_not_trained_on(training, train):
    X, y = training
    model = quick(train, validation_fraction=0.3).fit(X, y)
    # What fit holds out is what scikit-learn holds out with the seed that it draws.
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    kept, held_out = train_test_split(np.arange(30), test_size=0.3, stratify=y, random_state=seed)
    assert sorted(np.unique(y[held_out], return_counts=True)[1]) == [3, 3, 3]
    kept, held_out = np.sort(kept), np.sort(held_out)
    same_model(model, quick(train).fit(X[kept], y[kept], validation_data=(X[held_out], y[held_out])))
    spoilt = X.copy()
    spoilt[held_out] = 0
    other = quick(train, validation_fraction=0.3).fit(spoilt, y)
    assert other.history_["loss"].tolist() == model.history_["loss"].tolist()
    assert other.history_["val_loss"].tolist() != model.history_["val_loss"].tolist()


@pytest.mark.parametrize("train", ["head", "all"])
def test_validation_data_change_nothing_but_what_is_kept(training, held_out, train):
    judged = quick(train).fit(*training, validation_data=held_out)
    alone = quick(train).fit(*training)
    assert judged.history_["loss"].tolist() == alone.history_["loss"].tolist()


@pytest.mark.parametrize("train", ["head", "all"])
def test_validation_data_may_be_a_stream(training, held_out, train):
    expected = quick(train).fit(*training, validation_data=held_out)
    for stream in (batches(*held_out), tuple(batches(*held_out, 9))):
        model = quick(train).fit(*training, validation_data=stream)
        np.testing.assert_allclose(model.history_["val_loss"], expected.history_["val_loss"], rtol=1e-5)
        assert model.history_["val_accuracy"].tolist() == expected.history_["val_accuracy"].tolist()


def test_validation_data_that_are_given_go_before_a_share(training, held_out):
    model = quick(validation_fraction=0.3).fit(*training, validation_data=held_out)
    same_model(model, quick().fit(*training, validation_data=held_out))


def test_the_best_epoch_is_kept(training, held_out):
    y = held_out[1]
    # Learning the opposite: the first epoch is the best.
    wrong = colours(18, seed=1)[0], np.roll(np.unique(y), 1)[np.unique(y, return_inverse=True)[1]]
    model = quick(epochs=6, schedule="constant").fit(*training, validation_data=wrong)
    assert model.best_epoch_ == 1
    assert len(model.history_) == 6
    same = quick(epochs=1, schedule="constant").fit(*training)
    np.testing.assert_array_equal(model.coef_, same.coef_)
    stopped = quick(epochs=6, schedule="constant", early_stopping=2).fit(*training, validation_data=wrong)
    assert stopped.history_.equals(model.history_[:3])
    np.testing.assert_array_equal(stopped.coef_, model.coef_)
    assert len(quick(epochs=9, early_stopping=True).fit(*training, validation_data=wrong).history_) == 6
