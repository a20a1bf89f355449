"""One definition of a distance: exact at 0, bounded, the same whatever stands beside it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from sklearn_psp._indexes._distances import distance_keys, keys_to_result, pair_distances
from sklearn_psp.utils._arrays import blocks, squared_norms, unit_rows


@pytest.fixture
def X():  # noqa: N802 - the name of the argument it becomes
    return np.random.default_rng(0).standard_normal((700, 513)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_agrees_with_scipy_in_float64(X, metric):
    A = unit_rows(X) if metric == "cosine" else X
    rows, columns = np.indices((40, 700)).reshape(2, -1)
    ours = pair_distances(A, rows, A, columns, metric).reshape(40, 700)
    assert ours.dtype == np.float32
    assert_allclose(ours, cdist(X[:40].astype(np.float64), X.astype(np.float64), metric), rtol=2e-6, atol=2e-7)


def test_identical_vectors_are_at_zero_and_opposite_ones_at_two(X):
    units = unit_rows(np.vstack([X, -X]), squared_norms(np.vstack([X, -X])))
    here = np.arange(700)
    assert_array_equal(pair_distances(units, here, units.copy(), here, "cosine"), np.zeros(700, np.float32))
    opposite = pair_distances(units, here, units, here + 700, "cosine")
    assert_allclose(opposite, 2, rtol=3e-7)
    assert opposite.max() <= 2


def test_near_copies_are_told_apart_where_one_minus_dot_sees_nothing(X):
    units = unit_rows(X[:1], squared_norms(X[:1]))
    near = units.copy()
    near[0, :5] += np.float32(2e-5)
    distance = pair_distances(units, [0], near, [0], "cosine")[0]
    assert distance == pytest.approx(((near - units).astype(np.float64) ** 2).sum() / 2, rel=1e-6)
    assert 0 < distance < 1e-8


def test_a_row_gives_the_same_bits_alone_and_among_others(X):
    together = squared_norms(X)
    assert_array_equal(together, np.concatenate([squared_norms(X[i : i + 1]) for i in range(len(X))]))
    rows = np.random.default_rng(1).integers(0, 700, 3000)
    columns = np.random.default_rng(2).integers(0, 700, 3000)
    many = pair_distances(X, rows, X, columns, "euclidean")
    one = [pair_distances(X, rows[i : i + 1], X, columns[i : i + 1], "euclidean")[0] for i in range(3000)]
    assert_array_equal(many, one)
    assert_array_equal(many, pair_distances(X, columns, X, rows, "euclidean"))


def test_extreme_float32_values_neither_overflow_nor_vanish():
    X = np.array([[3e38, 3e38], [1e-38, 0], [np.nan, 1], [np.inf, 1]], dtype=np.float32)
    norms = squared_norms(X)
    assert_array_equal(np.isfinite(norms), [True, True, False, False])
    assert (norms[:2] > 0).all()
    assert_allclose(unit_rows(X[:2], norms[:2]), [[0.5**0.5, 0.5**0.5], [1, 0]], rtol=1e-6)


def test_keys_sort_by_distance_then_position():
    distances = np.array([0.5, -0.0, 0.0, np.inf, 0.5, 1e-45], dtype=np.float32)
    keys = distance_keys(distances, np.array([7, 4, 3, 0, 2, 9]))
    got, positions = keys_to_result(np.sort(keys))
    assert_array_equal(positions, [3, 4, 9, 2, 7, 0])
    assert_array_equal(got, np.sort(distances))
    assert positions.dtype == np.intp


def test_blocks_cover_the_range_and_none_is_empty():
    assert [list(range(10))[b] for b in blocks(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(blocks(0, 4)) == []
