"""The exact engine: the truth, in bounded memory, whatever the blocks."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from sklearn_psp._indexes import ExactIndex, Searcher
from sklearn_psp._indexes._distances import pair_distances
from sklearn_psp.utils._arrays import unit_rows


def unit(X):
    X = np.ascontiguousarray(X, dtype=np.float32)
    return unit_rows(X)


def brute_force(G, Q, metric):
    """Full order by (distance, position), from the definition alone."""
    rows, columns = np.indices((len(Q), len(G))).reshape(2, -1)
    distances = pair_distances(Q, rows, G, columns, metric).reshape(len(Q), len(G))
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, axis=1), order


def rank_all(index, Q):
    parts = list(index.rank_all(Q))
    assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts[:-1])]
    assert parts[-1][0].stop == len(Q)
    return np.concatenate([positions for _, positions in parts])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_agrees_with_scipy_in_float64(metric, k):
    rng = np.random.default_rng(0)
    G, Q = rng.standard_normal((3000, 96)), rng.standard_normal((300, 96))
    G, Q = (unit(G), unit(Q)) if metric == "cosine" else (G.astype(np.float32), Q.astype(np.float32))
    truth = cdist(Q.astype(np.float64), G.astype(np.float64), metric)
    distances, positions = ExactIndex(G, metric=metric).query(Q, k)
    assert distances.dtype == np.float32
    assert positions.dtype == np.intp
    assert_allclose(distances, np.sort(truth, axis=1)[:, :k], rtol=2e-6)
    # In the order of the truth, but for pairs that are closer to each other than float32 can tell.
    assert_allclose(np.take_along_axis(truth, positions, axis=1), np.sort(truth, axis=1)[:, :k], rtol=2e-7)


vectors = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.just(n), st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 1000])
    )
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=vectors,
    metric=st.sampled_from(["cosine", "euclidean"]),
    k=st.integers(1, 60),
    memory=st.sampled_from([1e-4, 1e-3, 64]),
    scale=st.sampled_from([1.0, 1e-20, 1e18]),
    offset=st.sampled_from([0.0, 3.0, 1e4]),
)
def test_copies_ties_and_any_block_size_give_the_order_of_the_definition(shape, metric, k, memory, scale, offset):
    n, n_queries, n_features, seed, levels = shape
    rng = np.random.default_rng(seed)
    # Few levels make copies and ties, an offset makes the float32 product useless.
    X = ((rng.integers(1, levels + 2, (n + n_queries, n_features)) + offset) * scale).astype(np.float32)
    G, Q = X[:n], X[n:]
    if metric == "cosine":
        G, Q = unit(G), unit(Q)
    k = min(k, n)
    index = ExactIndex(G, metric=metric, working_memory=memory)
    distances, positions = index.query(Q, k)
    expected_distances, expected = brute_force(G, Q, metric)
    assert_array_equal(positions, expected[:, :k])
    assert_array_equal(distances, expected_distances[:, :k])
    assert_array_equal(rank_all(index, Q), expected)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_blocks_do_not_change_a_bit(metric):
    rng = np.random.default_rng(3)
    G = unit(rng.standard_normal((4000, 33)))
    G[1000:1500] = G[7]  # copies, in several blocks, more than are listed as candidates
    G[3990:] = G[:10]
    Q = np.vstack([G[[7, 3, 3999]], unit(rng.standard_normal((60, 33)))])
    default = ExactIndex(G, metric=metric)
    distances, positions = default.query(Q, 12)
    ranking = rank_all(default, Q)
    assert_array_equal(ranking[:, :12], positions)
    for memory in (0.02, 0.3, 5):
        index = ExactIndex(G, metric=metric, working_memory=memory)
        for got, expected in zip(index.query(Q, 12), (distances, positions), strict=True):
            assert_array_equal(got, expected)
        assert_array_equal(rank_all(index, Q), ranking)
    one_by_one = [default.query(q[None], 12) for q in Q]
    assert_array_equal(np.concatenate([d for d, _ in one_by_one]), distances)
    assert_array_equal(np.concatenate([p for _, p in one_by_one]), positions)


def test_far_from_the_origin_nothing_is_lost():
    rng = np.random.default_rng(4)
    X = (rng.standard_normal((2000, 64)) + 1e4).astype(np.float32)
    distances, positions = ExactIndex(X, metric="euclidean").query(X[:50], 10)
    truth = cdist(X[:50].astype(np.float64), X.astype(np.float64))
    assert_array_equal(positions, np.argsort(truth, axis=1)[:, :10])
    assert_allclose(distances, np.sort(truth, axis=1)[:, :10], rtol=1e-6)
    assert (distances[:, 0] == 0).all()


def test_huge_values_do_not_overflow():
    X = np.array(
        [[3e30, 0], [0, 3e30], [1e30, 1e30], [-3e30, 0], [9e29, 9e29], [0, 1], [1, 0], [2, 0], [3, 0]], np.float32
    )
    distances, positions = ExactIndex(X, metric="euclidean").query(X[2:3], 2)
    assert_array_equal(positions, [[2, 4]])
    assert_allclose(distances[0], [0, np.sqrt(2) * 1e29], rtol=1e-5)


@pytest.mark.parametrize("verb", ["query", "rank"])
def test_memory_is_bounded(verb):
    G = unit(np.random.default_rng(5).standard_normal((60_000, 8)))
    Q = G[:2000]
    index = ExactIndex(G, metric="cosine", working_memory=8)
    tracemalloc.start()
    if verb == "query":
        index.query(Q, 10)
    else:
        for _ in index.rank_all(Q[:40]):
            pass
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    # All scores at once would be 458 MiB for the queries, 9 MiB x (4 + 8 + 8 + 8) / 4 for the ranking.
    assert peak < 24, f"peak of {peak:.0f} MiB with working_memory=8"


def test_threads_of_blas_are_left_as_found_and_pickle_keeps_results(clustered, held_out, exact_index):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    expected = exact_index.query(held_out, 10)
    assert [pool["num_threads"] for pool in threadpoolctl.threadpool_info()] == before
    for got, wanted in zip(pickle.loads(pickle.dumps(exact_index)).query(held_out, 10), expected, strict=True):
        assert_array_equal(got, wanted)
    assert isinstance(exact_index, Searcher)
    assert exact_index.n_samples == len(clustered)
