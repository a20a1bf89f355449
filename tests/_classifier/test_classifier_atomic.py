"""A fit that fails or is interrupted leaves the classifier as it was: fitted with the same answers, or unfitted."""

from __future__ import annotations

import numpy as np
import pytest
from common.colours import colours, quick
from skorch.callbacks import Callback
from torch import nn

from sklearn_psp.exceptions import ImageReadError, TrainingDivergedError

N_COLUMNS = 32 * 32 * 3
VERBS = ["fit", "warm fit", "partial_fit"]


class Interrupts(Callback):
    """Control-C in the second batch."""

    n_batches = 0

    def on_batch_end(self, net, **kwargs):
        """Interrupt."""
        self.n_batches += 1
        if self.n_batches == 2:
            raise KeyboardInterrupt


class Diverges(nn.Module):
    """A loss that is no number from the second step on."""

    n_steps = 0

    def forward(self, scores, classes):
        """Return the loss of each image."""
        self.n_steps += 1
        losses = nn.functional.cross_entropy(scores, classes, reduction="none")
        return losses * (np.nan if self.n_steps > 1 else 1.0)


def bad_image(X, y):
    rows = [row.reshape(32, 32, 3) for row in X]
    return [*rows[:4], b"no image", *rows[5:]], y


# What is wrong, by name: parameters, images and labels, and the error.
FAILURES = {
    "bad image": ({}, bad_image, ImageReadError),
    "control-C": ({"callbacks": [Interrupts()], "batch_size": 8}, lambda X, y: (X, y), KeyboardInterrupt),
    "too few labels": ({}, lambda X, y: (X, y[:5]), ValueError),
    "one class": ({}, lambda X, y: (X, np.full(len(y), "mauve")), ValueError),
    "diverging loss": ({"loss": Diverges, "batch_size": 8}, lambda X, y: (X, y), TrainingDivergedError),
    "wrong width": ({}, lambda X, y: (X[:, : N_COLUMNS // 2 + 1], y), ValueError),
    "wrong parameter": ({"loss": "arcfase"}, lambda X, y: (X, y), ValueError),
}


@pytest.fixture(scope="module")
def rows():
    """Images as rows of a table, whose width an estimator remembers."""
    X, y = colours(18)
    return X.reshape(18, -1), y


def call(model, verb, X, y):
    if verb == "partial_fit":
        return model.partial_fit(X, y, classes=["blue", "green", "red"])
    return model.set_params(warm_start=verb == "warm fit").fit(X, y)


def answers(model, X):
    """Return what a fitted classifier says and holds, bit for bit."""
    held = {name: model.__dict__[name] for name in model.__dict__ if name.endswith("_") or name == "_training"}
    return model.predict_proba(X), model.decision_function(X), list(model.__dict__), held


@pytest.mark.parametrize("train", ["head", "all"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("failure", FAILURES)
def test_after_a_failed_fit_a_fitted_classifier_answers_as_before(rows, train, verb, failure):
    params, spoil, error = FAILURES[failure]
    model, untouched = (quick(train, image_shape=(32, 32, 3), epochs=2).fit(*rows) for _ in range(2))
    kept = {name: model.get_params()[name] for name in (*params, "warm_start")}
    before = answers(model, rows[0])
    with pytest.raises(error):
        call(model.set_params(**params), verb, *spoil(*rows))
    model.set_params(**kept)
    after = answers(model, rows[0])
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])
    assert after[2] == before[2]
    assert all(after[3][name] is item for name, item in before[3].items())
    # And training continues, with its optimizer, as that of a classifier without the failure.
    model.partial_fit(*rows)
    untouched.partial_fit(*rows)
    np.testing.assert_array_equal(model.coef_, untouched.coef_)
    assert model.history_.equals(untouched.history_)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("failure", [name for name in FAILURES if name != "wrong width"])
def test_after_a_failed_fit_an_unfitted_classifier_is_unfitted(rows, verb, failure):
    params, spoil, error = FAILURES[failure]
    model = quick(image_shape=(32, 32, 3), epochs=2, **params)
    names = set(vars(model))
    with pytest.raises(error):
        call(model, verb, *spoil(*rows))
    assert set(vars(model)) == names


def test_a_callback_of_scikit_learn_that_fails_changes_nothing(rows):
    pytest.importorskip("sklearn.callback", reason="sklearn.callback is absent")

    class Fails:
        def setup(self, estimator, context):
            """Do nothing."""

        def teardown(self, estimator, context):
            """Do nothing."""

        def on_fit_task_begin(self, estimator, context):
            """Do nothing."""

        def on_fit_task_end(self, estimator, context):
            if context.task_name == "fit":
                raise RuntimeError("at the very end")

    model = quick(image_shape=(32, 32, 3)).set_callbacks(Fails())
    with pytest.raises(RuntimeError, match="at the very end"):
        model.fit(*rows)
    assert not hasattr(model, "classes_")


def test_a_fit_forgets_the_width_of_an_earlier_table(rows):
    model = quick(image_shape=(32, 32, 3)).fit(*rows)
    assert model.n_features_in_ == N_COLUMNS
    model.fit(rows[0].reshape(18, 32, 32, 3), rows[1])
    assert not hasattr(model, "n_features_in_")


def test_continuing_changes_nothing_that_was_there(rows):
    """The state that is kept for `partial_fit` is that of the model, however often it is used."""
    model = quick(image_shape=(32, 32, 3), epochs=2).fit(*rows)
    kept, coef = model._training, model.coef_.copy()
    first = model.partial_fit(*rows).coef_.copy()
    model._training, model.coef_ = kept, coef
    model.history_ = model.history_[:2]
    np.testing.assert_array_equal(model.partial_fit(*rows).coef_, first)
