"""Images that cannot be read: in training, in the validation data, and in what is predicted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from common.colours import batches, quick

from sklearn_psp._classifier import _features
from sklearn_psp.exceptions import ImageReadError, ImageReadWarning, MissingImageError

TRAINS = ["head", "last_stage", "all"]
LEFT_OUT = "2 images could not be read and are left out; the first is X"


def same_model(one, other):
    assert one.history_.equals(other.history_)
    np.testing.assert_array_equal(one.coef_, other.coef_)


@pytest.mark.parametrize("train", TRAINS)
def test_unreadable_images_are_left_out_with_their_labels_and_weights(training, paths, bad_paths, train):
    y, weights = training[1], np.linspace(1, 3, 30)
    model = quick(train, on_error="nan", class_weight="balanced")
    with pytest.warns(ImageReadWarning, match=rf"{LEFT_OUT}\[4\]") as caught:
        model.fit(bad_paths, y, weights)
    assert model.errors_["index"].tolist() == [4, 11]
    assert model.errors_["source"].tolist() == [bad_paths[4], bad_paths[11]]
    assert len(caught) == 1
    assert caught[0].message.errors.equals(model.errors_)
    kept = np.setdiff1d(np.arange(30), [4, 11])
    expected = quick(train, on_error="nan", class_weight="balanced").fit(
        [paths[i] for i in kept], y[kept], weights[kept]
    )
    assert len(expected.errors_) == 0
    same_model(model, expected)


@pytest.mark.parametrize("params", [{}, {"part_dropout": 0.0}, {"train": "all"}], ids=str)
def test_positions_are_those_in_x(training, bad_paths, params, monkeypatch):
    # Described seven at a time; an image of no weight before those; and a share held out.
    monkeypatch.setattr(_features, "_DESCRIBED_AT_ONCE", 7)
    weights = np.ones(30)
    weights[[0, 5]] = 0
    model = quick(params.pop("train", "head"), on_error="nan", **params)
    with pytest.warns(ImageReadWarning, match=LEFT_OUT):
        model.fit(bad_paths, training[1], weights)
    assert model.errors_["index"].tolist() == [4, 11]
    with pytest.warns(ImageReadWarning) as caught:
        model.set_params(validation_fraction=0.4).fit(bad_paths, training[1], weights)
    found = np.concatenate([warning.message.errors["index"] for warning in caught])
    assert sorted(found) == [4, 11]


@pytest.mark.parametrize("train", TRAINS)
def test_raise_names_the_image(training, bad_paths, train):
    with pytest.raises(MissingImageError, match=r"1 of 30 images are files that do not exist: X\[11\] \('.*missing"):
        quick(train).fit(bad_paths, training[1])
    with pytest.raises(ImageReadError, match=r"X\[4\] \('.*broken.png'\) could not be decoded"):
        quick(train).fit(bad_paths[:11], training[1][:11])


def test_raise_names_the_image_in_a_later_block(training, bad_paths, monkeypatch):
    monkeypatch.setattr(_features, "_DESCRIBED_AT_ONCE", 3)
    with pytest.raises(ImageReadError, match=r"X\[4\] \('.*broken.png'\) could not be decoded"):
        quick().fit(bad_paths[:11], training[1][:11])


def test_missing_files_are_named_before_anything_is_described(training, bad_paths, monkeypatch):
    monkeypatch.setattr(_features, "_DESCRIBED_AT_ONCE", 3)
    with pytest.raises(MissingImageError, match=r"1 of 30 images .*: X\[11\]"):
        quick().fit(bad_paths, training[1])


@pytest.mark.parametrize("train", TRAINS)
def test_validation_data_are_read_before_the_first_epoch(training, bad_paths, train):
    y = training[1]
    seen = []

    class Notes:
        def setup(self, estimator, context):
            """Do nothing."""

        def teardown(self, estimator, context):
            """Do nothing."""

        def on_fit_task_begin(self, estimator, context):
            seen.append(context.task_name)

        def on_fit_task_end(self, estimator, context):
            return False

    pytest.importorskip("sklearn.callback", reason="sklearn.callback is absent")
    with pytest.raises(MissingImageError, match=r"X\[11\]"):
        quick(train).set_callbacks(Notes()).fit(*training, validation_data=(bad_paths, y))
    assert "epoch" not in seen
    model = quick(train, on_error="nan")
    with pytest.warns(ImageReadWarning, match=r"2 images of the validation data could not be read .* X\[4\]"):
        model.fit(*training, validation_data=(bad_paths, y))
    assert len(model.errors_) == 0
    kept = np.setdiff1d(np.arange(30), [4, 11])
    expected = quick(train).fit(*training, validation_data=(training[0][kept], y[kept]))
    np.testing.assert_allclose(model.history_["val_loss"], expected.history_["val_loss"], rtol=1e-5)


def test_predictions_of_unreadable_images(training, bad_paths):
    model = quick(on_error="nan").fit(*training)
    expected = model.predict_proba(training[0])
    expected[[4, 11]] = np.nan
    for verb in (model.predict_proba, model.decision_function, model.predict_log_proba):
        with pytest.warns(ImageReadWarning, match="2 images could not be read and are rows of NaN"):
            rows = verb(bad_paths)
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(rows).any(axis=1)), [4, 11])
        assert np.isnan(rows[[4, 11]]).all()
    with pytest.warns(ImageReadWarning):
        np.testing.assert_allclose(model.predict_proba(bad_paths), expected, atol=1e-5)
    message = r"2 images could not be read, the first is X\[4\]: .*predict_proba gives them rows of NaN"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageReadWarning)
        with pytest.raises(ImageReadError, match=message):
            model.predict(bad_paths)
    with pytest.raises(MissingImageError, match=r"X\[11\]"):
        quick().fit(*training).predict_proba(bad_paths)


@pytest.mark.parametrize("params", [{}, {"part_dropout": 0.0}], ids=str)
def test_when_nothing_can_be_read_there_is_nothing_to_fit(params):
    with pytest.raises(ImageReadError, match="none of the images could be read"):
        quick(on_error="nan", **params).fit(["nowhere/1.png", "nowhere/2.png"], ["a", "b"])


@pytest.mark.parametrize("train", ["head", "all"])
def test_a_bad_image_of_a_stream(training, bad_paths, train):
    stream = batches(bad_paths, training[1])
    model = quick(train, on_error="nan")
    if train == "all":
        with pytest.warns(ImageReadWarning), pytest.raises(ImageReadError, match=r"X\[4\] .*cannot be left out"):
            model.fit(stream)
        return
    with pytest.warns(ImageReadWarning, match=rf"{LEFT_OUT}\[4\]"):
        model.fit(stream)
    assert model.errors_["index"].tolist() == [4, 11]
    assert model.score(*training) > 0.5


def test_the_message_of_a_refit_is_about_that_fit(training, bad_paths):
    model = quick(on_error="nan")
    with pytest.warns(ImageReadWarning):
        model.fit(bad_paths, training[1])
    assert len(model.fit(*training).errors_) == 0
    assert not hasattr(model.set_params(on_error="raise").fit(*training), "errors_")
