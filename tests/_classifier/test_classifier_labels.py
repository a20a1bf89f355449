"""What labels may be, and what is refused before an image is read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from common.colours import batches, quick

CODES = np.arange(9) % 3
NOWHERE = [f"nowhere/{i}.png" for i in range(9)]


@pytest.mark.parametrize(
    ("classes", "kind"),
    [(["b", "ä", "c"], "U"), ([7, -1, 3], "i"), ([2.0, 1.0, 5.0], "f"), ([True, False, True], "b")],
    ids=["str", "int", "whole floats", "bool"],
)
@pytest.mark.parametrize("form", [list, np.array, pd.Series])
def test_labels_of_any_type_come_back(training, classes, kind, form):
    # The colours' names are sorted blue, green, red.
    codes = np.unique(training[1], return_inverse=True)[1]
    y = np.array(classes)[codes]
    model = quick(epochs=20, learning_rate=0.05).fit(training[0], form(y.tolist()))
    np.testing.assert_array_equal(model.classes_, np.unique(classes))
    predicted = model.predict(training[0])
    assert predicted.dtype == model.classes_.dtype
    assert predicted.dtype.kind == ("O" if kind == "U" and form is pd.Series else kind)
    np.testing.assert_array_equal(predicted, y)


@pytest.mark.parametrize(
    "make",
    [lambda y: pd.Series(y, dtype="category"), lambda y: pd.Series(y, dtype="string"), lambda y: y.astype(object),
     lambda y: pd.DataFrame({"label": y})["label"]],
    ids=["categorical", "string", "object", "column"],
)  # fmt: skip
def test_labels_in_a_table_are_those_in_an_array(training, make):
    model, expected = quick().fit(training[0], make(training[1])), quick().fit(*training)
    assert model.classes_.tolist() == expected.classes_.tolist() == ["blue", "green", "red"]
    assert model.history_.equals(expected.history_)


def test_torch_labels_are_numbers(training):
    codes = np.unique(training[1], return_inverse=True)[1]
    model = quick().fit(training[0], torch.from_numpy(codes))
    np.testing.assert_array_equal(model.predict(training[0]), codes)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (CODES + 0.5, "Unknown label type: continuous"),
        (np.array([1, "a", 2] * 3, dtype=object), "Unknown label type"),
        (np.array(["a", None, "b"] * 3, dtype=object), r"y has 3 missing labels \(None or NaN\), the first at 1"),
        (pd.Series(["a", "b", pd.NA] * 3, dtype="string"), "y has 3 missing labels .* the first at 2"),
        (pd.Series(["a", None, "b"] * 3, dtype="category"), "y has 3 missing labels .* the first at 1"),
        (np.array([1, np.nan, 2] * 3), "Input y contains NaN"),
        (pd.Series([1, 2, None] * 3, dtype="Int64"), "Input y contains NaN"),
        (CODES * 0, r"y has 1 class \(0\), but a classifier needs at least 2"),
        (["one"] * 9, r"y has 1 class \('one'\)"),
        (np.eye(3)[CODES], r"shape \(9, 3\) instead: .*one-hot rows pass y.argmax\(axis=1\)"),
        (np.eye(3)[CODES].tolist(), r"pass y.argmax\(axis=1\)"),
        (torch.eye(3)[CODES], r"shape \(9, 3\) instead: .*pass y.argmax\(axis=1\)"),
        (pd.get_dummies(pd.Series(CODES)), r"pass y.argmax\(axis=1\)"),
        (CODES[:-1], "X has 9 images, but y has 8 labels"),
        (None, "requires y to be passed, but the target y is None: a label for each image of X"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(training, y, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(training[0][:9], y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": "arcfase"}, "loss='arcfase' is unknown: did you mean 'arcface'"),
        (
            {"loss": torch.nn.functional.cross_entropy},
            "loss=cross_entropy is no loss of torch: pass a name, or a class",
        ),
        ({"loss": int}, "loss=int is no loss of torch"),
        ({"loss": torch.nn.CrossEntropyLoss(), "loss_params": {"label_smoothing": 0.1}}, "loss is an instance"),
        ({"optimizer": "adm"}, "optimizer='adm' is unknown: did you mean 'adam'"),
        ({"optimizer": int}, "optimizer=int is no optimizer: pass a name, or a class of torch.optim"),
        ({"metrics": ("accurcy",)}, "metrics: 'accurcy' is unknown: did you mean 'accuracy'"),
        ({"metrics": ("accuracy", "accuracy")}, "'accuracy' occurs twice"),
        ({"augment": True}, "train='head' runs the network once"),
        ({"early_stopping": True}, "early_stopping=True needs validation data: pass validation_data to fit"),
        ({"early_stopping": 3, "train": "all"}, "early_stopping=3 needs validation data"),
        ({"validation_fraction": 0.1}, r"validation_fraction=0.1 of 9 images, by class: "),
        ({"schedule": "step"}, "The 'schedule' parameter of PSPNetClassifier must be a str among"),
        ({"part_dropout": 1.0}, r"The 'part_dropout' parameter .* range \[0.0, 1.0\)"),
        ({"learning_rate": 0}, "The 'learning_rate' parameter"),
    ],
)
def test_wrong_parameters_are_refused_before_a_image_is_read(params, message):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(NOWHERE, CODES)


@pytest.mark.parametrize("n", [8, 10])
def test_lengths_are_compared_before_a_image_is_read(n):
    with pytest.raises(ValueError, match=f"X has 9 images, but y has {n} labels"):
        quick().fit(NOWHERE, np.arange(n) % 3)


def test_a_dimension_that_is_more_than_there_are_is_refused(training):
    with pytest.raises(ValueError, match="reduce_dim=13 is more than the 12 channels"):
        quick(reduce_dim=13).fit(*training)


@pytest.mark.parametrize(
    ("validation_data", "message"),
    [
        ((NOWHERE, CODES, CODES), "validation_data must be a tuple .*got tuple of 3"),
        ([NOWHERE, CODES], "validation_data must be a tuple .*got list of 2"),
        (NOWHERE, "validation_data must be a tuple .*got list of 9"),
        ((NOWHERE, None), "a label for each image of validation_data"),
        ((NOWHERE, CODES[:5]), "validation_data has 9 images, but y has 5 labels"),
    ],
)
def test_validation_data_of_another_form_are_refused_before_a_image_is_read(validation_data, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(NOWHERE, CODES, validation_data=validation_data)


@pytest.mark.parametrize("train", ["head", "all"])
@pytest.mark.parametrize(
    ("change", "named"),
    [(lambda y: np.where(y == "red", "pink", y), "'pink'"), (lambda y: np.arange(len(y)) % 2, "0, 1")],
    ids=["another name", "another type"],
)
def test_labels_of_the_validation_data_must_be_classes(training, held_out, train, change, named):
    X, y = held_out
    for validation_data in ((X, change(y)), batches(X, change(y))):
        with pytest.raises(ValueError, match=f"validation_data has labels that are no classes .*: {named}; leave them"):
            quick(train).fit(*training, validation_data=validation_data)
