"""Re-rankers of one's own, and names."""

import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklearn_psp.reranking import (
    DatabaseAugmentation,
    Diffusion,
    KReciprocal,
    QueryExpansion,
    Reranker,
    make_reranker,
)
from sklearn_psp.reranking._neighbors import LazyRows

from . import oracles
from .conftest import RERANKERS, View, clustered


class Backwards(Reranker):
    """Last first."""

    def __init__(self, shortlist=5):
        self.shortlist = shortlist

    def shortlist_distances(self, query, positions, distances, own=-1):
        assert own not in positions
        return -np.sort(distances.astype(np.float64))


def test_own_reranker__needs_one_method_only():
    G, Q = np.split(clustered(30), [20])
    _, plain = View(G).query(Q, 20)
    _, positions = Backwards().fit(G, index=View(G)).rerank(Q, 5)
    assert_array_equal(positions, plain[:, 4::-1])
    _, positions = clone(Backwards(3)).fit(G).rerank(Q, 2)
    assert_array_equal(positions, plain[:, [2, 1]])


def test_base__has_no_distances_of_its_own():
    with pytest.raises(NotImplementedError, match="Reranker has to implement shortlist_distances"):
        Reranker().fit(clustered(5)).rerank(clustered(1), 2)


def test_index__has_to_be_one():
    with pytest.raises(TypeError, match=r"index has to have n_samples and query\(Q, k\), got 'exact'"):
        Diffusion().fit(clustered(5), index="exact")


def test_not_fitted(reranker):
    with pytest.raises(NotFittedError):
        clone(reranker).rerank(clustered(2), 1)


def test_query_expansion__can_order_a_shortlist_too():
    G, Q = np.split(clustered(30), [29])
    plain, positions = View(G).query(Q, 29)
    distances = QueryExpansion(k=3).fit(G).shortlist_distances(Q[0], positions[0], plain[0])
    assert_allclose(distances, oracles.query_expansion(G, Q[0], 3, 2.0)[positions[0]], atol=2e-6)


def test_query_expansion__finds_what_the_plain_search_did_not():
    angles = np.radians([0, 30, 50, -35])
    G = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    _, positions = QueryExpansion(k=1).fit(G).rerank(G[:1], 2, own=[0])
    assert_array_equal(positions, [[1, 2]])


def test_diffusion__not_reached_is_at_one_in_plain_order():
    angles = np.radians([0, 5, 10, 100, 120, 140])
    G = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    distances, positions = Diffusion(k=1, query_k=1).fit(G).rerank(G[:1], 5, own=[0])
    assert_array_equal(positions, [[1, 2, 3, 4, 5]])
    assert_array_equal(distances[0, 2:], 1)
    assert 0 <= distances[0, 0] < 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aqe", "QueryExpansion(alpha=0.0)"),
        ("alpha_qe", "QueryExpansion()"),
        ("dba", "DatabaseAugmentation()"),
        ("kreciprocal", "KReciprocal()"),
        ("diffusion", "Diffusion()"),
    ],
)
def test_make_reranker__by_name(name, expected):
    assert repr(make_reranker(name)) == expected
    assert make_reranker(name) is not make_reranker(name)


@pytest.mark.parametrize("given", [None, KReciprocal(), DatabaseAugmentation(k=3)])
def test_make_reranker__passes_on(given):
    assert make_reranker(given) is given


def test_make_reranker__errors():
    names = "'aqe', 'alpha_qe', 'dba', 'kreciprocal', 'diffusion'"
    with pytest.raises(ValueError, match=f"one of {names}.* got 'k-reciprocal'; did you mean 'kreciprocal'"):
        make_reranker("k-reciprocal")
    with pytest.raises(ValueError, match="got 'x'; or pass a re-ranker"):
        make_reranker("x")
    for wrong in (3, Diffusion, object()):
        with pytest.raises(TypeError, match="with the methods fit and rerank"):
            make_reranker(wrong)


def test_search_without_an_index__is_the_definition():
    G = clustered(50)
    G[10] = G[4]
    index = Diffusion().fit(G).gallery_.index
    distances, positions = index.query(G, 7)
    expected, at = View(G).query(G, 7)
    assert index.n_samples == 50
    assert_array_equal(positions, at)
    assert_allclose(distances, np.sqrt(2 * expected), atol=1e-6)
    assert distances[4, 0] == distances[4, 1] == 0


def test_lazy_rows__each_row_is_computed_once():
    asked = []

    def compute(rows):
        asked.append(rows.tolist())
        return rows * 2, np.stack([rows, rows], axis=1)

    table = LazyRows(10, compute)
    doubles, pairs = table.get(np.array([3, 1, 3]))
    assert_array_equal(doubles, [6, 2, 6])
    assert_array_equal(pairs, [[3, 3], [1, 1], [3, 3]])
    table.get(np.array([[1, 2], [3, 1]]))
    table.get(np.array([1, 2]))
    assert asked == [[1, 3], [2]]


def test_lazy_rows__threads_wait_for_each_other():
    asked = []
    barrier = threading.Barrier(8)
    table = LazyRows(100, lambda rows: (asked.extend(rows.tolist()) or rows,))

    def run():
        barrier.wait()
        for i in range(0, 100, 10):
            assert_array_equal(table.get(np.arange(i, i + 10))[0], np.arange(i, i + 10))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == list(range(100))


def test_defaults__are_valid():
    for reranker, _ in RERANKERS.values():
        type(reranker)().fit(clustered(5))
