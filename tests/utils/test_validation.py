"""Projections, labels as integers, and a choice of images by class."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_psp.utils._validation import check_labels, check_projection, sample_by_class


@pytest.mark.parametrize(
    "y", [["b", "a", "b"], [2.5, 1.0, 2.5], pd.Series([True, False, True]), np.array(["x", "y", "x"])]
)
def test_equal_labels_are_equal_integers(y):
    codes = check_labels(y, 3)
    assert codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_refused_with_their_place(missing):
    with pytest.raises(ValueError, match="y has 2 missing labels, the first at 1"):
        check_labels(np.array(["a", missing, missing], dtype=object), 3)


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12), n_most=st.integers(1, 60), seed=st.integers(0, 99))
def test_a_choice_is_bounded_ascending_and_spread_over_classes(sizes, n_most, seed):
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = sample_by_class(codes, n_most, np.random.RandomState(seed))
    again = sample_by_class(codes, n_most, np.random.RandomState(seed))
    np.testing.assert_array_equal(rows, again)
    assert (np.diff(rows) > 0).all()
    assert len(rows) <= n_most
    if len(codes) <= n_most:
        assert len(rows) == len(codes)
        return
    per_class = max(4, n_most // len(sizes))
    counts = np.bincount(codes[rows], minlength=len(sizes))
    assert (counts <= np.minimum(sizes, per_class)).all()
    # Classes are full but for the one at which the bound was met.
    taken = counts[counts > 0]
    assert (taken < np.minimum(np.asarray(sizes)[counts > 0], per_class)).sum() <= 1


@pytest.mark.parametrize("make", [list, np.asarray, lambda x: np.asarray(x, dtype=np.float32), lambda x: np.int64(x)])
def test_a_projection_is_taken_from_any_array_like(make):
    given_matrices = make([[[1.0, 2.0]], [[3.0, -4.0]]])
    matrices = check_projection(given_matrices, 2, 1)
    assert matrices.dtype == np.float32
    assert matrices.tolist() == [[[1, 2]], [[3, -4]]]
    assert check_projection(None, 2, 1) is None


@pytest.mark.parametrize(
    ("projection", "message"),
    [
        (np.ones((1, 3)), r"projection has shape \(1, 3\), but bin_sizes make 2 levels and the backbone gives 1,280 c"),
        (np.ones((1, 1280, 3)), r"projection has shape \(1, 1280, 3\), .*: a matrix each, \(2, 1280, n_components\)"),
        (np.ones((2, 3, 1280)), r"projection has shape \(2, 3, 1280\)"),
        (np.ones((2, 1280, 0)), r"projection has shape \(2, 1280, 0\)"),
        ([[[1.0]], [[1.0, 2.0]]], r"projection is not an array of numbers \(.*inhomogeneous.*\); bin_sizes make 2"),
        ([["a"]], r"projection is not an array of numbers \(could not convert"),
    ],
    ids=["2-D", "levels", "transposed", "empty", "ragged", "text"],
)
def test_another_projection_is_refused_with_the_shape_it_should_have(projection, message):
    with pytest.raises(ValueError, match=message):
        check_projection(projection, 2, 1280)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_projection_that_is_not_finite_is_refused_with_the_place(value):
    projection = np.ones((2, 4, 3))
    projection[1, 2, :2] = value
    message = r"must be finite in float32, but projection\[1, 2, 0\] is (nan|inf); 2 of its numbers are not"
    with pytest.raises(ValueError, match=message):
        check_projection(projection, 2, 4)
