"""Neighbours within a radius, and groups of near-duplicates."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import NearestNeighbors

from sklearn_psp import NearestImageRetriever

rng = np.random.default_rng(0)
X = rng.standard_normal((80, 4)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_radius_finds_what_scikit_learn_finds(metric):
    theirs = NearestNeighbors(metric=metric, algorithm="brute").fit(X.astype(np.float64))
    distances, positions = NearestImageRetriever(metric=metric).fit(X).radius_neighbors(X[:20], 0.5)
    expected_distances, expected = theirs.radius_neighbors(X[:20].astype(np.float64), 0.5, sort_results=True)
    for got, wanted in zip(positions, expected, strict=True):
        assert_array_equal(got, wanted)
    for got, wanted in zip(distances, expected_distances, strict=True):
        assert_allclose(got, wanted, atol=1e-6)
        assert got.dtype == np.float32


def test_radius_of_the_constructor_skipped_queries_and_the_gallery_itself():
    gallery = NearestImageRetriever(radius=0.0, on_invalid="skip").fit(np.vstack([X, X[:1], np.nan * X[:1]]))
    positions = gallery.radius_neighbors(np.vstack([X[:1], 0 * X[:1]]), return_distance=False)
    assert [row.tolist() for row in positions] == [[0, 80], []]
    itself = gallery.radius_neighbors(return_distance=False)
    assert len(itself) == 82
    assert itself[0].tolist() == [80]
    assert itself[80].tolist() == [0]
    assert [len(row) for row in itself[1:80]] == [0] * 79
    assert itself[81].tolist() == []


@pytest.mark.parametrize("radius", [-0.1, "far", True, float("nan"), float("inf")])
def test_a_radius_is_a_number(radius):
    gallery = NearestImageRetriever().fit(X)
    for verb in (gallery.radius_neighbors, gallery.find_duplicates):
        with pytest.raises(ValueError, match="radius must be a number >= 0; got"):
            verb(radius=radius)


@pytest.fixture
def chain():
    """Six points on a line at a distance of 1, two far off, one alone."""
    points = [[0.0], [1], [2], [3], [4], [5], [50], [50.5], [99]]
    meta = pd.DataFrame({"at": [p[0] for p in points]})
    return NearestImageRetriever(metric="euclidean").fit(
        points, list("aaaaaabbc"), ids=list("ABCDEFGHI"), metadata=meta
    )


def test_chains_are_groups_only_if_asked_for(chain):
    stars, chains = chain.find_duplicates(1.0), chain.find_duplicates(1.0, chains=True)
    assert chains.groupby("group")["id"].agg("".join).tolist() == ["BACDEF", "GH"]
    assert stars.groupby("group")["id"].agg("".join).tolist() == ["BAC", "EDF", "GH"]
    assert (stars["distance"] <= 1).all()
    assert chains["distance"].max() == 4
    assert stars.columns.tolist() == ["group", "id", "distance", "label", "at"]


def test_no_duplicates_no_rows(chain):
    empty = chain.find_duplicates(0.1)
    assert empty.empty
    assert empty.columns.tolist() == ["group", "id", "distance", "label", "at"]


def test_euclidean_distances_have_no_default_radius(chain):
    with pytest.raises(ValueError, match="find_duplicates needs a radius for metric='euclidean'"):
        chain.find_duplicates()


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.floats(0, 3), st.booleans())
def test_groups_hold_what_they_promise(n, seed, radius, chains):
    points = np.random.default_rng(seed).integers(0, 6, (n, 2)).astype(np.float32)
    groups = NearestImageRetriever(metric="euclidean").fit(points).find_duplicates(radius, chains=chains)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert groups["id"].is_unique
    near = (distances <= radius).sum(axis=1) > 1
    sizes = groups.groupby("group").size()
    assert (sizes >= 2).all()
    assert sizes.is_monotonic_decreasing
    for _, group in groups.groupby("group"):
        ids = group["id"].to_numpy()
        assert_allclose(group["distance"], distances[ids[0], ids], atol=1e-6)
        if not chains:
            assert (distances[ids[0], ids] <= radius).all()
    if chains:
        assert set(groups["id"]) == set(np.flatnonzero(near))
        group_of = groups.set_index("id")["group"]
        for i, j in np.argwhere(distances <= radius):
            if i != j:
                assert group_of[i] == group_of[j]
    else:
        assert set(groups["id"]) <= set(np.flatnonzero(near))


def test_copies_are_found_along_the_graph():
    points = np.vstack([X, np.repeat(X[:2], 30, axis=0)])
    parameters = {"n_neighbors": 8, "epsilon": 0.5}
    graph = NearestImageRetriever(algorithm="pynndescent", engine_params=parameters, random_state=0).fit(points)
    exact = NearestImageRetriever(algorithm="exact").fit(points)
    pd.testing.assert_frame_equal(graph.find_duplicates(0.0), exact.find_duplicates(0.0))
    assert graph.find_duplicates(0.0).groupby("group").size().tolist() == [31, 31]


def test_removed_images_are_in_no_group(chain):
    groups = chain.remove(["B", "H"]).find_duplicates(1.0, chains=True)
    assert groups["id"].tolist() == ["D", "C", "E", "F"]
