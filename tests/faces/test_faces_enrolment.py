"""People come and go: whatever the way, the identifier is the one that is fitted to who is there in the end."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from common.people import METRICS, described, of_descriptors
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_psp import FaceIdentifier
from sklearn_psp.exceptions import EnrolmentWarning, FaceError, FaceWarning, FewPairsWarning

POOL, NAMES = described(range(7), 4, noise=0.7)
STRANGERS, _ = described(range(50, 60), noise=0.7)
PROBES, _ = described([0, 1, 2, 3, 4, 5, 6, 60, 61], 3, seed=9, noise=0.7)


def assert_same(identifier, expected):
    assert identifier.people_.tolist() == expected.people_.tolist()
    assert identifier.classes_.tolist() == expected.classes_.tolist()
    assert identifier.threshold_ == pytest.approx(expected.threshold_, abs=1e-6)
    rates = [[i.fpir_, *i.fpir_interval_, i.fnir_, *i.fnir_interval_] for i in (identifier, expected)]
    np.testing.assert_allclose(*rates)
    assert (identifier.n_mated_, identifier.n_nonmated_) == (expected.n_mated_, expected.n_nonmated_)
    assert identifier.predict(PROBES).tolist() == expected.predict(PROBES).tolist()
    if expected._identities.open_set.calibration is None:
        assert identifier._identities.open_set.calibration is None
    else:
        np.testing.assert_allclose(identifier.predict_proba(PROBES), expected.predict_proba(PROBES), rtol=1e-4)


class CosineGallery(RuleBasedStateMachine):
    """A `FaceIdentifier` beside `images`, a dictionary from name to positions in POOL."""

    metric = "cosine"

    def __init__(self):
        super().__init__()
        self.images = {}

    def _put(self, data, names, least=1):
        rows = []
        for name in names:
            free = [i for i, other in enumerate(NAMES) if other == name and i not in self.images.get(name, [])]
            chosen = data.draw(st.lists(st.sampled_from(free), min_size=least, unique=True))
            self.images[name] = self.images.get(name, []) + chosen
            rows += chosen
        return POOL[rows], [NAMES[i] for i in rows]

    def _new(self):
        return sorted(set(NAMES) - set(self.images))

    @initialize(data=st.data())
    def fit(self, data):
        self.identifier = of_descriptors(self.metric, random_state=0)
        X, names = self._put(data, data.draw(st.lists(st.sampled_from(self._new()), min_size=1, unique=True)))
        where = data.draw(st.integers(0, len(X)))  # strangers may stand anywhere
        self.identifier.fit(
            np.concatenate((X[:where], STRANGERS, X[where:])), [*names[:where], *["unknown"] * 10, *names[where:]]
        )

    @precondition(lambda self: self._new())
    @rule(data=st.data())
    def enroll(self, data):
        names = data.draw(st.lists(st.sampled_from(self._new()), min_size=1, max_size=3, unique=True))
        self.identifier.enroll(*self._put(data, names))

    @precondition(lambda self: any(len(images) < 4 for images in self.images.values()))
    @rule(data=st.data())
    def add(self, data):
        name = data.draw(st.sampled_from([name for name, rows in self.images.items() if len(rows) < 4]))
        self.identifier.enroll(*self._put(data, [name]), add=True)

    @precondition(lambda self: self.images)
    @rule(data=st.data())
    def remove(self, data):
        names = data.draw(st.lists(st.sampled_from(sorted(self.images)), unique=True))
        self.identifier.remove(names)
        for name in names:
            del self.images[name]

    @precondition(lambda self: self.images)
    @rule(data=st.data())
    def enroll_twice(self, data):
        name = data.draw(st.sampled_from(sorted(self.images)))
        with pytest.raises(ValueError, match=f"enrolled already: {name!r}"):
            self.identifier.enroll(PROBES[:1], [name])

    @rule()
    def pickle(self):
        self.identifier = pickle.loads(pickle.dumps(self.identifier))

    @invariant()
    def agree(self):
        if not hasattr(self, "identifier"):
            return
        rows = [i for name in sorted(self.images) for i in self.images[name]]
        assert sorted(self.identifier.retriever_.labels_.tolist()) == [NAMES[i] for i in rows]
        if not rows:
            with pytest.raises(ValueError, match="the gallery is empty"):
                self.identifier.predict(PROBES)
            return
        X, names = np.concatenate((STRANGERS, POOL[rows])), ["unknown"] * 10 + [NAMES[i] for i in rows]
        assert_same(self.identifier, of_descriptors(self.metric, random_state=0).fit(X, names))


class EuclideanGallery(CosineGallery):
    """The same by distances."""

    metric = "euclidean"


@pytest.mark.filterwarnings("ignore::sklearn_psp.exceptions.FewPairsWarning")
@pytest.mark.filterwarnings("ignore::sklearn_psp.exceptions.EnrolmentWarning")
@pytest.mark.parametrize("machine", [CosineGallery, EuclideanGallery])
def test_after_any_changes__it_is_the_one_fitted_to_who_is_there(machine):
    run_state_machine_as_test(machine, settings=settings(max_examples=12, stateful_step_count=12))


@pytest.mark.parametrize("strangers", [True, False])
def test_first_enrolment__is_fit(strangers):
    X, names = (np.r_[POOL, STRANGERS], NAMES + ["unknown"] * 10) if strangers else (POOL, NAMES)
    identifier = of_descriptors()
    assert identifier.enroll(X, names) is identifier
    assert_same(identifier, of_descriptors().fit(X, names))


@pytest.mark.parametrize("names", ["p02", ["p02"], np.array(["p02"]), ("p02", "p02")], ids=repr)
def test_removed_people__are_strangers(names):
    identifier = of_descriptors().fit(POOL, NAMES)
    assert identifier.remove(names) is identifier
    assert identifier.people_.tolist() == ["p00", "p01", "p03", "p04", "p05", "p06"]
    assert_same(identifier, of_descriptors().fit(POOL[[*range(8), *range(12, 28)]], NAMES[:8] + NAMES[12:]))


def test_nobody_removed__changes_nothing():
    identifier = of_descriptors().fit(POOL, NAMES).remove([])
    assert_same(identifier, of_descriptors().fit(POOL, NAMES))


def test_names_of_numbers__are_removed_by_number():
    codes = np.repeat(np.arange(7), 4)
    identifier = of_descriptors(unknown_label=-1).fit(POOL, codes).remove(3).remove([np.int64(5), 6])
    assert identifier.people_.tolist() == [0, 1, 2, 4]
    assert identifier.predict(POOL[12:16]).tolist() == [-1] * 4


def test_longer_names__are_not_cut():
    X, _ = described([80], 3)
    identifier = of_descriptors().fit(POOL, np.array(NAMES)).enroll(X, np.array(["somebody with a long name"] * 3))
    assert identifier.predict(X).tolist() == ["somebody with a long name"] * 3
    assert identifier.people_.tolist() == [*sorted(set(NAMES)), "somebody with a long name"]


@pytest.mark.filterwarnings("ignore::sklearn_psp.exceptions.EnrolmentWarning")
def test_threshold__follows_the_gallery_and_the_parameters_of_the_day():
    X, names = described(range(10, 40), 3, noise=0.7)
    identifier = of_descriptors().fit(POOL, NAMES)
    few = identifier.threshold_
    many = identifier.enroll(X, names).threshold_
    assert many > few
    assert identifier.set_params(fpir=0.5).enroll(*described([80], 2)).threshold_ < many


def test_further_images__help():
    X, names = described([0], 1, seed=3, noise=0.1)
    identifier = of_descriptors(threshold=0.95).fit(POOL, NAMES)
    assert identifier.predict(X + 0.01).tolist() == ["unknown"]
    assert identifier.enroll(X, names, add=True).predict(X + 0.01).tolist() == ["p00"]
    assert identifier.enroll(*described([0, 81], 2, seed=4), add=True).people_.tolist()[-1] == "p81"


def test_empty_gallery__says_so_and_can_be_filled_again():
    identifier = of_descriptors().fit(np.r_[POOL, STRANGERS], NAMES + ["unknown"] * 10).remove(sorted(set(NAMES)))
    assert identifier.people_.tolist() == []
    assert identifier.classes_.tolist() == ["unknown"]
    for call in (
        lambda: identifier.predict(PROBES),
        lambda: identifier.predict_proba(PROBES),
        lambda: identifier.identify(PROBES),
        lambda: identifier.score(PROBES, ["p00"] * len(PROBES)),
    ):
        with pytest.raises(ValueError, match=r"the gallery is empty: nobody can be recognised; enroll\(X, y\) people"):
            call()
    identifier.enroll(POOL, NAMES)
    assert_same(identifier, of_descriptors().fit(np.r_[POOL, STRANGERS], NAMES + ["unknown"] * 10))


def test_empty_gallery__may_be_filled_with_names_of_another_kind():
    identifier = of_descriptors().fit(POOL, NAMES).remove(sorted(set(NAMES))).enroll(POOL, np.repeat(range(7), 4))
    assert identifier.people_.tolist() == list(range(7))
    assert identifier.predict(POOL).tolist() == np.repeat(range(7), 4).tolist()


class Counting(TransformerMixin, BaseEstimator):
    """Passes descriptors on, and notes what it is fitted to."""

    fitted = []

    def fit(self, X, y=None):
        """Note y."""
        Counting.fitted.append(None if y is None else list(y))
        return self

    def transform(self, X):
        """Return X."""
        return np.asarray(X)


def test_featurizer__is_fitted_once_and_told_who_is_who():
    Counting.fitted.clear()
    names = ["unknown", "bo", "al", "unknown", "bo", "al", "cy"]
    X = np.random.default_rng(0).normal(size=(7, 5))
    identifier = FaceIdentifier(Counting(), fpir=0.5).fit(X, names)
    # Strangers are of no class: each is one of its own.
    assert Counting.fitted == [[3, 1, 0, 4, 1, 0, 2]]
    identifier.enroll(-X[2:3], ["di"]).remove("di").predict(X)
    assert len(Counting.fitted) == 1
    assert not hasattr(identifier.featurizer, "fitted_")
    assert identifier.featurizer_ is not identifier.featurizer


def test_new_name_for_an_enrolled_face__is_enrolled_and_warned_of():
    X, _ = described([2], 3, seed=8, noise=0.1)
    identifier = of_descriptors().fit(POOL, NAMES)
    message = (
        r"'twin' is enrolled now, but 3 of 3 images would have been taken for 'p02': if they are one person, "
        r"remove\(\['twin'\]\) and enroll them as 'p02' with add=True"
    )
    with pytest.warns(EnrolmentWarning, match=message) as caught:
        identifier.enroll(X, ["twin"] * 3)
    assert [warning.filename for warning in caught] == [__file__]
    assert "twin" in identifier.people_
    identifier.remove(["twin"]).enroll(X, ["p02"] * 3, add=True)
    assert_same(identifier, of_descriptors().fit(np.r_[POOL, X], NAMES + ["p02"] * 3))


def test_number_that_looks_like_another__is_shown_as_it_was_given():
    identifier = of_descriptors(unknown_label=-1).fit(POOL, np.repeat(np.arange(7), 4))
    X, _ = described([2], 1, seed=8, noise=0.1)
    with pytest.warns(
        EnrolmentWarning, match=r"^9 is enrolled now, but 1 of 1 .* for 2: .*remove\(\[9\]\).* as 2 with"
    ):
        identifier.enroll(X, np.array([9]))


def test_each_new_name__is_warned_of_by_the_majority_of_its_images():
    like, _ = described([2], 2, seed=8, noise=0.1)
    unlike, _ = described([90, 91], 2, seed=8, noise=0.1)
    identifier = of_descriptors().fit(POOL, NAMES)
    # Half of the images is no majority, and nobody is warned of being like themself.
    identifier.enroll(np.r_[like[:1], unlike, like[1:]], ["new", "new", "other", "other", "other", "p02"], add=True)
    assert identifier.remove(["new", "other"]).people_.tolist() == sorted(set(NAMES))
    with pytest.warns(EnrolmentWarning) as caught:
        identifier.enroll(like + 0.001, ["al", "bo"])
    assert [str(warning.message)[:5] for warning in caught] == ["'al' ", "'bo' "]


def test_closed_set__takes_nobody_for_somebody_else():
    X, _ = described([2], 3, seed=8, noise=0.1)
    identifier = of_descriptors(unknown_label=None).fit(POOL, NAMES).enroll(X, ["twin"] * 3)
    assert identifier.predict(X).tolist() == ["twin"] * 3


@pytest.mark.parametrize("metric", METRICS)
def test_fit__leaves_out_what_has_no_descriptor(metric):
    X, names = np.r_[POOL, STRANGERS], NAMES + ["unknown"] * 10
    X[5], X[8:12], X[30] = np.nan, np.inf, np.nan
    identifier = of_descriptors(metric, on_error="nan")
    with pytest.warns(FaceWarning) as caught:
        identifier.fit(X, names)
    (warning,) = caught
    assert warning.filename == __file__
    assert str(warning.message) == (
        "6 images are left out, and so are 'p02', who have no other; the first is X[5] (row 5): its descriptor is "
        "NaN or infinite"
    )
    for errors in (warning.message.errors, identifier.errors_):
        assert list(errors) == ["index", "source", "reason"]
        assert errors["index"].tolist() == [5, 8, 9, 10, 11, 30]
        assert errors["source"].tolist() == [f"row {i}" for i in (5, 8, 9, 10, 11, 30)]
        assert set(errors["reason"]) == {"its descriptor is NaN or infinite"}
    kept = np.setdiff1d(np.arange(38), identifier.errors_["index"])
    assert_same(identifier, of_descriptors(metric, on_error="nan").fit(X[kept], [names[i] for i in kept]))


def test_descriptors_of_zeros__have_no_direction_but_a_place():
    X = POOL.copy()
    X[3] = 0
    with pytest.warns(FaceWarning, match=r"1 images are left out; the first is X\[3\] \(row 3\): .* is zero"):
        assert of_descriptors(on_error="nan").fit(X, NAMES).retriever_.n_samples_fit_ == 27
    with pytest.raises(FaceError, match=r"X\[3\] \(row 3\): its descriptor is zero; remove it"):
        of_descriptors().fit(X, NAMES)
    assert of_descriptors("euclidean").fit(X, NAMES).predict(X[3:4]).tolist() == ["p00"]


def test_errors_of_fit__are_there_only_if_something_may_be_left_out():
    assert of_descriptors(on_error="nan").fit(POOL, NAMES).errors_.empty
    assert not hasattr(of_descriptors().fit(POOL, NAMES), "errors_")


def test_enroll__leaves_out_what_has_no_descriptor():
    identifier = of_descriptors(on_error="nan").fit(POOL, NAMES)
    X, names = described([80, 81, 0], 2)
    X[1:4], X[4] = np.nan, np.inf
    message = r"4 images are left out, and so are 'p81', who have no other; the first is X\[1\]"
    with pytest.warns(FaceWarning, match=message) as caught:
        identifier.enroll(X, names, add=True)
    assert [warning.filename for warning in caught] == [__file__]
    assert_same(identifier, of_descriptors().fit(np.r_[POOL, X[[0, 5]]], [*NAMES, "p80", "p00"]))
    assert identifier.errors_.empty


def test_people_who_are_there_already__are_not_lost_with_a_image():
    identifier = of_descriptors(on_error="nan").fit(POOL, NAMES)
    with pytest.warns(FaceWarning, match=r"^1 images are left out; the first is X\[0\]"):
        identifier.enroll(np.full((1, 16), np.nan), ["p00"], add=True)
    assert_same(identifier, of_descriptors().fit(POOL, NAMES))


def test_warning_turned_into_an_error__changes_nothing():
    identifier = of_descriptors().fit(POOL[:12], NAMES[:12])
    X, names = described([80], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewPairsWarning)
        with pytest.raises(FewPairsWarning):
            identifier.remove(["p00", "p01"])
        with pytest.raises(FewPairsWarning):
            identifier.set_params(fpir=1e-9).enroll(X, names)
    assert_same(identifier, of_descriptors().fit(POOL[:12], NAMES[:12]))
