"""Similarities to people, images taken out one by one, and names, against plain loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from common import people_oracles
from hypothesis import given
from hypothesis import strategies as st

from sklearn_psp.faces import _open_set
from sklearn_psp.faces._identity_names import check_names, sorted_names, with_unknown
from sklearn_psp.faces._open_set import cohort, identity_similarities, same_image_of_two

seeds = st.integers(0, 2**16)
block_sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@st.composite
def galleries(draw):
    """Vectors, whose they are, and how many people there are: everybody has one, in any order."""
    n_people, n_features = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(seeds))
    codes = np.r_[np.arange(n_people), rng.integers(0, n_people, draw(st.integers(0, 12)))]
    # Whole numbers: their products are exact, and copies and ties are everywhere.
    vectors = rng.integers(-3, 4, (len(codes), n_features)).astype(np.float32)
    return vectors, rng.permutation(codes), n_people


def table_of(similarities_by_person, n_people):
    return [[table[person] for person in range(n_people)] for table in similarities_by_person]


@given(galleries(), seeds, block_sizes)
def test_similarities_to_people__equal_the_double_loop_whatever_the_blocks(gallery, seed, sizes):
    vectors, codes, n_people = gallery
    queries = np.random.default_rng(seed).integers(-3, 4, (7, vectors.shape[1])).astype(np.float32)
    expected = table_of(people_oracles.person_similarities(queries, vectors, codes.tolist()), n_people)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("_QUERIES", "_VECTORS"), sizes, strict=True):
            patch.setattr(_open_set, name, size)
        found = identity_similarities(queries, vectors, codes, n_people)
    assert found.dtype == np.float64
    assert found.tolist() == expected


@given(galleries(), seeds, block_sizes)
def test_similarities_without_the_query_itself__equal_the_double_loop(gallery, seed, sizes):
    vectors, codes, n_people = gallery
    own = np.random.default_rng(seed).integers(0, len(vectors), 6)
    expected = people_oracles.person_similarities(vectors[own], vectors, codes.tolist(), own=own)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("_QUERIES", "_VECTORS"), sizes, strict=True):
            patch.setattr(_open_set, name, size)
        found = identity_similarities(vectors[own], vectors, codes, n_people, own=own)
    assert found.tolist() == table_of(expected, n_people)


def test_similarities__tell_images_apart_that_float32_products_do_not():
    rng = np.random.default_rng(0)
    query = rng.normal(size=(1, 128)).astype(np.float32)
    query /= np.linalg.norm(query)
    vectors = np.repeat(query, 2, axis=0)
    vectors[0, 0] += 1e-5
    vectors[1, 0] += 2e-5
    found = identity_similarities(query, vectors, np.array([0, 1]), 2)
    expected = table_of(people_oracles.person_similarities(query, vectors, [0, 1]), 2)
    np.testing.assert_allclose(1 - found, 1 - np.array(expected), atol=1e-14)
    assert found[0, 0] > found[0, 1]


def test_more_vectors_and_queries_than_a_block__change_nothing():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(_open_set._VECTORS + 100, 3)).astype(np.float32)
    codes = rng.permutation(np.arange(len(vectors)) % 7)
    queries = rng.normal(size=(_open_set._QUERIES + 1, 3)).astype(np.float32)
    difference = queries[[0, -1], None].astype(np.float64) - vectors
    to_images = 1 - (difference**2).sum(axis=2) / 2
    expected = [[row[codes == person].max() for person in range(7)] for row in to_images]
    found = identity_similarities(queries, vectors, codes, 7)
    np.testing.assert_allclose(found[[0, -1]], expected, atol=1e-12)


def everything(vectors, codes, n_people, **params):
    return cohort(
        vectors,
        codes,
        n_people,
        **{"n_probes": 1000, "n_others": 1000, "random_state": np.random.RandomState(0)} | params,
    )


@given(galleries())
def test_cohort__equals_leaving_each_image_out(gallery):
    vectors, codes, n_people = gallery
    own, best_other, others = everything(vectors, codes, n_people)
    expected = people_oracles.leave_one_out(vectors, codes.tolist())
    assert own.tolist() == expected[0]
    assert best_other.tolist() == expected[1]
    assert sorted(others) == sorted(expected[2])


def test_cohort_of_few_probes__is_drawn_from_all_of_them():
    rng = np.random.default_rng(0)
    vectors, codes = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 12
    whole = everything(vectors, codes, 12)
    pairs = set(zip(whole.own.tolist(), whole.best_other.tolist(), strict=True))
    drawn = set()
    for seed in range(4):
        some = everything(vectors, codes, 12, n_probes=5, n_others=8, random_state=np.random.RandomState(seed))
        again = everything(vectors, codes, 12, n_probes=5, n_others=8, random_state=np.random.RandomState(seed))
        assert all(np.array_equal(a, b) for a, b in zip(some, again, strict=True))
        found = set(zip(some.own.tolist(), some.best_other.tolist(), strict=True))
        assert len(found) == 5
        assert found <= pairs
        assert len(some.others) == 8
        assert set(some.others.tolist()) <= set(whole.others.tolist())
        drawn.add(frozenset(found))
    assert len(drawn) == 4


@given(galleries())
def test_same_image_of_two__is_found_if_there_is_one(gallery):
    vectors, codes, _ = gallery
    n = len(vectors)
    twice = {
        (i, j)
        for i in range(n)
        for j in range(n)
        if i != j and vectors[i].tolist() == vectors[j].tolist() and codes[i] != codes[j]
    }
    found = same_image_of_two(vectors, codes)
    assert (found is not None) == bool(twice)
    assert found is None or found in twice


def test_same_image_with_zeros_of_either_sign__is_one():
    vectors = np.array([[0.0, 1.0], [-0.0, 1.0]], dtype=np.float32)
    assert same_image_of_two(vectors, np.array([0, 1])) == (0, 1)
    assert same_image_of_two(vectors, np.array([1, 1])) is None
    np.testing.assert_array_equal(np.signbit(vectors[:, 0]), [False, True])


@given(st.lists(st.integers(-5, 5), min_size=1) | st.lists(st.text(max_size=2), min_size=1))
def test_sorted_names__are_the_different_ones_and_lead_back(names):
    people, codes = sorted_names(np.array(names, dtype=object))
    assert people.tolist() == sorted(set(names))
    assert people[codes].tolist() == names


def test_names_of_two_kinds__cannot_be_sorted():
    with pytest.raises(ValueError, match=r"names of people must be of one kind.*got \['int', 'str'\]"):
        sorted_names(np.array(["a", 1], dtype=object))


@pytest.mark.parametrize(
    ("people", "unknown", "expected", "kind"),
    [
        (np.array(["al", "bo"]), "unknown", ["al", "bo", "unknown"], "U"),
        (np.array(["al", "bo"], dtype=object), "unknown", ["al", "bo", "unknown"], "O"),
        (np.array([3, 5]), -1, [3, 5, -1], "i"),
        (np.array([3, 5]), "unknown", [3, 5, "unknown"], "O"),
        (np.array(["al"]), -1, ["al", -1], "O"),
        (np.array([3, 5]), None, [3, 5], "i"),
        (np.array(["al"])[:0], "unknown", ["unknown"], "U"),
    ],
    ids=str,
)
def test_classes__are_the_people_and_the_label_of_strangers(people, unknown, expected, kind):
    classes = with_unknown(people, unknown)
    assert classes.tolist() == expected
    assert classes.dtype.kind == kind


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (["al", "unknown"], "U"),
        (("al", "unknown"), "U"),
        (np.array(["al", "unknown"], dtype=object), "O"),
        (pd.Series(["al", "unknown"], dtype=object), "O"),
        ([4, "unknown"], "O"),
        (pd.Categorical(["al", "unknown"]), "O"),
    ],
    ids=["list", "tuple", "array of objects", "Series of objects", "two kinds", "categories"],
)
def test_names__stay_what_they_are(y, kind):
    names, stranger = check_names(y, [None, None], "unknown")
    assert names.tolist() == list(y)
    assert names.dtype.kind == kind
    assert stranger.tolist() == [False, True]


def test_names_of_a_closed_set__have_no_stranger():
    names, stranger = check_names(["al", "unknown"], [None, None], None)
    assert names.tolist() == ["al", "unknown"]
    assert stranger.tolist() == [False, False]
