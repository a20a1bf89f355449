"""The graph taken apart and put together: nothing is lost, and nothing that leads out of its arrays is let in."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_psp._indexes import _pynndescent
from sklearn_psp._indexes._graph import graph_arrays, restore_graph
from sklearn_psp._indexes._pynndescent import PyNNDescentIndex
from sklearn_psp.exceptions import IndexVersionWarning


def test_a_restored_graph_walks_alike(graph_index, clustered, held_out):
    graph = restore_graph(graph_arrays(graph_index._graph), clustered)
    for got, wanted in zip(graph.query(held_out, k=10), graph_index._graph.query(held_out, k=10), strict=True):
        assert_array_equal(got, wanted)


def test_it_holds_no_code_and_no_vectors(graph_index, clustered):
    def values(state):
        for value in state.values() if isinstance(state, dict) else state:
            if isinstance(value, dict | list):
                yield from values(value)
            else:
                yield value

    kept = list(values(graph_arrays(graph_index._graph)))
    assert {type(value) for value in kept} <= {np.ndarray, int, float, bool, str, type(None)}
    assert all(value.shape != clustered.shape for value in kept if isinstance(value, np.ndarray))


def _spoil(state, what):
    tree = state["trees"][0]
    if what == "an edge to nowhere":
        state["indices"][7] = 3000
    elif what == "an edge to less than nowhere":
        state["indices"][7] = -1
    elif what == "rows of edges beyond the edges":
        state["indptr"][-1] += 1
    elif what == "rows of edges that go back":
        state["indptr"][5] = state["indptr"][7]
    elif what == "an order with a place too many":
        state["arrays"]["_vertex_order"][0] = 3000
    elif what == "no room to note visits":
        state["arrays"]["_visited"] = np.zeros(3, dtype=np.uint8)
    elif what == "a leaf beyond the end":
        tree["children"][-1] = -3001
    elif what == "a tree that goes in circles":
        tree["children"][5, 0] = 5
    elif what == "a tree of other vectors":
        tree["hyperplanes"] = tree["hyperplanes"][:, :-1]


@pytest.mark.parametrize(
    "what",
    [
        "an edge to nowhere",
        "an edge to less than nowhere",
        "rows of edges beyond the edges",
        "rows of edges that go back",
        "an order with a place too many",
        "no room to note visits",
        "a leaf beyond the end",
        "a tree that goes in circles",
        "a tree of other vectors",
    ],
)
def test_a_damaged_graph_is_refused(graph_index, clustered, what):
    state = copy.deepcopy(graph_arrays(graph_index._graph))
    _spoil(state, what)
    with pytest.raises(ValueError, match="the file is damaged"):
        restore_graph(state, clustered)


def test_a_graph_of_another_version_is_built_anew(monkeypatch, graph_index, exact_index, held_out):
    state = graph_index.to_arrays() | {"made_by": "0.0.1"}
    with pytest.warns(IndexVersionWarning, match=r"made by PyNNDescent 0\.0\.1, and this is .* built anew"):
        again = PyNNDescentIndex.from_arrays(exact_index, state)
    assert_array_equal(again.query(held_out, 10)[1], graph_index.query(held_out, 10)[1])
    monkeypatch.setattr(_pynndescent, "build_graph", None)
    PyNNDescentIndex.from_arrays(exact_index, graph_index.to_arrays())  # of this version: nothing is built
