"""Scores, probabilities and labels agree with each other, and with the featurizer and the history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from common.colours import batches, colours, quick
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from sklearn_psp import PSPNetClassifier
from sklearn_psp.datasets import load_photographs, make_distorted_copies

TRAINED = {
    "head": {},
    "global features": {"part_dropout": 0.0},
    "concat, reduced": {"aggregation": "concat", "reduce_dim": 3},
    "learned weights": {"part_weights": "learned", "pooling": "avg"},
    "stripes": {"bin_sizes": (1, (3, 1)), "part_weights": (2.0, 1, 1, 1), "part_order": "column"},
    "two scales": {"scales": (1.0, 1.5), "flip": True},
    "arcface": {"loss": "arcface", "learning_rate": 0.1},
    "last stage": {"train": "last_stage", "reduce_dim": 4, "part_weights": "learned"},
    "all": {"train": "all", "pooling": "gem", "dropout": 0.1},
    "all, two scales": {"train": "all", "scales": (1.0, 1.5), "flip": True},
    "all, arcface": {"train": "all", "loss": "arcface", "aggregation": "concat"},
}


@pytest.fixture(scope="module", params=TRAINED)
def fitted(request, training, held_out):
    """A fitted classifier, trained with validation data."""
    params = dict(TRAINED[request.param])
    return quick(params.pop("train", "head"), **params).fit(*training, validation_data=held_out)


def test_scores_are_linear_in_the_features(fitted, held_out):
    X = held_out[0]
    features = fitted.featurizer_.transform(X)
    scores = fitted.decision_function(X)
    assert fitted.coef_.shape == (3, features.shape[1])
    assert fitted.intercept_.shape == (3,)
    assert fitted.coef_.dtype == fitted.intercept_.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(scores, features @ fitted.coef_.T + fitted.intercept_, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_probabilities_and_labels_follow_the_scores(fitted, held_out):
    X, y = held_out
    scores, shares = fitted.decision_function(X).astype(float), fitted.predict_proba(X)
    np.testing.assert_allclose(shares, softmax(scores, axis=1), atol=1e-12)
    np.testing.assert_allclose(fitted.predict_log_proba(X), log_softmax(scores, axis=1), atol=1e-12)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[scores.argmax(axis=1)])
    assert fitted.score(X, y) == accuracy_score(y, fitted.predict(X))
    weights = np.arange(len(y))
    assert fitted.score(X, y, weights) == accuracy_score(y, fitted.predict(X), sample_weight=weights)


def test_the_kept_epoch_is_that_of_the_history(fitted, held_out):
    X, y = held_out
    assert fitted.best_epoch_ == fitted.history_["epoch"][fitted.history_["val_loss"].idxmin()]
    row = fitted.history_.set_index("epoch").loc[fitted.best_epoch_]
    if fitted.loss != "arcface":  # its margin is for training alone, but its scale is in the scores
        assert row["val_loss"] == pytest.approx(log_loss(y, fitted.predict_proba(X)), abs=2e-4)
    assert row["val_accuracy"] == pytest.approx(fitted.score(X, y))


def test_loss_of_arcface_is_that_of_scaled_cosines(training, held_out):
    model = quick(loss="arcface").fit(*training, validation_data=held_out)
    loss = log_loss(held_out[1], model.predict_proba(held_out[0]))
    assert model.history_["val_loss"].min() == pytest.approx(loss, abs=2e-4)
    np.testing.assert_allclose(np.linalg.norm(model.coef_, axis=1), 30, rtol=1e-5)
    assert not model.intercept_.any()


@pytest.mark.parametrize("train", ["head", "last_stage", "all"])
def test_what_can_be_learned_is_learned(training, held_out, train):
    model = quick(train, epochs=8).fit(*training)
    assert model.score(*held_out) == 1.0
    assert model.history_["loss"].iloc[-1] < model.history_["loss"].iloc[0]
    assert model.best_epoch_ is None


def test_two_classes_have_one_score(training):
    X, y = colours(12, n_classes=2)
    model = quick().fit(X, y)
    scores, shares = model.decision_function(X), model.predict_proba(X)
    assert scores.shape == (12,)
    assert shares.shape == (12, 2)
    np.testing.assert_allclose(scores, np.log(shares[:, 1] / shares[:, 0]), atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), model.classes_[(scores > 0).astype(int)])
    assert model.coef_.shape[0] == 2


def share_of_red(y_true, y_pred):
    return (y_pred == "red").mean()


@pytest.mark.parametrize("train", ["head", "all"])
def test_history_has_a_column_for_each_metric(training, held_out, train):
    metrics = ("accuracy", "balanced_accuracy", "f1_macro", "top_5_accuracy", share_of_red)
    names = [*metrics[:4], "share_of_red"]
    model = quick(train, metrics=metrics, schedule="constant").fit(*training, validation_data=held_out)
    expected = ["epoch", "loss", *names, "val_loss", *[f"val_{name}" for name in names], "learning_rate"]
    assert model.history_.columns.tolist() == expected
    assert model.history_["epoch"].tolist() == list(range(1, model.epochs + 1))
    assert (model.history_["learning_rate"] == 1e-2).all()
    row, predicted, y = model.history_.iloc[model.best_epoch_ - 1], model.predict(held_out[0]), held_out[1]
    assert row["val_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert row["val_f1_macro"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert row["val_top_5_accuracy"] == 1.0
    assert row["val_share_of_red"] == pytest.approx((predicted == "red").mean())


def test_without_validation_data_history_is_of_the_training_alone(training):
    history = quick(metrics=()).fit(*training).history_
    assert history.columns.tolist() == ["epoch", "loss", "learning_rate"]
    assert history["learning_rate"].is_monotonic_decreasing


def test_epochs_and_rates_that_are_auto(training):
    model = quick("head", epochs="auto", learning_rate="auto").fit(*training)
    assert len(model.history_) == 30
    assert model.history_["learning_rate"][0] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(
    "params",
    [
        {"loss": "focal"},
        {"loss": "label_smoothing", "loss_params": {"label_smoothing": 0.2}},
        {"loss": torch.nn.MultiMarginLoss},
        {"loss": torch.nn.CrossEntropyLoss(label_smoothing=0.1)},
        {"optimizer": "sgd", "optimizer_params": {"momentum": 0.9}, "clip_norm": 1.0},
        {"optimizer": torch.optim.AdamW, "optimizer_params": {"weight_decay": 0.01}},
    ],
    ids=str,
)
def test_losses_and_optimizers_learn(training, held_out, params):
    assert quick(epochs=10, **params).fit(*training).score(*held_out) > 0.9


FORMS = {
    "files in a Series": lambda X, paths: pd.Series(paths, index=range(50, 80)),
    "files in a DataFrame": lambda X, paths: pd.DataFrame({"path": paths}),
    "contents": lambda X, paths: [Path(path).read_bytes() for path in paths],
    "tensor": lambda X, paths: torch.from_numpy(X.transpose(0, 3, 1, 2).copy()),
}


@pytest.mark.parametrize("train", ["head", "all"])
@pytest.mark.parametrize("form", FORMS)
def test_images_train_alike_whatever_they_come_as(training, paths, train, form):
    X, y = training
    expected, other = quick(train).fit(X, y), FORMS[form](X, paths)
    model = quick(train).fit(other, y)
    pd.testing.assert_frame_equal(model.history_, expected.history_, rtol=1e-4)
    np.testing.assert_allclose(model.predict_proba(other), expected.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("train", ["head", "all"])
def test_rows_of_a_table_are_images_with_image_shape(training, train):
    X, y = training
    rows = X.reshape(len(X), -1)
    model, expected = quick(train, image_shape=(32, 32, 3)).fit(rows, y), quick(train).fit(X, y)
    assert model.n_features_in_ == 32 * 32 * 3
    np.testing.assert_allclose(model.predict_proba(rows), expected.predict_proba(X), atol=1e-4)
    frame = pd.DataFrame(rows / 255, columns=[f"pixel{i}" for i in range(3072)])
    model.fit(frame, y, validation_data=(frame, y))
    assert model.feature_names_in_[0] == "pixel0"
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"pixel0": "a"}))
    with pytest.raises(ValueError, match="has 3071 features, but PSPNetClassifier is expecting 3072"):
        model.fit(rows, y).predict(rows[:, 1:])
    model.fit(X, y)
    assert not hasattr(model, "n_features_in_")


def test_photographs_are_known_again_when_they_are_distorted():
    photographs = load_photographs()
    names = np.array(photographs.target_names)[:6]
    copies = make_distorted_copies(photographs.filenames[:6], names)
    model = PSPNetClassifier(image_size=96, scales=(1.0,), precision="float32", epochs=15, random_state=0)
    model.fit(photographs.filenames[:6], names)
    assert model.coef_.shape == (6, 1280)
    # At random it would be a sixth.
    assert model.score(copies.images, copies.target) > 0.7


def test_a_real_network_is_trained_from_its_last_stage():
    some, y = load_photographs().filenames[:6], [0, 1, 2] * 2
    params = {"image_size": 64, "precision": "float32", "runtime": "torch", "device": "cpu", "random_state": 0}
    model = PSPNetClassifier(train="last_stage", epochs=2, batch_size=3, **params).fit(
        some, y, validation_data=(some, y)
    )
    loss = log_loss(y, model.predict_proba(some))
    assert model.history_["val_loss"].min() == pytest.approx(loss, abs=1e-3)
    assert model.score(some, y) == 1.0
    assert model.featurizer_.backbone_info_["source"].startswith("trained from the package")


def test_batches_of_images_are_predicted_too(training):
    X, y = training
    model = quick().fit(X, y)
    np.testing.assert_allclose(
        model.predict_proba(images for images, _ in batches(X, y)), model.predict_proba(X), atol=1e-5
    )
