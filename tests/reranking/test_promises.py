"""What every re-ranker promises."""

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_psp._indexes import ExactIndex
from sklearn_psp.reranking import _base

from .conftest import RERANKERS, View, clustered


def assert_same_ranking(distances, positions, expected, tolerance=2e-6):
    """Positions are those with the smallest expected distances, but for differences below the tolerance."""
    assert len(set(positions)) == len(positions)
    assert_allclose(distances, expected[positions], atol=tolerance)
    assert_allclose(distances, np.sort(expected)[: len(positions)], atol=tolerance)
    assert (np.diff(distances) >= 0).all()


@pytest.mark.parametrize("metric", ["given", "cosine", "euclidean"])
def test_agrees_with_the_equations_in_float64(case, metric):
    reranker, oracle = case
    G, Q = np.split(clustered(70), [60])
    index = {"given": None, "cosine": View(G), "euclidean": ExactIndex(G, metric="euclidean")}[metric]
    distances, positions = clone(reranker).fit(G, index=index).rerank(Q, 60)
    assert distances.dtype == np.float32
    assert positions.dtype == np.intp
    for i, q in enumerate(Q):
        assert_same_ranking(distances[i], positions[i], oracle(G, q))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(RERANKERS)),
    n=st.integers(2, 40),
    noise=st.sampled_from([0.1, 0.5, 2.0]),
    seed=st.integers(0, 1000),
)
def test_own__is_as_if_the_gallery_had_no_such_row(name, n, noise, seed):
    reranker, oracle = RERANKERS[name]
    G = clustered(n, seed=seed, noise=noise)
    i = seed % n
    rest = np.delete(np.arange(n), i)
    distances, positions = clone(reranker).fit(G, index=View(G)).rerank(G[[i]], n - 1, own=[i])
    expected, at = clone(reranker).fit(G[rest], index=View(G[rest])).rerank(G[[i]], n - 1)
    assert_array_equal(distances, expected)
    assert_array_equal(positions, rest[at])
    assert_same_ranking(distances[0], np.searchsorted(rest, positions[0]), oracle(G[rest], G[i]))


def test_own__every_row_of_the_gallery_at_once(reranker):
    G = clustered(50)
    fitted = clone(reranker).fit(G, index=View(G))
    distances, positions = fitted.rerank(G, 20, own=np.arange(50))
    for i in range(50):
        rest = np.delete(np.arange(50), i)
        expected, at = clone(reranker).fit(G[rest], index=View(G[rest])).rerank(G[[i]], 20)
        assert_array_equal(positions[i], rest[at[0]])
        assert_array_equal(distances[i], expected[0])


def test_own__minus_one_is_a_query_from_elsewhere(reranker):
    G = clustered(30)
    fitted = clone(reranker).fit(G, index=View(G))
    mixed = fitted.rerank(G[:3], 10, own=[-1, 1, -1])
    without, with_own = fitted.rerank(G[:3], 10), fitted.rerank(G[:3], 10, own=[0, 1, 2])
    for a, b, c in zip(mixed, without, with_own, strict=True):
        assert_array_equal(a[[0, 2]], b[[0, 2]])
        assert_array_equal(a[1], c[1])


def test_own__that_another_view_does_not_find(reranker):
    G = clustered(30)
    fitted = clone(reranker).fit(G, index=View(G))
    view = View(G, np.arange(10, 30))
    _, positions = fitted.rerank(G[:2], 20, index=view, own=[0, 1])
    assert_array_equal(np.sort(positions, axis=1), np.tile(np.arange(10, 30), (2, 1)))


def test_own__a_copy_of_the_query_stays(reranker):
    G = clustered(30)
    G[7] = G[3]
    _, positions = clone(reranker).fit(G, index=View(G)).rerank(G[[3]], 29, own=[3])
    assert 3 not in positions
    assert 7 in positions


def test_view__only_its_rows_are_results(reranker):
    G, Q = np.split(clustered(60), [50])
    rows = np.arange(0, 50, 3)
    fitted = clone(reranker).fit(G, index=View(G))
    _, positions = fitted.rerank(Q, len(rows), index=View(G, rows))
    assert_array_equal(np.sort(positions, axis=1), np.tile(rows, (10, 1)))
    _, few = fitted.rerank(Q, 3, index=View(G, rows))
    assert np.isin(few, rows).all()


def test_view__of_everything_changes_nothing(reranker):
    G, Q = np.split(clustered(60), [50])
    fitted = clone(reranker).fit(G, index=View(G))
    for a, b in zip(fitted.rerank(Q, 20), fitted.rerank(Q, 20, index=View(G)), strict=True):
        assert_array_equal(a, b)


def test_removed_rows__are_never_found_nor_counted(reranker):
    G, Q = np.split(clustered(60), [50])
    kept = np.delete(np.arange(50), [2, 3, 30])
    with_nan = G.copy()
    with_nan[[2, 3, 30]] = np.nan
    distances, positions = clone(reranker).fit(with_nan, index=View(G, kept)).rerank(Q, 47)
    expected, at = clone(reranker).fit(G[kept], index=View(G[kept])).rerank(Q, 47)
    assert_array_equal(positions, kept[at])
    assert_array_equal(distances, expected)


def test_ties__go_to_the_smaller_position(reranker):
    G = clustered(20)
    G = np.concatenate([G, G[::-1], G])
    Q = clustered(3, seed=1)
    distances, positions = clone(reranker).fit(G, index=View(G)).rerank(Q, 60)
    tied = (distances[:, 1:] == distances[:, :-1]) & (G[positions[:, 1:]] == G[positions[:, :-1]]).all(axis=2)
    assert tied.sum() > 10
    assert (np.diff(positions)[tied] > 0).all()


def test_ties__copies_of_one_image_keep_their_order(reranker):
    G = np.repeat(clustered(1), 30, axis=0)
    fitted = clone(reranker).set_params(k=40).fit(G)
    assert_array_equal(fitted.rerank(G[:1], 30)[1], [np.arange(30)])
    assert_array_equal(fitted.rerank(G[:1], 29, own=[4])[1], [np.delete(np.arange(30), 4)])


def test_one_query_or_many__same_bits(reranker, monkeypatch):
    G, Q = np.split(clustered(90), [60])
    together = clone(reranker).fit(G, index=View(G)).rerank(Q, 15)
    monkeypatch.setattr(_base, "_BLOCK", 700)
    in_blocks = clone(reranker).fit(G, index=View(G)).rerank(Q, 15)
    fitted = clone(reranker).fit(G, index=View(G))
    alone = [np.concatenate(a) for a in zip(*(fitted.rerank(q[None], 15) for q in Q), strict=True)]
    for a, b, c in zip(together, in_blocks, alone, strict=True):
        assert_array_equal(a, b)
        assert_array_equal(a, c)


def test_threads__at_once_on_a_fresh_cache(reranker):
    G, Q = np.split(clustered(200), [160])
    expected = clone(reranker).fit(G, index=View(G)).rerank(Q, 10)
    fitted = clone(reranker).fit(G, index=View(G))
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda i: fitted.rerank(Q[i : i + 5], 10), range(0, 40, 5)))
    for a, b in zip(expected, zip(*parts, strict=True), strict=True):
        assert_array_equal(a, np.concatenate(b))


def test_fit__asks_the_index_nothing_and_keeps_references(reranker):
    G = clustered(30)
    index = View(G)
    fitted = clone(reranker).fit(G, index=index)
    assert index.queries == 0
    assert fitted.gallery_.X is G or np.shares_memory(fitted.gallery_.X, G)
    assert fitted.gallery_.index is index
    assert fitted.n_features_in_ == 6


def test_neighbours__are_asked_for_once(reranker):
    G, Q = np.split(clustered(60), [50])
    index = View(G)
    fitted = clone(reranker).fit(G, index=index)
    first = fitted.rerank(Q, 10)
    asked = index.queries
    assert asked <= 50 + 2 * len(Q)
    second = fitted.rerank(Q, 10)
    assert index.queries - asked <= 2 * len(Q)
    for a, b in zip(first, second, strict=True):
        assert_array_equal(a, b)


def test_fit_again__forgets_the_old_gallery(reranker):
    A, B, Q = clustered(40), clustered(40, seed=1), clustered(5, seed=2)
    fitted = clone(reranker).fit(A, index=View(A))
    fitted.rerank(Q, 10)
    fitted.fit(B, index=View(B))
    for a, b in zip(fitted.rerank(Q, 10), clone(reranker).fit(B, index=View(B)).rerank(Q, 10), strict=True):
        assert_array_equal(a, b)


def test_set_params__counts_at_once(reranker):
    G, Q = np.split(clustered(60), [50])
    fitted = clone(reranker).fit(G, index=View(G))
    fitted.rerank(Q, 10)
    for k in (9, 2):
        fresh = clone(reranker).set_params(k=k).fit(G, index=View(G))
        for a, b in zip(fitted.set_params(k=k).rerank(Q, 10), fresh.rerank(Q, 10), strict=True):
            assert_array_equal(a, b)


def test_clone_and_get_params(reranker):
    fitted = clone(reranker).fit(clustered(10))
    copy = clone(fitted)
    assert copy.get_params() == reranker.get_params()
    assert not hasattr(copy, "gallery_")


def test_pickle__without_what_was_computed(reranker):
    G, Q = np.split(clustered(60), [50])
    fitted = clone(reranker).fit(G, index=View(G))
    fresh = len(pickle.dumps(fitted))
    expected = fitted.rerank(Q, 10)
    data = pickle.dumps(fitted)
    assert len(data) <= fresh + 50
    for a, b in zip(expected, pickle.loads(data).rerank(Q, 10), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("copies", [False, True])
def test_tiny_galleries(case, n, copies):
    reranker, oracle = case
    G = clustered(4)
    if copies:
        G[:n] = G[0]
    G, q = G[:n], G[3:]
    distances, positions = clone(reranker).fit(G).rerank(q, n)
    assert_array_equal(np.sort(positions[0]), np.arange(n))
    if not copies:
        assert_same_ranking(distances[0], positions[0], oracle(G, q[0]))
    if n > 1:
        _, others = clone(reranker).fit(G).rerank(G, n - 1, own=np.arange(n))
        for i in range(n):
            assert_array_equal(np.sort(others[i]), np.delete(np.arange(n), i))


def test_k_beyond_the_gallery__takes_what_there_is(reranker):
    G, Q = np.split(clustered(14), [10])
    large, all_others = clone(reranker).set_params(k=500), clone(reranker).set_params(k=1000)
    for a, b in zip(large.fit(G).rerank(Q, 10), all_others.fit(G).rerank(Q, 10), strict=True):
        assert_array_equal(a, b)


def test_rows_of_any_length__have_the_similarities_of_their_directions():
    G, Q = np.split(clustered(60), [50])
    scale = np.random.default_rng(0).uniform(0.999, 1.001, (60, 1)).astype(np.float32)
    for reranker, _ in RERANKERS.values():
        expected = clone(reranker).fit(G, index=View(G)).rerank(Q, 50)[0]
        # The index still has the unit rows: the order of neighbours is the same, only lengths differ.
        distances, _ = clone(reranker).fit(G * scale[:50], index=View(G)).rerank(Q, 50)
        assert_allclose(distances, expected, atol=2e-6)


def test_rows_of_zeros__are_no_error(reranker):
    G = clustered(20)
    G[[3, 9]] = 0
    distances, _ = clone(reranker).fit(G).rerank(np.concatenate([G[:2], np.zeros((1, 6), dtype=np.float32)]), 20)
    assert np.isfinite(distances).all()


@pytest.mark.parametrize("name", ["dba", "kreciprocal", "diffusion"])
def test_shortlist__only_its_members_move(name):
    G, Q = np.split(clustered(100), [90])
    reranker = clone(RERANKERS[name][0]).set_params(shortlist=12).fit(G, index=View(G))
    _, plain = View(G).query(Q, 90)
    _, positions = reranker.rerank(Q, 12)
    assert_array_equal(np.sort(positions, axis=1), np.sort(plain[:, :12], axis=1))
    for n in (5, 30):
        _, positions = reranker.rerank(Q, n)
        assert all(np.isin(positions[i], plain[i, : max(n, 12)]).all() for i in range(10))
    assert_array_equal(np.sort(positions, axis=1), np.sort(plain[:, :30], axis=1))
    assert not np.array_equal(positions, plain[:, :30])


@pytest.mark.parametrize("name", ["alpha_qe", "dba", "kreciprocal", "diffusion"])
def test_memory__is_of_order_n_k(name):
    n = 20_000
    G = clustered(n, n_features=8, n_clusters=400, noise=0.3)
    reranker = clone(RERANKERS[name][0]).fit(G, index=ExactIndex(G, metric="cosine"))
    tracemalloc.start()
    try:
        reranker.rerank(G[:4], 10, own=np.arange(4))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20  # n x n would be 400 MB at one byte each


def test_own_too_many__names_the_query(reranker):
    G = clustered(10)
    fitted = clone(reranker).fit(G)
    with pytest.raises(ValueError, match=r"n_neighbors=11, but only 10 can be found; ask for at most 10"):
        fitted.rerank(G, 11)
    with pytest.raises(ValueError, match=r"only 9 can be found for Q\[1\], which is not among its own results"):
        fitted.rerank(G[:2], 10, own=[-1, 4])


@pytest.mark.parametrize("own", [[0.0, 1.0], [0], [[0], [1]]])
def test_own__wrong_shape_or_type(reranker, own):
    with pytest.raises(ValueError, match="own has to be 2 integers"):
        clone(reranker).fit(clustered(10)).rerank(clustered(2), 3, own=own)


@pytest.mark.parametrize("position", [10, -2])
def test_own__outside_the_gallery(reranker, position):
    with pytest.raises(ValueError, match=rf"own\[1\] = {position} is not a position in the gallery of 10"):
        clone(reranker).fit(clustered(10)).rerank(clustered(2), 3, own=[0, position])


def test_queries__are_checked(reranker):
    fitted = clone(reranker).fit(clustered(10))
    with pytest.raises(ValueError, match=r"3 features, but .* expecting 6"):
        fitted.rerank(np.ones((2, 3)), 3)
    with pytest.raises(ValueError, match="2D array"):
        fitted.rerank(np.ones(6), 3)
    with pytest.raises(ValueError, match="NaN"):
        fitted.rerank(np.full((1, 6), np.nan), 3)
    with pytest.raises(ValueError, match="n_neighbors"):
        fitted.rerank(clustered(2), 0)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("aqe", {"k": 0}),
        ("aqe", {"alpha": -1}),
        ("dba", {"expand_query": "no"}),
        ("dba", {"shortlist": 0}),
        ("kreciprocal", {"lambda_value": 1.5}),
        ("kreciprocal", {"k_expansion": 0}),
        ("diffusion", {"alpha": 1.0}),
        ("diffusion", {"gamma": 0}),
        ("diffusion", {"query_k": 0}),
    ],
)
def test_parameters__are_checked_at_fit(name, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        clone(RERANKERS[name][0]).set_params(**wrong).fit(clustered(10))
