"""An index that grows and shrinks: what is added is found, what is removed is not, whatever is filtered."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sklearn_psp._indexes import DynamicIndex, ExactIndex, Index, Settings, Subset, build_index, load_index
from sklearn_psp._indexes._distances import pair_distances
from sklearn_psp._indexes._dynamic import _FEW, Vectors
from sklearn_psp._indexes._pynndescent import PyNNDescentIndex


def vectors_of(rng, n, d, n_distinct):
    return rng.integers(-n_distinct, n_distinct + 1, (n, d)).astype(np.float32)


def brute_force(index, Q, mask, metric="euclidean"):
    """(distances, positions) of everything a mask lets through, by (distance, position)."""
    at = np.flatnonzero(mask)
    rows, columns = np.repeat(np.arange(len(Q)), len(at)), np.tile(at, len(Q))
    distances = pair_distances(Q, rows, index.vectors, columns, metric).reshape(len(Q), len(at))
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, 1), at[order]


@settings(max_examples=120)
@given(
    st.integers(1, 300),
    st.integers(1, 9),
    st.sampled_from([1, 3, 1000]),
    st.floats(0.001, 1),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.001, 0.02, 64]),
)
def test_a_subset_is_searched_as_if_the_rest_were_not_there(n, d, n_distinct, share, k, seed, memory):
    rng = np.random.default_rng(seed)
    index = ExactIndex(vectors_of(rng, n, d, n_distinct), metric="euclidean", working_memory=memory)
    Q = vectors_of(rng, 5, d, n_distinct)
    mask = rng.random(n) < share
    mask[rng.integers(n)] = True
    subset, k = Subset(mask), min(k, int(mask.sum()))
    expected = brute_force(index, Q, mask)
    for got, wanted in zip(index.query(Q, k, subset), expected, strict=True):
        assert_array_equal(got, wanted[:, :k])
    assert_array_equal(np.concatenate([ranked for _, ranked in index.rank_all(Q, subset)]), expected[1])


@settings(max_examples=80)
@given(
    st.integers(1, 200),
    st.integers(1, 9),
    st.sampled_from([1, 4, 1000]),
    st.floats(0, 12),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.001, 64]),
    st.booleans(),
)
def test_a_radius_holds_what_is_within_it_and_nothing_else(n, d, n_distinct, radius, seed, memory, filtered):
    rng = np.random.default_rng(seed)
    index = ExactIndex(vectors_of(rng, n, d, n_distinct), metric="euclidean", working_memory=memory)
    Q = vectors_of(rng, 7, d, n_distinct)
    mask = rng.random(n) < 0.5 if filtered else np.ones(n, dtype=bool)
    counts, distances, positions = index.query_radius(Q, radius, Subset(mask) if filtered else None)
    true_distances, order = brute_force(index, Q, mask)
    within = true_distances <= np.float64(radius)
    assert_array_equal(counts, within.sum(axis=1))
    assert_array_equal(distances, true_distances[within])
    assert_array_equal(positions, order[within])


def test_radius_of_vectors_near_the_largest_number():
    G = np.float32([[3e38, 0], [3e38, 1e38], [-3e38, 0]])
    counts, distances, positions = ExactIndex(G, metric="euclidean").query_radius(G[:1], 1.5e38)
    assert_array_equal(counts, [2])
    assert_array_equal(positions, [0, 1])
    assert distances[0] == 0


@pytest.fixture(params=["exact", "graph"])
def dynamic(request, clustered, exact_index, graph_index):
    graph = graph_index if request.param == "graph" else None
    return DynamicIndex(Vectors(clustered), metric="cosine", searcher=graph)


def test_nothing_that_is_added_is_missed(dynamic, held_out):
    grown = dynamic.added(held_out[:100]).added(held_out[100:])
    assert (dynamic.n_samples, grown.n_samples) == (3000, 3500)
    distances, positions = grown.query(held_out, 5)
    assert_array_equal(positions[:, 0], np.arange(3000, 3500))
    assert (distances[:, 0] == 0).all()
    assert dynamic.query(held_out, 5)[1].max() < 3000


def test_nothing_that_is_removed_is_found(dynamic, clustered, held_out):
    before = dynamic.query(held_out, 10)[1]
    gone = np.unique(before[:, :5])
    shrunk = dynamic.added(held_out[:50]).removed(np.append(gone, 3000))
    _, positions = shrunk.query(held_out, 10)
    assert not np.isin(positions, gone).any()
    assert 3000 not in positions
    assert all(len(np.unique(row)) == 10 for row in positions)
    truth = shrunk.exact.query(held_out, 10, shrunk.subset())[1]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(positions, truth, strict=True)]) > 0.98
    assert_array_equal(dynamic.query(held_out, 10)[1], before)


def test_old_and_new_share_memory_and_do_not_disturb_each_other(dynamic, held_out):
    one, other = dynamic.added(held_out[:1]), dynamic.added(held_out[1:2])
    assert_array_equal(one.query(held_out[:1], 1)[1], [[3000]])
    assert_array_equal(other.query(held_out[1:2], 1)[1], [[3000]])
    assert_array_equal(one.query(held_out[:1], 1)[1], [[3000]])
    assert np.shares_memory(dynamic.vectors_at(), one.vectors_at())
    assert not np.shares_memory(one.vectors_at(), other.vectors_at())


def test_narrow_and_wide_filters_are_correct(dynamic, held_out):
    grown = dynamic.added(held_out[:200]).removed(np.arange(0, 3000, 7))
    rng = np.random.default_rng(0)
    for share in (0.002, 0.3, 0.95):
        mask = rng.random(3200) < share
        subset = grown.subset(mask)
        positions = grown.query(held_out, min(10, subset.count), subset)[1]
        assert mask[positions].all()
        assert (positions[positions < 3000] % 7).all()
        truth = grown.exact.query(held_out, min(10, subset.count), subset)[1]
        assert np.mean([np.isin(a, b).mean() for a, b in zip(positions, truth, strict=True)]) > 0.97


def test_a_walk_goes_on_where_a_filter_hides_what_is_near(monkeypatch, graph_index, clustered, held_out):
    from sklearn_psp._indexes import _pynndescent

    monkeypatch.setattr(_pynndescent, "_EXACT_SUBSET", 10)
    monkeypatch.setattr(graph_index._exact, "query", None)  # any exact search of a row would fail
    truth = ExactIndex(clustered, metric="cosine")
    near = np.unique(truth.query(held_out[:20], 3)[1])
    mask = np.ones(3000, dtype=bool)
    mask[near] = False
    _, positions = graph_index.query(held_out[:20], 10, Subset(mask))
    assert not np.isin(positions, near).any()
    expected = truth.query(held_out[:20], 10, Subset(mask))[1]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(positions, expected, strict=True)]) > 0.97


def test_copies_of_which_the_first_are_removed_are_found(graph_index, clustered):
    vectors = clustered.copy()
    vectors[100:400] = vectors[5]
    exact = ExactIndex(vectors, metric="cosine")
    index = DynamicIndex(Vectors(vectors), metric="cosine", searcher=PyNNDescentIndex(exact, random_state=0))
    index = index.removed(np.append(5, np.arange(100, 395)))
    distances, positions = index.query(vectors[[100]], 8)
    assert_array_equal(positions[0, :5], np.arange(395, 400))
    assert (distances[0, 5:] > 0).all()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_copies_and_pickles_answer_alike(dynamic, held_out, again):
    index = dynamic.added(held_out[:10]).removed(np.array([3, 3001]))
    other = again(index)
    for got, expected in zip(other.query(held_out, 7), index.query(held_out, 7), strict=True):
        assert_array_equal(got, expected)
    assert_array_equal(other.added(held_out[20:21]).query(held_out[20:21], 1)[1], [[3010]])


def test_the_pickle_holds_the_vectors_once(dynamic):
    size = len(pickle.dumps(dynamic))
    assert size < 1.7 * dynamic.vectors_at().nbytes + 30 * 3000 * 8


def test_it_is_stale_by_rule(clustered, graph_index):
    few = np.zeros((_FEW + 1, 64), dtype=np.float32)
    few[:, 0] = 1
    exact = DynamicIndex(Vectors(clustered), metric="cosine")
    graph = DynamicIndex(Vectors(clustered), metric="cosine", searcher=graph_index)
    assert not exact.added(few[:-1]).stale
    assert exact.added(few).stale  # more than doubled
    large = DynamicIndex(Vectors(np.tile(few, (2, 1))), metric="cosine")
    assert not large.added(few).added(few[:-2]).stale
    assert large.added(few).added(few).added(few[:1]).stale
    assert not graph.added(few[:-1]).stale
    assert graph.added(few).stale
    assert not graph.removed(np.arange(3000)).stale  # fewer than 5,000
    assert not large.removed(np.arange(_FEW)).stale
    assert large.removed(np.arange(_FEW + 1)).stale


def test_it_is_all_that_a_gallery_asks_of_an_index(dynamic):
    assert isinstance(dynamic, Index)


@pytest.mark.parametrize("algorithm", ["exact", "pynndescent"])
@pytest.mark.parametrize("duplicates", [False, True])
def test_what_cannot_be_found_keeps_its_place_and_changes_no_answer(
    graph_index, clustered, held_out, algorithm, duplicates
):
    hidden = np.array([0, 7, 1500, 2999])
    vectors, findable = clustered.copy(), np.ones(3000, dtype=bool)
    vectors[hidden], findable[hidden] = 0, False
    if duplicates:
        vectors[100:110] = vectors[5]
    rows = np.flatnonzero(findable)
    settings = Settings(random_state=0)
    _, whole = build_index(vectors, metric="cosine", algorithm=algorithm, findable=findable, settings=settings)
    _, dense = build_index(vectors[rows], metric="cosine", algorithm=algorithm, settings=settings)
    assert (whole.n_vectors, whole.n_samples) == (3000, 2996)
    for Q, k in ((held_out, 10), (held_out[:1], 10), (held_out[:3], 2996)):
        distances, positions = whole.query(Q, k)
        expected_distances, expected = dense.query(Q, k)
        assert_array_equal(positions, rows[expected])
        assert_array_equal(distances, expected_distances)
    assert_array_equal(next(whole.rank_all(held_out[:2]))[1], rows[next(dense.rank_all(held_out[:2]))[1]])
    grown = whole.added(np.zeros((2, 64), dtype=np.float32), np.zeros(2, dtype=bool)).added(held_out[:1])
    assert grown.query(held_out[:1], 1)[1].tolist() == [[3002]]
    again = pickle.loads(pickle.dumps(grown.removed(np.array([9]))))
    assert_array_equal(again.query(held_out, 5)[1], grown.removed(np.array([9])).query(held_out, 5)[1])


@pytest.mark.parametrize("algorithm", ["exact", "pynndescent"])
@pytest.mark.parametrize("duplicates", [False, True])
def test_a_file_of_format_1_had_no_vector_for_what_cannot_be_found(
    graph_index, clustered, held_out, algorithm, duplicates
):
    vectors = clustered.copy()
    if duplicates:
        vectors[100:110] = vectors[5]
    _, dense = build_index(vectors, metric="cosine", algorithm=algorithm, settings=Settings(random_state=0))
    dense = dense.added(held_out[:3]).removed(np.array([2, 3001]))
    state = dense.to_arrays()
    core = state.pop("searcher")
    del state["n_hidden"]
    state["graph"] = None if core is None else {"n": 3000, **core}
    rows = np.setdiff1d(np.arange(3007), [0, 8, 1000, 3006])
    loaded = load_index(algorithm, state, rows, 3007)
    assert (loaded.n_vectors, loaded.n_samples) == (3007, 3001)
    for k in (1, 10):
        distances, positions = loaded.query(held_out, k)
        expected_distances, expected = dense.query(held_out, k)
        assert_array_equal(positions, rows[expected])
        assert_array_equal(distances, expected_distances)
    assert_array_equal(load_index(algorithm, state).query(held_out, 10)[1], dense.query(held_out, 10)[1])


def test_what_could_never_be_found_does_not_make_an_index_stale():
    findable = np.zeros(3 * _FEW, dtype=bool)
    findable[:10] = True
    _, index = build_index(np.ones((3 * _FEW, 2), dtype=np.float32), metric="euclidean", findable=findable)
    assert not index.stale
    assert not index.removed(np.arange(5)).stale
