"""What cannot be enrolled or removed: an error that says why and what to do, and nothing has changed."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from common.people import described, of_descriptors, tile, tile_featurizer
from sklearn.exceptions import NotFittedError

from sklearn_psp import FaceIdentifier, PSPNetFeaturizer
from sklearn_psp.exceptions import FaceError, FaceWarning, ImageReadError, UnknownIdError

POOL, NAMES = described(range(4), 3)
STRANGERS, _ = described([50, 51])
NEW, _ = described([80, 81, 82])
X, Y = np.r_[POOL, STRANGERS], NAMES + ["unknown"] * 2


@pytest.fixture
def identifier():
    return of_descriptors().fit(X, Y)


def refuses(identifier, call, message, error=ValueError):
    """Assert that a call is refused, and that it left the identifier as it was, bit by bit."""
    before = pickle.dumps(identifier)
    with pytest.raises(error, match=message) as caught:
        call(identifier)
    assert pickle.dumps(identifier) == before
    return caught.value


def test_images_are_compared_bit_by_bit():
    identifier = of_descriptors().fit(X, Y)
    before = pickle.dumps(identifier)
    identifier.predict(X)
    assert pickle.dumps(identifier) == before != pickle.dumps(identifier.remove("p00"))


ENROL = {
    "known": (
        NEW[:2],
        ["p00", "al"],
        "enrolled already: 'p00'; pass add=True if .* further images.*remove them first",
    ),
    "known, several": (NEW, ["p00", "al", "p02"], "enrolled already: 'p00', 'p02'; "),
    "unknown": (NEW[:1], ["unknown"], "nobody can be enrolled as 'unknown', which is the name of unknown people"),
    "one unknown": (NEW[:2], ["al", "unknown"], "nobody can be enrolled as 'unknown'"),
    "missing": (
        NEW,
        ["al", None, np.nan],
        "y has 2 missing names, the first at 1; an unknown person is called 'un",
    ),
    "NaN": (NEW[:1], [np.nan], "y has 1 missing names, the first at 0"),
    "NA": (NEW[:2], pd.Series(["al", pd.NA], dtype=object), "y has 1 missing names, the first at 1"),
    "two kinds": (NEW[:2], ["al", 3], r"names of people must be of one kind.*\['int', 'str'\]"),
    "another kind": (NEW[:1], [3], r"names of people must be of one kind.*\['int', 'str'\]"),
    "another kind, array": (NEW[:2], np.array([3, 4]), r"names of people must be of one kind.*\['int', 'str'\]"),
    "few names": (NEW, ["al"], "inconsistent numbers of samples: X has 3 images, but y has 1 names"),
    "many names": (NEW[:1], ["al", "bo"], "inconsistent numbers of samples: X has 1 images, but y has 2 names"),
    "no names": (NEW, None, "requires y to be passed, but the target y is None: a name for each image"),
    "table of names": (NEW[:2], [["al", "bo"], ["cy", "di"]], "y should be a 1d array"),
    "fractions": (NEW[:2], [0.5, 1.0], "Unknown label type: continuous. y must hold names, got numbers with fract"),
    "no images": (NEW[:0], [], r"0 sample\(s\)"),
    "narrow": (NEW[:, :5], ["al", "bo", "cy"], "X has 5 features, but FaceIdentifier is expecting 16 features"),
    "twice": (
        NEW[[0, 1, 0]],
        ["al", "bo", "cy"],
        r"X\[0\] and X\[2\] are the same image, but y says that one is 'al' and the other 'cy': one person would be "
        r"there twice; leave one out, or correct the names",
    ),
    "there already": (
        np.r_[NEW[:1], POOL[4:5]],
        ["al", "bo"],
        r"X\[1\] is to be enrolled as 'bo', but is an image that is enrolled as 'p01': one person would be there "
        r"twice; leave it out, or correct the name",
    ),
    "a stranger": (
        np.r_[NEW[:1], STRANGERS[1:]],
        ["al", "bo"],
        r"X\[1\] is to be enrolled as 'bo', but fit was given the same image .* unknown person.*; leave it out, or "
        r"fit again without that unknown person",
    ),
    "NaN descriptor": (
        np.r_[NEW[:1], np.full((1, 16), np.nan)],
        ["al", "bo"],
        r'X\[1\] \(row 1\): its descriptor is NaN or infinite; remove it from X or pass on_error="nan"',
    ),
}


@pytest.mark.parametrize("case", ENROL)
def test_enroll__refuses_and_changes_nothing(identifier, case):
    images, names, message = ENROL[case]
    refuses(identifier, lambda one: one.enroll(images, names), message)


def test_enroll__refuses_with_add_too(identifier):
    images, _, message = ENROL["there already"]
    refuses(identifier, lambda one: one.enroll(images, ["p00", "p00"], add=True), message.replace("'bo'", "'p00'"))
    for case in ("unknown", "missing", "two kinds", "twice", "a stranger", "NaN descriptor"):
        images, names, message = ENROL[case]
        refuses(identifier, lambda one, p=images, n=names: one.enroll(p, n, add=True), message)


def test_image_that_is_there_already_under_its_own_name__is_welcome(identifier):
    assert identifier.enroll(POOL[4:5], ["p01"], add=True).retriever_.n_samples_fit_ == 13


def test_other_kinds_of_numbers__are_of_one_kind():
    identifier = of_descriptors(unknown_label=-1, threshold=0.9).fit(POOL, np.repeat(np.arange(4), 3))
    assert identifier.enroll(NEW[:2], np.array([7, 8], dtype=np.uint8)).people_.tolist() == [0, 1, 2, 3, 7, 8]
    refuses(identifier, lambda one: one.enroll(NEW[2:], [-1]), "nobody can be enrolled as -1")
    refuses(identifier, lambda one: one.enroll(NEW[2:], ["7"]), "names of people must be of one kind")


def test_names_that_look_like_numbers__are_others_than_the_numbers():
    identifier = of_descriptors().fit(POOL, np.repeat(["1", "2", "3", "4"], 3))
    refuses(identifier, lambda one: one.enroll(NEW[:1], np.array([1])), "names of people must be of one kind")


REMOVE = {
    "typing error": ("p0l", r"^nobody is enrolled as 'p0l'; did you mean 'p0\d'\? people_ lists everybody$"),
    "nobody like it": ("xyz", "^nobody is enrolled as 'xyz'; people_ lists everybody$"),
    "one of several": (["p00", "al", "p01"], "^nobody is enrolled as 'al'; "),
    "strangers": ("unknown", "^nobody is enrolled as 'unknown'; "),
    "another kind": ([0], "^nobody is enrolled as 0; "),
    "missing": (None, "^nobody is enrolled as None; "),
    "many": ([f"x{i}" for i in range(14)], "'x8', 'x9' and 4 more; "),
}


@pytest.mark.parametrize("case", REMOVE)
def test_remove__refuses_and_changes_nothing(identifier, case):
    names, message = REMOVE[case]
    error = refuses(identifier, lambda one: one.remove(names), message, UnknownIdError)
    assert isinstance(error, KeyError)


def test_remove__needs_a_gallery():
    with pytest.raises(NotFittedError, match="FaceIdentifier"):
        of_descriptors().remove("p00")


FIT = {
    case: ENROL[case] for case in ENROL if case not in ("known", "known, several", "unknown", "one unknown", "narrow")
}
for _case in ("another kind", "another kind, array", "there already", "a stranger"):
    del FIT[_case]
FIT |= {
    "strangers alone": (NEW, ["unknown"] * 3, "y holds nobody except 'unknown': there is nobody to enroll"),
    "stranger and person": (
        np.r_[POOL, POOL[3:4]],
        [*NAMES, "unknown"],
        r"X\[3\] and X\[12\] are the same image, but y says that one is 'p01' and the other 'unknown'",
    ),
    "one person": (NEW, ["al"] * 3, "'al' is the only person enrolled, and there are no images of unknown people"),
}


@pytest.mark.parametrize("case", FIT)
def test_fit__refuses_and_leaves_it_unfitted_or_as_it_was(identifier, case):
    images, names, message = FIT[case]
    fresh = of_descriptors()
    with pytest.raises(ValueError, match=message):
        fresh.fit(images, names)
    with pytest.raises(NotFittedError):
        fresh.predict(POOL)
    refuses(identifier, lambda one: one.fit(images, names), message)


def test_strangers_of_numbers__may_be_text(identifier):
    names = [*np.repeat(range(4), 3).tolist(), "unknown", "unknown"]
    fitted = identifier.fit(X, names)
    assert fitted.people_.tolist() == [0, 1, 2, 3]
    message = r"X\[0\] and X\[12\] are the same image, but y says that one is 0 and the other 'unknown'"
    with pytest.raises(ValueError, match=message):
        identifier.fit(np.r_[POOL, POOL[:1]], names[:13])


def test_same_image_of_two_strangers__says_nothing_of_anybody():
    fitted = of_descriptors().fit(np.r_[X, STRANGERS], [*Y, "unknown", "unknown"])
    assert fitted.n_nonmated_ == 16


def test_everybody_without_a_descriptor__is_an_error_that_tells_all(identifier):
    identifier.set_params(on_error="nan")
    images = np.r_[np.full((12, 16), np.nan), STRANGERS].astype(np.float32)
    before = pickle.dumps(identifier)
    lost = pytest.warns(FaceWarning, match="'p00', 'p01', 'p02', 'p03', who have no other")
    with lost, pytest.raises(FaceError, match="no image of anybody to be enrolled has a descriptor") as caught:
        identifier.fit(images, Y)
    assert caught.value.errors["index"].tolist() == list(range(12))
    assert pickle.dumps(identifier) == before
    with pytest.warns(FaceWarning, match="2 images are left out, and so are 'al', who have no other"):
        identifier.enroll(images[:2], ["al", "al"])
    assert pickle.dumps(identifier) == before


@pytest.mark.parametrize("n_names", [5, 7])
def test_images_of_a_generator__are_counted_when_they_have_been_read(n_names):
    names = ["al", "al", "al", "bo", "bo", "bo", "cy"][:n_names]
    tiles = [tile(person, seed) for person in range(2) for seed in range(3)]
    identifier = FaceIdentifier(tile_featurizer(), fpir=0.5)
    message = f"X has 6 images, but y has {n_names} names"
    with pytest.raises(ValueError, match=message):
        identifier.fit((tiles[i : i + 2] for i in (0, 2, 4)), names)
    identifier.fit((tiles[i : i + 2] for i in (0, 2, 4)), [*names[:5], "bo"])
    refuses(identifier, lambda one: one.enroll((tiles[i : i + 2] for i in (0, 2, 4)), ["di"] * n_names), message)
    refuses(identifier, lambda one: one.score((tiles[i : i + 2] for i in (0, 2, 4)), names), message)


def test_image_under_two_names__is_refused_by_its_place_in_x():
    tiles = [tile(person, seed) for person in range(3) for seed in range(3)]
    names = [f"p0{person}" for person in range(3) for _ in range(3)]
    identifier = FaceIdentifier(tile_featurizer(), fpir=0.2).fit(tiles, names)
    message = re.escape("X[1] is to be enrolled as 'al', but is an image that is enrolled as 'p00'")
    refuses(identifier, lambda one: one.enroll([tile(9), tiles[2]], ["bo", "al"]), message)
    with pytest.raises(ValueError, match=r"X\[0\] and X\[9\] are the same image"):
        identifier.fit([*tiles, tiles[0]], [*names, "al"])


def test_featurizer_that_gives_several_faces_of_a_image__is_told_what_to_choose():
    pair = np.concatenate((tile(0), tile(1)), axis=1)
    message = 'featurizer gave 3 rows for 2 images, where each must give one: use select="largest" or "confident"'
    with pytest.raises(ValueError, match=message):
        FaceIdentifier(tile_featurizer(aligner__select="all"), fpir=0.5).fit([pair, tile(2)], ["al", "bo"])


def test_unreadable_image__is_named_by_fit_and_by_enroll():
    featurizer = PSPNetFeaturizer(tile_featurizer()["psp"].backbone, center=False, image_size=32, on_error="nan")
    featurizer.set_params(runtime="torch", precision="float32", scales=(1.0,))
    tiles, names = [tile(person, seed) for person in range(2) for seed in range(3)], ["al"] * 3 + ["bo"] * 3
    identifier = FaceIdentifier(featurizer, fpir=0.2)
    message = r'X\[6\] \(<bytes, 2 long>\) .*: not an image .*; remove it from X or pass on_error="nan"'
    with pytest.raises(ImageReadError, match=message):
        identifier.fit([*tiles, b"no"], [*names, "al"])
    identifier.fit(tiles, names)
    message = message.replace("6", "1")
    refuses(identifier, lambda one: one.enroll([tile(7), b"no"], ["cy", "cy"]), message, ImageReadError)
