"""The sharp edges of PyNNDescent, one by one, as a user of the retriever meets them: none is left.

Each test would fail if the library were called in the retriever's place.
"""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from sklearn_psp import NearestImageRetriever

N = 1500


def clusters(n=N, d=32, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(5).standard_normal((30, d))
    return (centres[rng.integers(0, 30, n)] + 0.5 * rng.standard_normal((n, d))).astype(np.float32)


def retriever(n_neighbors=10, **parameters):
    return NearestImageRetriever(n_neighbors, algorithm="pynndescent", random_state=0, **parameters)


@pytest.fixture(scope="module", name="X")
def gallery_vectors():
    return clusters()


@pytest.fixture(scope="module")
def fitted(X):
    return retriever().fit(X)


@pytest.fixture(scope="module")
def exact(X):
    return NearestImageRetriever(algorithm="exact").fit(X)


def test_1_small_galleries_never_wait_for_a_compiler():
    code = (
        "import sys, numpy as np; from sklearn_psp import NearestImageRetriever as R;"
        "r = R(2).fit(np.eye(9)); r.kneighbors(np.eye(9)); r.partial_fit(np.eye(9));"
        "r.remove([0]).retrieve(np.eye(9));"
        "assert not {'numba', 'pynndescent', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_2_a_large_k_does_not_lose_recall_in_silence(fitted, exact, X):
    queries = clusters(100, seed=1)
    found, truth = fitted.kneighbors(queries, 100)[1], exact.kneighbors(queries, 100)[1]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(found, truth, strict=True)]) > 0.9
    with pytest.raises(ValueError, match="'epsilon'\\] must be a number above 0; got 0"):
        retriever(engine_params={"epsilon": 0}).fit(X)


def test_3_threads_get_their_own_rows(fitted):
    parts = np.array_split(clusters(2000, seed=2), 400)
    expected = [fitted.kneighbors(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(fitted.kneighbors, parts))
    for one, other in zip(got, expected, strict=True):
        assert_array_equal(one, other)


def test_4_cosine_distances_go_up_to_two(X):
    leaning = np.abs(X)
    distances, positions = retriever(5).fit(leaning).kneighbors(-leaning[:50])
    truth = cdist(-leaning[:50].astype(np.float64), leaning.astype(np.float64), "cosine")
    assert distances.min() > 1.2
    assert_allclose(distances, np.take_along_axis(truth, positions, 1), atol=1e-6)


def test_5_no_id_twice_all_copies_found_and_nonsense_refused(fitted, X):
    with pytest.raises(ValueError, match="Expected n_neighbors <= n_samples_fit"):
        fitted.kneighbors(X[:1], N + 1)
    assert all(len(set(row)) == N for row in fitted.kneighbors(X[:3], N)[1])
    copies = X.copy()
    copies[10:60] = copies[3]
    assert set(retriever().fit(copies).kneighbors(copies[[3]], 51)[1][0]) == {3, *range(10, 60)}
    for bad in (0, np.nan, np.inf):
        with pytest.raises(ValueError, match="cannot search such rows"):
            fitted.kneighbors(np.full((1, 32), bad))


@pytest.mark.parametrize("n", [1, 2, 31, 119, 120])
def test_6_any_input_of_any_size(X, n, tmp_path):
    np.save(tmp_path / "X.npy", X[:n])
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    frozen = X[:n].copy()
    frozen.flags.writeable = False
    k = min(n, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = retriever(k).fit(X[:n]).kneighbors(X[:9])
        for given in (X[:n].tolist(), mapped, frozen, X[:n].astype(np.float64), np.asfortranarray(X[:n])):
            for got, wanted in zip(retriever(k).fit(given).kneighbors(X[:9].tolist()), expected, strict=True):
                assert_array_equal(got, wanted)
    with pytest.raises(ValueError, match="0 sample"):
        retriever().fit(X[:0])


@pytest.mark.parametrize("n_jobs", [1, 2, 64, -1])
def test_7_threads_of_numba_are_left_as_found_and_any_number_may_be_asked_for(X, n_jobs):
    import numba

    before = numba.get_num_threads()
    with pytest.raises(Exception, match="range"):  # numba's error in the middle of building
        retriever(n_jobs=n_jobs, engine_params={"n_iters": "many"}).fit(X)
    assert numba.get_num_threads() == before
    retriever(n_jobs=n_jobs).fit(X)
    assert numba.get_num_threads() == before


def test_8_images_can_be_removed_also_after_unpickling(fitted, X, tmp_path):
    joblib.dump(fitted, tmp_path / "fitted")
    again = joblib.load(tmp_path / "fitted").remove([7])
    assert 7 not in again.retrieve(X[[7]], 50)["id"].tolist()
    assert again.partial_fit(X[[7]], ids=[7]).retrieve(X[[7]], 1)["id"].tolist() == [7]
    assert fitted.retrieve(X[[7]], 1)["id"].tolist() == [7]


def test_9_seeds_repeat_and_the_gallery_keeps_no_hold_of_the_array(X):
    given = X.copy()
    one = retriever(metric="euclidean").fit(given)
    given[:] = 0
    other = retriever(metric="euclidean").fit(X)
    for got, wanted in zip(one.kneighbors(X[:100]), other.kneighbors(X[:100]), strict=True):
        assert_array_equal(got, wanted)


def test_10_labels_stay_labels(X):
    y = np.arange(N) % 3
    assert_array_equal(retriever().fit(X, y).labels_, y)
    graph = retriever().fit_transform(X, y)
    assert graph.shape == (N, N)
    assert (graph.getnnz(axis=1) == 11).all()
