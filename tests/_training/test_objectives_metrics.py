"""Metrics of an epoch are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from sklearn_psp._training import make_metrics
from sklearn_psp._training._objectives import METRICS

from .runs import CLASSES, make_training, part_batches

LABELS = np.array(["a", "b", "c", "d", "e", "f", "g"])


@st.composite
def predictions(draw):
    n = draw(st.integers(1, 25))
    numbers = arrays(np.int64, n, elements=st.integers(0, 6))
    return draw(numbers), draw(numbers)


@given(predictions())
@settings(max_examples=50)
def test_names_are_those_of_scikit_learn(drawn):
    y_true, y_pred = drawn
    found = make_metrics(["accuracy", "balanced_accuracy", "f1_macro"], LABELS)
    nobody = np.zeros(len(y_true), dtype=int)
    assert found["accuracy"](y_true, y_pred, nobody) == metrics.accuracy_score(y_true, y_pred)
    shares = [np.mean(y_pred[y_true == k] == k) for k in np.unique(y_true)]
    assert found["balanced_accuracy"](y_true, y_pred, nobody) == pytest.approx(np.mean(shares))
    expected = metrics.f1_score(y_true, y_pred, average="macro", zero_division=0.0)
    assert found["f1_macro"](y_true, y_pred, nobody) == pytest.approx(expected)


def test_top_5_counts_classes_with_a_higher_score():
    found = make_metrics(["top_5_accuracy"], LABELS)["top_5_accuracy"]
    assert found(np.zeros(4, int), np.zeros(4, int), np.array([0, 4, 5, 6])) == 0.5


def test_top_5_of_a_training_is_that_of_scikit_learn():
    scores = np.random.default_rng(0).normal(size=(40, 7))
    y_true = np.arange(40) % 7
    n_better = (scores > scores[np.arange(40), y_true][:, None]).sum(axis=1)
    found = make_metrics(["top_5_accuracy"], LABELS)["top_5_accuracy"](y_true, scores.argmax(axis=1), n_better)
    assert found == pytest.approx(metrics.top_k_accuracy_score(y_true, scores, k=5))


def test_a_function_gets_labels():
    seen = []

    def share_of_a(y_true, y_pred):
        seen.append((y_true, y_pred))
        return np.float32((y_pred == "a").mean())

    found = make_metrics([share_of_a], LABELS)["share_of_a"](np.array([0, 1]), np.array([0, 6]), np.zeros(2))
    assert (found, type(found)) == (0.5, float)
    assert [array.tolist() for array in seen[0]] == [["a", "b"], ["a", "g"]]


def test_columns_of_a_training():
    """What the callback collects, in training and validation, is of the right images."""

    def everything(y_true, y_pred):
        seen.append((y_true, y_pred))
        return 0.0

    seen = []
    training = make_training(metrics=make_metrics(["accuracy", everything, "top_5_accuracy"], CLASSES), epochs=1)
    data, validation = part_batches(30), part_batches(12, seed=1)
    training.run(data, validation, epochs=1)
    (row,) = training.history
    assert list(row) == [
        *("epoch", "loss", "accuracy", "everything", "top_5_accuracy"),
        *("val_loss", "val_accuracy", "val_everything", "val_top_5_accuracy", "learning_rate"),
    ]
    assert row["top_5_accuracy"] == row["val_top_5_accuracy"] == 1.0  # of three classes
    (_, _), (y_true, y_pred) = seen
    assert sorted(seen[0][0]) == sorted(CLASSES[data.classes])
    np.testing.assert_array_equal(y_true, CLASSES[validation.classes])
    scores = training.model.eval()(next(iter(part_batches(12, seed=1, batch_size=12).batches()))[0])
    np.testing.assert_array_equal(y_pred, CLASSES[scores.argmax(dim=1)])
    assert row["val_accuracy"] == pytest.approx((y_true == y_pred).mean())
    assert row["accuracy"] == pytest.approx((seen[0][0] == seen[0][1]).mean())


def test_unknown_names_get_a_hint():
    with pytest.raises(ValueError, match=r"metrics: 'acuracy' is unknown: did you mean 'accuracy'\?") as caught:
        make_metrics(["acuracy"], LABELS)
    assert all(name in str(caught.value) for name in METRICS)


def loss(y_true, y_pred):
    return 0.0


def test_a_column_has_one_metric():
    with pytest.raises(ValueError, match="metrics: 'accuracy' occurs twice"):
        make_metrics(["accuracy", "f1_macro", "accuracy"], LABELS)
    with pytest.raises(ValueError, match="history_ has a column 'loss' already"):
        make_metrics([loss], LABELS)
