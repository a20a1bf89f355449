"""The PyNNDescent engine: each pitfall of the library that FACTS.md lists ends here."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from sklearn_psp._indexes import ExactIndex, FixedIndex
from sklearn_psp._indexes._distances import expand_duplicates, group_duplicates
from sklearn_psp._indexes._pynndescent import PyNNDescentIndex
from sklearn_psp.utils._arrays import unit_rows


def unit(X):
    X = np.ascontiguousarray(X, dtype=np.float32)
    return unit_rows(X)


def recall(found, truth):
    return np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)])


def assert_sound(distances, positions, n):
    assert np.isfinite(distances).all()
    assert (np.diff(distances, axis=1) >= 0).all()
    assert (positions >= 0).all()
    assert (positions < n).all()
    assert all(len(np.unique(row)) == len(row) for row in positions)


# With k = 100 half of the neighbours are in other clusters, to which few edges of the graph lead.
@pytest.mark.parametrize(("k", "at_least"), [(1, 0.98), (10, 0.98), (100, 0.85)])
def test_finds_nearly_all_neighbours_though_clusters_are_islands(graph_index, exact_index, held_out, k, at_least):
    distances, positions = graph_index.query(held_out, k)
    assert_sound(distances, positions, 3000)
    true_distances, truth = exact_index.query(held_out, k)
    assert recall(positions, truth) >= at_least
    same = positions == truth
    assert_array_equal(distances[same], true_distances[same])


@pytest.mark.parametrize("k", [751, 3000])
def test_large_k_never_repeats_an_id(graph_index, exact_index, held_out, k):
    distances, positions = graph_index.query(held_out[:20], k)
    assert_sound(distances, positions, 3000)
    assert_array_equal(positions, exact_index.query(held_out[:20], k)[1])


def test_distances_above_one_are_right(clustered):
    # All vectors lean to one side here, so everything is far from the other side.
    leaning = unit(clustered + np.float32(1))
    index = PyNNDescentIndex(ExactIndex(leaning, metric="cosine"), random_state=0)
    distances, positions = index.query(-leaning[:100], 5)
    assert distances.min() > 1.5
    truth = cdist(-leaning[:100].astype(np.float64), leaning.astype(np.float64), "cosine")
    assert_allclose(distances, np.take_along_axis(truth, positions, axis=1), atol=1e-6)


def test_all_copies_are_found(clustered, graph_index):
    vectors = clustered.copy()
    vectors[100:131] = vectors[5]  # 31 copies: the library finds about half
    vectors[2000:2050] = vectors[6]
    index = PyNNDescentIndex(ExactIndex(vectors, metric="cosine"), random_state=0)
    distances, positions = index.query(vectors[[5, 6]], 40)
    assert_sound(distances, positions, 3000)
    assert_array_equal(positions[0, :32], [5, *range(100, 131)])
    assert (distances[0, :32] == 0).all()
    assert_array_equal(positions[1], [6, *range(2000, 2039)])


def test_a_gallery_of_copies_needs_no_graph():
    vectors = np.tile(np.float32([[0.6, 0.8]]), (500, 1))
    index = PyNNDescentIndex(ExactIndex(vectors, metric="cosine"))
    assert_array_equal(index.query(vectors[:2], 3)[1], [[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize("n", [1, 2, 30, 31, 119])
def test_small_galleries_are_searched_exactly(clustered, n):
    exact = ExactIndex(clustered[:n].copy(), metric="cosine")
    index = PyNNDescentIndex(exact)
    k = min(n, 10)
    for got, expected in zip(index.query(clustered[:20], k), exact.query(clustered[:20], k), strict=True):
        assert_array_equal(got, expected)


@pytest.mark.parametrize("n", [120, 121, 200])
def test_smallest_graphs_are_sound(graph_index, clustered, n):
    index = PyNNDescentIndex(ExactIndex(clustered[:n].copy(), metric="cosine"), random_state=0)
    distances, positions = index.query(clustered[:50], 10)
    assert_sound(distances, positions, n)


def test_rows_with_unfilled_or_repeated_places_are_searched_exactly(graph_index, exact_index, held_out):
    broken = pickle.loads(pickle.dumps(graph_index))
    whole = broken._graph.query

    class Faulty:
        def query(self, *args, **kwargs):
            found, distances = whole(*args, **kwargs)
            found[0, 3] = found[0, 2]
            found[1, 9], distances[1, 9] = -1, np.inf
            return found, distances

    broken._graph = Faulty()
    distances, positions = broken.query(held_out[:5], 10)
    assert_sound(distances, positions, 3000)
    assert_array_equal(positions[:2], exact_index.query(held_out[:2], 10)[1])
    assert_array_equal(positions[2:], graph_index.query(held_out[:5], 10)[1][2:])


def test_eight_threads_equal_one(graph_index, held_out):
    parts = [held_out[i : i + 5] for i in range(0, 500, 5)] * 4
    expected = [graph_index.query(part, 10) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda part: graph_index.query(part, 10), parts))
    for (d, p), (expected_d, expected_p) in zip(got, expected, strict=True):
        assert_array_equal(p, expected_p)
        assert_array_equal(d, expected_d)


def test_read_only_memmap_is_copied(graph_index, clustered, held_out, tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, clustered)
    vectors = np.load(path, mmap_mode="r")
    index = PyNNDescentIndex(ExactIndex(vectors, metric="cosine"), random_state=0)
    queries = held_out.copy()
    queries.flags.writeable = False
    for got, expected in zip(index.query(queries, 10), graph_index.query(held_out, 10), strict=True):
        assert_array_equal(got, expected)


def test_memory_mapped_pickle_owns_its_arrays(graph_index, held_out, tmp_path):
    joblib.dump(graph_index, tmp_path / "index.joblib")
    index = joblib.load(tmp_path / "index.joblib", mmap_mode="r")
    arrays = [value for value in vars(index._graph).values() if isinstance(value, np.ndarray)]
    assert arrays
    assert all(value.flags.writeable and not isinstance(value, np.memmap) for value in arrays)
    for got, expected in zip(index.query(held_out, 10), graph_index.query(held_out, 10), strict=True):
        assert_array_equal(got, expected)


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1, 10_000])
def test_numba_threads_are_left_as_found(graph_index, exact_index, n_jobs):
    import numba

    before = numba.get_num_threads()
    PyNNDescentIndex(exact_index, n_jobs=n_jobs, random_state=0)
    assert numba.get_num_threads() == before


def test_numba_threads_are_left_as_found_after_a_failed_build(graph_index, exact_index):
    import numba

    before = numba.get_num_threads()
    with pytest.raises(Exception, match=r".+"):
        PyNNDescentIndex(exact_index, n_jobs=1, random_state=0, n_iters="many")
    assert numba.get_num_threads() == before


def test_same_seed_repeats(graph_index, exact_index, held_out):
    again = PyNNDescentIndex(exact_index, random_state=0)
    for got, expected in zip(again.query(held_out, 10), graph_index.query(held_out, 10), strict=True):
        assert_array_equal(got, expected)
    PyNNDescentIndex(exact_index, random_state=np.random.RandomState(0))


def test_results_survive_the_next_query(graph_index, held_out):
    first = graph_index.query(held_out[:10], 5)
    kept = [array.copy() for array in first]
    graph_index.query(held_out[10:20], 5)
    for got, expected in zip(first, kept, strict=True):
        assert_array_equal(got, expected)


def test_it_is_an_index(graph_index):
    assert isinstance(graph_index, FixedIndex)
    assert graph_index.n_samples == 3000


def test_copies_are_grouped_and_expanded():
    vectors = np.float32([[1, 0], [0, 1], [1, -0.0], [2, 2], [0, 1], [1, 0]])
    distinct, (starts, members) = group_duplicates(vectors)
    groups = {int(first): members[starts[i] : starts[i + 1]].tolist() for i, first in enumerate(distinct)}
    assert groups == {0: [0, 2, 5], 1: [1, 4], 3: [3]}
    assert group_duplicates(vectors[:2]) == (None, None)
    found = np.array([[distinct.tolist().index(0), distinct.tolist().index(1)]])
    rows, columns = expand_duplicates(found, (starts, members), 2)
    assert_array_equal(rows, [0, 0])
    assert_array_equal(columns, [0, 2])
