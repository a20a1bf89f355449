"""Rows of unit length, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from sklearn_psp.utils import _arrays
from sklearn_psp.utils._arrays import squared_norms, unit_rows


def expected_rows(X):
    X = X.astype(np.float64)
    lengths = np.sqrt((X**2).sum(axis=1, keepdims=True))
    return X / np.where(lengths == 0, 1, lengths)


@pytest.mark.parametrize("scale", [1.0, 1e38, 1e-38, 1e-42])
@pytest.mark.parametrize("in_place", [False, True])
def test_rows_of_any_size_get_unit_length(scale, in_place):
    X = (np.random.default_rng(0).uniform(-3, 3, size=(50, 7)) * scale).astype(np.float32)
    expected = expected_rows(X)
    before = X.copy()
    rows = unit_rows(X, out=X if in_place else None)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, rtol=3e-7, atol=1e-12)
    assert (rows is X) == in_place
    if not in_place:
        np.testing.assert_array_equal(X, before)


def test_huge_tiny_and_ordinary_rows_stand_side_by_side():
    X = np.random.default_rng(0).uniform(-3, 3, size=(4, 7)).astype(np.float32)
    X *= np.array([1e38, 1e-38, 1, 0], dtype=np.float32)[:, None]
    np.testing.assert_allclose(unit_rows(X), expected_rows(X), rtol=3e-7)


def test_rows_of_zeros_stay_and_rows_of_nan_stay():
    X = np.array([[0, 0], [np.nan, 1], [3, 4]], dtype=np.float32)
    np.testing.assert_allclose(unit_rows(X, out=X), [[0, 0], [np.nan, np.nan], [0.6, 0.8]], rtol=1e-7)


def test_rows_do_not_depend_on_those_beside_them(monkeypatch):
    X = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    expected = unit_rows(X)
    monkeypatch.setattr(_arrays, "_BLOCK", 21)
    np.testing.assert_array_equal(unit_rows(X), expected)
    np.testing.assert_array_equal(unit_rows(X.copy(), squared_norms(X), out=X), expected)


@pytest.mark.parametrize("neighbour", [np.nan, 1e38, 1e-40, 0.0])
def test_an_odd_neighbour_changes_no_bit(neighbour):
    X = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    expected = unit_rows(X)
    X[11] = neighbour
    np.testing.assert_array_equal(np.delete(unit_rows(X), 11, axis=0), np.delete(expected, 11, axis=0))


def test_no_rows_are_no_error():
    assert unit_rows(np.empty((0, 3), np.float32)).shape == (0, 3)
