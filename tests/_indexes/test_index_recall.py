"""Recall is measured with vectors that are held out, and reaches what was asked for."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_psp._indexes import ExactIndex
from sklearn_psp._indexes._distances import group_duplicates
from sklearn_psp._indexes._graph import EPSILONS, HeldOut, build_graph, choose_walk, draw_sample, hold_out
from sklearn_psp._indexes._pynndescent import PyNNDescentIndex
from sklearn_psp.exceptions import RecallWarning


def clusters(n, d, seed, noise):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((40, d))
    X = centres[rng.integers(0, 40, n)] + noise * rng.standard_normal((n, d))
    return np.ascontiguousarray(X / np.linalg.norm(X, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def hard(graph_index):
    """8,000 vectors in 64 dimensions, noisy: walks of small epsilon miss many neighbours."""
    return ExactIndex(clusters(8000, 64, 0, 1.5), metric="cosine")


@pytest.fixture(scope="module")
def with_neighbors(clustered):
    return build_graph(clustered, None, n_neighbors=30, random_state=0)


def recall_of(index, exact, queries, k=10):
    found, truth = index.query(queries, k)[1], exact.query(queries, k)[1]
    return np.mean([np.isin(a, b).mean() for a, b in zip(found, truth, strict=True)])


@pytest.mark.parametrize("target", [0.8, 0.95, 0.99])
def test_queries_that_are_not_in_the_index_have_the_recall_asked_for(hard, target):
    index = PyNNDescentIndex(hard, random_state=0, target_recall=target)
    queries = clusters(1000, 64, 1, 1.5)
    measured = recall_of(index, hard, queries)
    assert measured >= target - 0.01
    assert abs(index.recall.value - measured) <= 0.02
    assert index.recall.n_queries == 400
    assert index._epsilon > 0


def test_more_recall_takes_a_larger_epsilon(hard):
    epsilons = [PyNNDescentIndex(hard, random_state=0, target_recall=target)._epsilon for target in (0.5, 0.9, 0.995)]
    assert epsilons == sorted(epsilons)
    assert epsilons[0] < epsilons[-1]


def test_held_out_vectors_cannot_be_found(with_neighbors, graph_index, clustered):
    nodes = np.arange(0, 3000, 20)
    copy = hold_out(with_neighbors, nodes, clustered)
    found, _ = copy.query(clustered[nodes], k=10, epsilon=0.3)
    assert not np.isin(found, nodes).any()
    again, _ = graph_index._graph.query(clustered[nodes], k=10, epsilon=0.3)
    assert (again[:, 0] == nodes).all()


def test_it_is_as_if_they_had_never_been_there(with_neighbors, clustered):
    nodes = draw_sample(3000, np.random.RandomState(3))
    rest = np.setdiff1d(np.arange(3000), nodes)
    without = ExactIndex(clustered[rest], metric="cosine")
    other = PyNNDescentIndex(without, random_state=0, epsilon=0.05)
    held_out = HeldOut(with_neighbors, ExactIndex(clustered, metric="cosine"), nodes, 10)
    assert abs(held_out.recall(0.05).value - recall_of(other, without, clustered[nodes])) < 0.02


def test_a_target_out_of_reach_is_said(monkeypatch, hard):
    from sklearn_psp._indexes import _graph, _pynndescent

    monkeypatch.setattr(_graph, "EPSILONS", (0.001, 0.002))
    monkeypatch.setattr(_pynndescent, "_MORE_DEGREES", ())
    with pytest.warns(
        RecallWarning, match=r"target_recall=1.0 is not reached: with epsilon=0.002 .* 0\.\d{3} of the 10"
    ):
        index = PyNNDescentIndex(hard, random_state=0, target_recall=1.0, search_tree_leaf_budget=1)
    assert index.recall.value < 1


def test_the_degree_grows_where_no_epsilon_is_enough(monkeypatch, hard):
    from sklearn_psp._indexes import _graph, _pynndescent

    monkeypatch.setattr(_graph, "EPSILONS", (0.01,))
    monkeypatch.setattr(_pynndescent, "DEFAULT_DEGREE", 4)
    monkeypatch.setattr(_pynndescent, "_LEAF_BUDGETS", (1,))
    monkeypatch.setattr(_pynndescent, "_MORE_DEGREES", (40,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecallWarning)
        index = PyNNDescentIndex(hard, random_state=0, target_recall=0.9)
    assert index._graph.n_neighbors == 40


def test_own_settings_are_kept_and_measured(hard):
    index = PyNNDescentIndex(hard, random_state=0, target_recall=0.99, epsilon=0.01, n_neighbors=12)
    assert index._epsilon == 0.01
    assert index._graph.n_neighbors == 12
    assert 0 < index.recall.value < 0.99


def test_epsilon_is_never_zero():
    assert min(EPSILONS) > 0


def test_vectors_of_one_hash_are_told_apart(monkeypatch):
    from sklearn_psp._indexes import _distances

    monkeypatch.setattr(_distances, "_hashes", lambda vectors: np.zeros(len(vectors), dtype=np.uint64))
    distinct, (starts, members) = group_duplicates(np.float32([[1, 2], [3, 4], [1, 2]]))
    groups = {int(first): members[starts[i] : starts[i + 1]].tolist() for i, first in enumerate(distinct)}
    assert groups == {0: [0, 2], 1: [1]}


def test_hashes_differ_where_columns_are_exchanged():
    from sklearn_psp._indexes._distances import _hashes

    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, (2000, 12)).astype(np.float32)
    assert len(np.unique(_hashes(X))) == len(np.unique(X, axis=0))
    assert_array_equal(_hashes(np.float32([[0.0, 1.0]])), _hashes(np.float32([[-0.0, 1.0]])))


def test_more_leaves_are_tried_where_walks_stay_on_their_island(with_neighbors, clustered):
    held_out = HeldOut(with_neighbors, ExactIndex(clustered, metric="cosine"), np.arange(0, 3000, 20), 10)
    _, leaf_budget, recall = choose_walk(held_out, 0.97, (1,))
    assert leaf_budget == 1
    assert recall.value < 0.95  # whatever epsilon
    epsilon, leaf_budget, recall = choose_walk(held_out, 0.97, (1, 4, 16, 64))
    assert leaf_budget > 1
    assert recall.value >= 0.97
    assert epsilon <= 0.3
