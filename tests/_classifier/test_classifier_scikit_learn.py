"""In scikit-learn's tools: searches, pipelines, clones, and its callbacks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from common.colours import quick
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from sklearn_psp import PSPNetClassifier


def darker(X):
    return X // 2


def test_cross_validation_finds_what_can_be_learned(training):
    X, y = training
    assert (cross_val_score(quick(epochs=20, part_dropout=0.0, learning_rate=0.1), X, y, cv=3) == 1.0).all()
    np.testing.assert_array_equal(cross_val_predict(quick("all", epochs=8), list(X), y, cv=3), y)


def test_search_over_what_is_trained_and_how(training, paths):
    grid = {"train": ["head", "all"], "part_dropout": [0.0, 0.5], "bin_sizes": [(1, 2), (1, (3, 1))]}
    model = quick(epochs=3, augment="auto")
    search = GridSearchCV(model, grid, cv=2, scoring="neg_log_loss", error_score="raise").fit(paths, training[1])
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 8
    assert len(np.unique(scores)) == 8  # every parameter changes something
    assert search.predict(paths).tolist() == training[1].tolist()


def test_search_takes_images_in_a_column_of_a_table(training, paths):
    frame = pd.DataFrame({"path": paths}, index=range(100, 130))
    search = GridSearchCV(quick(), {"pooling": ["avg", "max"]}, cv=2).fit(frame[["path"]], training[1])
    assert search.score(frame["path"], training[1]) == 1.0


def test_pipeline_with_a_step_before(training):
    X, y = training
    pipeline = make_pipeline(FunctionTransformer(darker), quick()).fit(X, y)
    np.testing.assert_array_equal(pipeline.predict_proba(X), quick().fit(X // 2, y).predict_proba(X // 2))
    assert np.abs(pipeline.predict_proba(X) - quick().fit(X, y).predict_proba(X)).max() > 1e-4


def test_clone_is_unfitted_and_fits_alike(training):
    model = quick("all").fit(*training)
    copy = clone(model)
    assert not hasattr(copy, "classes_")
    assert not hasattr(copy, "_training")
    np.testing.assert_array_equal(copy.fit(*training).coef_, model.coef_)


def test_it_is_a_classifier_of_images():
    tags = get_tags(PSPNetClassifier())
    assert is_classifier(PSPNetClassifier())
    assert tags.target_tags.required
    assert not tags.input_tags.two_d_array
    assert get_tags(PSPNetClassifier(image_shape="auto")).input_tags.two_d_array


@pytest.fixture(scope="module")
def callbacks():
    """scikit-learn's callbacks."""
    return pytest.importorskip("sklearn.callback", reason="sklearn.callback is absent")


class StopsAfterTwo:
    """A callback of scikit-learn's that asks the model of every epoch, and ends the training after the second."""

    def __init__(self, X):
        self.X = X
        self.shares, self.histories, self.seen = [], [], []

    def setup(self, estimator, context):
        """Do nothing."""

    def teardown(self, estimator, context):
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        """Note what there is."""
        self.seen.append((context.task_name, len(X), len(y), metadata))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Note scores, and stop."""
        if context.task_name != "epoch":
            return False
        self.shares.append(fitted_estimator.predict_proba(self.X))
        self.histories.append(fitted_estimator.history_)
        return len(self.shares) == 2


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("train", ["head", "all"])
def test_callback_sees_the_model_of_each_epoch_and_stops(training, train):
    X, y = training
    weights = np.ones(len(y))
    callback = StopsAfterTwo(X)
    model = quick(train, epochs=4, schedule="constant").set_callbacks(callback).fit(X, y, weights)
    assert len(model.history_) == 2
    for epochs in (1, 2):
        expected = quick(train, epochs=epochs, schedule="constant").fit(X, y)
        np.testing.assert_allclose(callback.shares[epochs - 1], expected.predict_proba(X), atol=1e-6)
        assert callback.histories[epochs - 1].equals(expected.history_)
    np.testing.assert_allclose(callback.shares[1], model.predict_proba(X), atol=1e-6)
    names, lengths, labels, metadata = zip(*callback.seen, strict=True)
    assert names == ("fit", "epoch", "epoch")
    assert set(lengths) == set(labels) == {30}
    assert all(given["sample_weight"] is weights for given in metadata)


def test_scores_are_monitored_epoch_by_epoch(callbacks, training):
    X, y = training
    monitor = callbacks.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    model = quick(epochs=3).set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs().data_as_pandas
    assert len(log) == 4  # the whole, and the epochs
    assert log["neg_log_loss"].iloc[1:].is_monotonic_increasing
    assert log["accuracy"].iloc[0] == log["accuracy"].iloc[3] == model.score(X, y)


@pytest.mark.filterwarnings("ignore:The estimator FunctionTransformer does not support callbacks")
def test_progress_is_shown_through_a_pipeline(callbacks, training, capsys):
    pipeline = make_pipeline(FunctionTransformer(), quick(epochs=3)).set_callbacks(callbacks.ProgressBar())
    pipeline.fit(*training)
    shown = capsys.readouterr().out
    assert "PSPNetClassifier" in shown
    assert "100%" in shown


@pytest.mark.usefixtures("callbacks")
def test_callbacks_change_nothing(training):
    class Idle(StopsAfterTwo):
        def on_fit_task_end(self, estimator, context):
            return None

    watched = quick("all").set_callbacks(Idle(None)).fit(*training)
    assert watched.history_.equals(quick("all").fit(*training).history_)
