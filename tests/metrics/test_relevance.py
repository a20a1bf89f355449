"""Labels of any kind -> relevance."""

import numpy as np
import pandas as pd
import pytest

from sklearn_psp.metrics import relevance_from_labels


@pytest.mark.parametrize(
    "convert",
    [
        list,
        np.array,
        lambda y: np.array(y, dtype=object),
        pd.Series,
        lambda y: pd.Series(y, dtype="category"),
    ],
)
@pytest.mark.parametrize("labels", [[0, 1], ["a", "b"], [0.5, 1.5], [False, True]])
def test_every_kind_of_label_is_compared_by_equality(convert, labels):
    first, second = labels
    relevance = relevance_from_labels(convert(labels), [[first, second, first], [first, second, first]])
    assert relevance.dtype == bool
    np.testing.assert_array_equal(relevance, [[True, False, True], [False, True, False]])


def test_one_ranking_serves_all_queries():
    np.testing.assert_array_equal(relevance_from_labels([1, 2], [2, 1, 2]), [[False, True, False], [True, False, True]])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_missing_labels_never_match_even_themselves(missing):
    relevance = relevance_from_labels(["a", missing], [["a", missing], ["a", missing]])
    np.testing.assert_array_equal(relevance, [[True, False], [False, False]])


@pytest.mark.parametrize(
    "y",
    [
        np.array([1.0, np.nan]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series(["a", None]),
        pd.Series(["a", None], dtype="string"),
        pd.Series(["a", None], dtype="category"),
        np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"),
    ],
)
def test_missing_labels_of_typed_arrays_never_match(y):
    np.testing.assert_array_equal(relevance_from_labels(y, np.asarray(y)), [[True, False], [False, False]])


def test_list_of_strings_with_nan_does_not_become_the_string_nan():
    assert not relevance_from_labels(["nan"], [["a", np.nan]]).any()


def test_numbers_do_not_match_strings():
    np.testing.assert_array_equal(relevance_from_labels([1, "1"], [[1, "1"], [1, "1"]]), [[1, 0], [0, 1]])
    assert not relevance_from_labels(np.array([1]), np.array([["1"]])).any()


def test_arguments_are_left_as_they_were():
    y = np.array(["a", None], dtype=object)
    relevance_from_labels(y, y)
    assert y.tolist() == ["a", None]


@pytest.mark.parametrize(
    ("y_query", "y_ranked", "message"),
    [
        ([[1]], [[1]], r"y_query must have the shape \(n_queries,\).*got the shape \(1, 1\)"),
        ([1, 2], [[1]], r"y_ranked must have the shape.*\(2, n_ranked\).*got the shape \(1, 1\)"),
        ([1], [[[1]]], r"y_ranked must have the shape.*got the shape \(1, 1, 1\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(y_query, y_ranked, message):
    with pytest.raises(ValueError, match=message):
        relevance_from_labels(y_query, y_ranked)
