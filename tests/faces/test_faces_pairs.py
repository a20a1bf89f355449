"""Pairs in every form, the images they are of, and the people that genuine pairs tell of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from common.pairs import Remembering, TwoOfEach, all_pairs, descriptor_pairs, portraits
from common.transformers import ColourGrid
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.preprocessing import FunctionTransformer

from sklearn_psp import FaceVerifier
from sklearn_psp.exceptions import ImageInputError
from sklearn_psp.faces._compared_pairs import failed_pairs
from sklearn_psp.metrics import threshold_interval
from sklearn_psp.utils._pairs import Pairs, as_pairs


def verifier(featurizer=None, **params):
    return FaceVerifier(featurizer, **({"random_state": 0} | params))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of portraits, and who is in each."""
    folder = tmp_path_factory.mktemp("portraits")
    images, people = portraits()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(len(images))], people


# ------------------------------------------------------------------------------------------------- forms

FORMS = {
    "list of lists": lambda pairs: [list(pair) for pair in pairs],
    "tuple": tuple,
    "generator": iter,
    "DataFrame": lambda pairs: pd.DataFrame(pairs, columns=["a", "b"], index=range(5, 5 + len(pairs))),
    "Series": lambda pairs: pd.Series(pairs, index=range(5, 5 + len(pairs))),
}
FORMS_OF_DESCRIPTORS = {
    "array": np.array,
    "float32": lambda pairs: np.array(pairs, dtype=np.float32),
    "Fortran": lambda pairs: np.asfortranarray(np.array(pairs)),
    "list of arrays": lambda pairs: list(np.array(pairs)),
    "numbers": lambda pairs: np.array(pairs).tolist(),
}
FORMS_OF_PATHS = {
    "array": np.array,
    "array of objects": lambda pairs: np.array(pairs, dtype=object),
    "Path": lambda pairs: [tuple(map(Path, pair)) for pair in pairs],
    "bytes": lambda pairs: [[Path(path).read_bytes() for path in pair] for pair in pairs],
    "images": lambda pairs: [[Image.open(path) for path in pair] for pair in pairs],
    "arrays": lambda pairs: np.array([[np.asarray(Image.open(path)) for path in pair] for pair in pairs]),
}


@pytest.mark.parametrize("form", [*FORMS, *FORMS_OF_DESCRIPTORS])
def test_descriptors_in_every_form__are_decided_alike(form):
    pairs, same = descriptor_pairs()
    pairs = pairs.astype(np.float32).astype(np.float64)  # what float32 holds
    given_as = (FORMS | FORMS_OF_DESCRIPTORS)[form]
    expected = verifier().fit(pairs, same)
    fitted = verifier().fit(given_as([(first, second) for first, second in pairs]), same)
    assert (fitted.threshold_, fitted.threshold_interval_) == (expected.threshold_, expected.threshold_interval_)
    for verb in ("predict", "predict_proba"):
        result = getattr(fitted, verb)(given_as([(first, second) for first, second in pairs]))
        np.testing.assert_array_equal(result, getattr(expected, verb)(pairs))
    assert fitted.score(given_as([(first, second) for first, second in pairs]), same) == expected.score(pairs, same)


@pytest.mark.parametrize("form", [*FORMS, *FORMS_OF_PATHS])
def test_images_in_every_form__are_decided_alike(files, form):
    pairs, same = all_pairs(*files)
    given_as = (FORMS | FORMS_OF_PATHS)[form]
    expected = verifier(ColourGrid(2)).fit(pairs, same)
    assert expected.score(pairs, same) > 0.9
    fitted = verifier(ColourGrid(2)).fit(given_as(pairs), same)
    # What is read anew for every pair is described in every pair, and the mean of all is rounded otherwise.
    assert fitted.threshold_ == pytest.approx(expected.threshold_, abs=1e-5)
    np.testing.assert_array_equal(fitted.predict(given_as(pairs)), expected.predict(pairs))
    np.testing.assert_allclose(fitted.predict_proba(given_as(pairs)), expected.predict_proba(pairs), atol=1e-4)


def test_grey_images_as_one_array__are_images():
    images, people = portraits()
    pairs, same = all_pairs(images[..., 0], people)
    expected = verifier(ColourGrid(2)).fit([(np.array(a), np.array(b)) for a, b in pairs], same)
    fitted = verifier(ColourGrid(2)).fit(np.array(pairs), same)
    np.testing.assert_array_equal(fitted.predict_proba(np.array(pairs)), expected.predict_proba(pairs))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["a"] * 3, ["b"] * 3], r"pairs\[0\] is no pair: a list of length 3; of two lists .*list\(zip\(first, second"),
        ((np.zeros((3, 8)), np.zeros((3, 8))), r"pairs\[0\] is no pair: a ndarray of length 3; of two lists"),
        ([("a", "b"), ("a",)], r"pairs\[1\] is no pair: a tuple of length 1"),
        ([("a", "b"), "ab"], r"pairs\[1\] is no pair: a str"),
        ([b"ab"], r"pairs\[0\] is no pair: a bytes"),
        ([{"a", "b"}], r"pairs\[0\] is no pair: a set"),
        ([None], r"pairs\[0\] is no pair: a NoneType"),
        (pd.DataFrame({"a": ["x"]}), r"a DataFrame of 1 columns \('a'\), but two are needed: pass .*pairs\[\['first'"),
        (pd.DataFrame({"a": ["x"], "b": ["y"], "same": [1]}), r"a DataFrame of 3 columns \('a', 'b', 'same'\)"),
        ([], "pairs is empty: pass at least one pair"),
        (iter([]), "pairs is empty"),
        (pd.DataFrame({"a": [], "b": []}), "pairs is empty"),
        ("ab", "pairs must be a list of pairs, an array .*, got str"),
        (b"ab", "pairs must be a list of pairs.*, got bytes"),
        (Path("ab"), "pairs must be a list of pairs.*, got .*Path"),
        ({"a": "b"}, "pairs must be a list of pairs.*, got dict"),
        (3, "pairs must be a list of pairs.*, got int"),
        (None, "pairs must be a list of pairs.*, got NoneType"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) or len(value) < 3 else "",
)
@pytest.mark.parametrize("descriptors", [False, True])
def test_what_is_no_pairs__is_an_error(pairs, message, descriptors):
    if hasattr(pairs, "__next__"):
        pairs = iter([])  # one test has read the other's
    with pytest.raises(ImageInputError, match=message):
        as_pairs(pairs, descriptors=descriptors)


@pytest.mark.parametrize("shape", [(4, 2), (4, 3, 8), (2, 4, 8), (4, 2, 8, 8), (8,)], ids=str)
def test_arrays_that_are_no_pairs_of_descriptors__are_an_error(shape):
    with pytest.raises(ImageInputError, match=r"pairs must have the shape \(n, 2, n_features\), got"):
        as_pairs(np.zeros(shape), descriptors=True)


@pytest.mark.parametrize("shape", [(4, 2, 8), (4, 3, 8, 8), (4, 8, 8, 3), (2, 4, 8, 8, 3)], ids=str)
def test_arrays_that_are_no_pairs_of_images__are_an_error(shape):
    with pytest.raises(ImageInputError, match=r"pairs must have the shape \(n, 2, height, width\) or .*, got"):
        as_pairs(np.zeros(shape))


@pytest.mark.parametrize("empty", [np.zeros((0, 2, 8)), np.zeros((0, 2, 8, 8, 3))], ids=["descriptors", "images"])
def test_empty_arrays__are_an_error(empty):
    with pytest.raises(ImageInputError, match="pairs is empty"):
        as_pairs(empty, descriptors=empty.ndim == 3)


def test_descriptors_without_a_feature__are_an_error():
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        verifier().fit(np.zeros((4, 2, 0)), [0, 1, 0, 1])


@pytest.mark.parametrize(
    "pairs",
    [[("a.jpg", "b.jpg")], [(b"a", b"b")], [([1, 2], [1, 2, 3])], [([1, 2], [1, "x"])]],
    ids=["paths", "bytes", "lengths", "text"],
)
def test_pairs_that_are_no_descriptors__need_a_featurizer(pairs):
    with pytest.raises(ImageInputError, match=r"featurizer=None takes .*for images pass a featurizer, such as"):
        verifier().fit(pairs, [1])


def test_images_without_a_featurizer__are_refused(files):
    images, people = portraits()
    pairs, same = all_pairs(images, people)
    with pytest.raises(ImageInputError, match=r"\(n, 2, n_features\), got \(66, 2, 8, 8, 3\)"):
        verifier().fit(pairs, same)
    with pytest.raises(ImageInputError, match="for images pass a featurizer"):
        verifier().fit(*all_pairs(*files))


# ------------------------------------------------------------------------------------------------- each image once


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=20), st.booleans())
def test_images__are_there_once_by_name_or_as_objects(places, by_name):
    images = [f"{i}.jpg" for i in range(7)] if by_name else [np.full((2, 2, 3), i) for i in range(7)]
    pairs = as_pairs([(images[a], images[b]) for a, b in places])
    assert len(pairs.items) == len(np.unique(places))
    for (a, b), first, second in zip(places, pairs.first, pairs.second, strict=True):
        assert pairs.items[first] is images[a]
        assert pairs.items[second] is images[b]


def test_paths_and_names__are_the_same_image():
    assert as_pairs([("a.jpg", Path("a.jpg")), (np.str_("a.jpg"), "b.jpg")]).items == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("form", ["paths", "arrays"])
def test_image_in_several_pairs__is_described_once(files, form):
    paths, people = files
    images = paths if form == "paths" else [np.asarray(Image.open(path)) for path in paths]
    pairs, same = all_pairs(images, people)
    fitted = verifier(Remembering(2)).fit(pairs, same)
    assert len(pairs) == 66
    assert fitted.featurizer_.n_seen_ == [12]
    fitted.predict(pairs[:11])
    fitted.verify(images[0], images[0])
    fitted.verify(images[:1] * 5, images[1:6])
    assert fitted.featurizer_.n_seen_ == [12, 12, 1, 6]


def test_interval_of_the_threshold__is_of_images(files):
    pairs, same = all_pairs(*files)
    fitted = verifier(ColourGrid(2), target="eer").fit(pairs, same)
    places = {path: place for place, path in enumerate(files[0])}
    items = [[places[a], places[b]] for a, b in pairs]
    scores = fitted.score_samples(pairs)
    expected = threshold_interval(same, scores, "eer", items=items, random_state=0)
    assert fitted.threshold_interval_ == pytest.approx(expected, abs=1e-6)
    assert fitted.threshold_interval_ != pytest.approx(threshold_interval(same, scores, "eer", random_state=0))


def test_featurizer_that_gives_several_rows_a_image__is_refused(files):
    with pytest.raises(ValueError, match=r"featurizer gave 24 rows for 12 images.*not \"all\""):
        verifier(TwoOfEach(2)).fit(*all_pairs(*files))


def test_featurizer_of_descriptors__takes_them_as_images_would_be():
    vectors = np.random.default_rng(0).normal(size=(12, 8))
    pairs, same = all_pairs(list(vectors), np.arange(12) // 3)
    halved = FunctionTransformer(lambda X: np.array(X)[:, :4])
    np.testing.assert_array_equal(
        verifier(halved).fit(pairs, same).predict_proba(pairs),
        verifier().fit([(a[:4], b[:4]) for a, b in pairs], same).predict_proba([(a[:4], b[:4]) for a, b in pairs]),
    )


# ------------------------------------------------------------------------------------------------- people


def joined(n_items, edges):
    """Number the people by joining sets, one edge after the other."""
    group_of = {item: {item} for item in range(n_items)}
    for a, b in edges:
        union = group_of[a] | group_of[b]
        for item in union:
            group_of[item] = union
    return [min(group_of[item]) for item in range(n_items)]


def same_partition(a, b):
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=25))
def test_people__are_chains_of_genuine_pairs(edges):
    names = [f"{i}.jpg" for i in range(10)]
    pairs = as_pairs([(names[a], names[b]) for a, b, _ in edges])
    people = pairs.people(np.array([same for *_, same in edges]))
    expected = joined(10, [(a, b) for a, b, same in edges if same])
    assert same_partition(people.tolist(), [expected[names.index(item)] for item in pairs.items])


def test_people_of_a_pair_that_is_there_many_times__are_one():
    # As many as a number of eight bits holds, and one more: counted, they would be none.
    pairs = as_pairs([("a", "b")] * 256 + [("c", "d")])
    assert same_partition(pairs.people(np.append(np.ones(256, dtype=bool), False)).tolist(), [0, 0, 1, 2])


def test_featurizer__is_told_the_people(files):
    paths, people = files
    pairs, same = all_pairs(paths, people)
    fitted = verifier(Remembering(2)).fit(pairs, same)
    # all_pairs begins with the pairs of the first image: items come in the order of the files.
    assert same_partition(fitted.featurizer_.y_seen_.tolist(), people.tolist())
    assert fitted.featurizer_.y_seen_.dtype == np.int32


# ------------------------------------------------------------------------------------------------- tables of failures


def test_failed_pairs__are_listed_by_pair_and_side():
    pairs = as_pairs([("a", "b"), ("c", "a"), ("b", "c"), ("a", "a")])
    frame = failed_pairs(pairs, {0: "dark", 2: "broken"})
    assert list(frame) == ["index", "side", "source", "reason"]
    assert frame.to_numpy().tolist() == [
        [0, "first", "a", "dark"],
        [1, "first", "c", "broken"],
        [1, "second", "a", "dark"],
        [2, "second", "c", "broken"],
        [3, "first", "a", "dark"],
        [3, "second", "a", "dark"],
    ]
    empty = failed_pairs(pairs, {})
    assert (len(empty), list(empty), empty["index"].dtype) == (0, list(frame), np.int64)


def test_index_of_a_frame__is_kept():
    frame = pd.DataFrame({"a": ["x", "y"], "b": ["z", "x"]}, index=["first", "second"])
    assert as_pairs(frame).index.tolist() == ["first", "second"]
    assert as_pairs(frame.to_numpy()).index.tolist() == [0, 1]
    assert isinstance(as_pairs(frame), Pairs)
