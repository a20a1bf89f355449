"""A fit, an enrolment or a removal that fails or is interrupted leaves everything as it was, whenever that happens."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from common.faces import MarkedFace
from common.pairs import all_pairs, descriptor_pairs, portraits
from common.people import described, of_descriptors
from common.transformers import DescribingGrid
from sklearn.exceptions import NotFittedError

from sklearn_psp import FaceAligner, FaceIdentifier, FaceVerifier
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.faces import _identities, _scores

IMAGES, PEOPLE = portraits()
PAIRS, SAME = all_pairs(IMAGES, PEOPLE)
NAMES = [f"p{person}" for person in PEOPLE]
ROWS, ROW_NAMES = described(range(4), 3)


class Interrupted(DescribingGrid):
    """Is stopped by Ctrl-C, by a dark image, when it is fitted or when it describes."""

    def rows(self, images):
        """Describe a batch of pixels."""
        if (images.mean(axis=(1, 2, 3)) < 5).any():
            raise KeyboardInterrupt
        return super().rows(images)


DARK = np.zeros((8, 8, 3), np.uint8)


def state(estimator):
    return {name: pickle.dumps(value) for name, value in vars(estimator).items()}


def stop(*args, **kwargs):
    raise KeyboardInterrupt


def assert_left_alone(estimator, call, error, answers):
    expected = answers(estimator)  # first: what is looked at may be kept for the next time
    before = state(estimator)
    with pytest.raises(error):
        call(estimator)
    assert state(estimator) == before
    for value, other in zip(answers(estimator), expected, strict=True):
        np.testing.assert_array_equal(value, other)


# ------------------------------------------------------------------------------------------------- FaceVerifier

VERIFIER = {
    "bad image": ([*PAIRS, (IMAGES[0], b"no")], np.append(SAME, True), ImageReadError),
    "Ctrl-C in the featurizer": ([*PAIRS, (IMAGES[0], DARK)], np.append(SAME, True), KeyboardInterrupt),
    "only genuine pairs": ([pair for pair, same in zip(PAIRS, SAME, strict=True) if same], [True] * 12, ValueError),
    "only impostor pairs": (PAIRS[4:8], [False] * 4, ValueError),
    "few labels": (PAIRS, SAME[:-1], ValueError),
    "no pairs": ([(IMAGES[0],)], [True], ValueError),
    "no target": (PAIRS, SAME, ValueError),
}


def verifier_answers(fitted):
    return fitted.predict(PAIRS), fitted.predict_proba(PAIRS), fitted.decision_function(PAIRS)


@pytest.mark.parametrize("case", VERIFIER)
def test_verifier__is_left_as_it_was(case):
    pairs, y, error = VERIFIER[case]
    fitted = FaceVerifier(Interrupted(2), random_state=0).fit(PAIRS, SAME)
    if case == "no target":
        fitted.set_params(target="best")
    assert_left_alone(fitted, lambda one: one.fit(pairs, y), error, verifier_answers)
    fresh = FaceVerifier(Interrupted(2), target=fitted.target)
    attributes = set(vars(fresh))
    with pytest.raises(error):
        fresh.fit(pairs, y)
    assert set(vars(fresh)) == attributes
    with pytest.raises(NotFittedError):
        fresh.predict(PAIRS)


@pytest.mark.parametrize("name", ["threshold_at", "threshold_interval", "far_frr", "calibrate"])
def test_verifier_that_is_interrupted_while_it_learns__is_left_as_it_was(name, monkeypatch):
    fitted = FaceVerifier(DescribingGrid(2), random_state=0).fit(PAIRS, SAME)
    monkeypatch.setattr(_scores, name, stop)
    fitted.set_params(metric="euclidean", target="eer")
    assert_left_alone(fitted, lambda one: one.fit(PAIRS, SAME), KeyboardInterrupt, verifier_answers)


def test_verifier_of_descriptors__is_left_as_it_was_by_another_width():
    pairs, same = descriptor_pairs()
    fitted = FaceVerifier(None, random_state=0).fit(pairs, same)
    narrow = [(a, b[:3]) for a, b in pairs]
    assert_left_alone(fitted, lambda one: one.fit(narrow, same), ValueError, lambda one: [one.predict_proba(pairs)])
    assert_left_alone(
        fitted, lambda one: one.fit(pairs[:, :, :3], same[:4]), ValueError, lambda one: [one.predict_proba(pairs)]
    )
    assert fitted.n_features_in_ == 16


# ------------------------------------------------------------------------------------------------- FaceIdentifier

CHANGES = {
    "fit, bad image": (lambda one: one.fit([*IMAGES, b"no"], [*NAMES, "p0"]), ImageReadError),
    "fit, Ctrl-C in the featurizer": (lambda one: one.fit([*IMAGES, DARK], [*NAMES, "p0"]), KeyboardInterrupt),
    "fit, few names": (lambda one: one.fit(IMAGES, NAMES[:-1]), ValueError),
    "fit, nobody": (lambda one: one.fit(IMAGES, ["unknown"] * 12), ValueError),
    "fit, one person": (lambda one: one.fit(IMAGES[:3], NAMES[:3]), ValueError),
    "enroll, bad image": (lambda one: one.enroll([b"no"], ["new"]), ImageReadError),
    "enroll, Ctrl-C in the featurizer": (lambda one: one.enroll([DARK], ["new"]), KeyboardInterrupt),
    "enroll, known name": (lambda one: one.enroll(IMAGES[:2], ["p0", "p0"]), ValueError),
    "remove, unknown name": (lambda one: one.remove(["p0", "new"]), KeyError),
}


def identifier_answers(fitted):
    return fitted.predict(IMAGES), fitted.predict_proba(IMAGES), fitted.retriever_.labels_, fitted.retriever_.ids_


def identifier():
    return FaceIdentifier(Interrupted(2), fpir=0.5)


@pytest.mark.parametrize("case", CHANGES)
def test_identifier__is_left_as_it_was(case):
    change, error = CHANGES[case]
    assert_left_alone(identifier().fit(IMAGES, NAMES), change, error, identifier_answers)
    fresh = identifier()
    attributes = set(vars(fresh))
    with pytest.raises(NotFittedError if case.startswith("remove") else error):
        change(fresh)
    assert set(vars(fresh)) == attributes
    with pytest.raises(NotFittedError):
        fresh.predict(IMAGES)


@pytest.mark.parametrize("change", ["fit", "enroll", "remove"])
@pytest.mark.parametrize("name", ["fit_open_set", "sorted_names", "with_unknown"])
def test_identifier_that_is_interrupted_while_it_learns__is_left_as_it_was(change, name, monkeypatch):
    fitted = identifier().fit(IMAGES, NAMES)
    monkeypatch.setattr(_identities, name, stop)
    changes = {
        "fit": lambda one: one.fit(IMAGES[::-1], ["unknown"] * 3 + NAMES[3:]),
        "enroll": lambda one: one.enroll(255 - IMAGES[:2], ["new", "new"]),
        "remove": lambda one: one.remove(["p1"]),
    }
    assert_left_alone(fitted, changes[change], KeyboardInterrupt, identifier_answers)


def test_identifier_of_descriptors__is_left_as_it_was_by_another_width():
    fitted = of_descriptors().fit(ROWS, ROW_NAMES)
    answers = [lambda one: [one.predict(ROWS), one.predict_proba(ROWS)]]
    assert_left_alone(fitted, lambda one: one.fit(ROWS[:, :5], ROW_NAMES[:-1]), ValueError, *answers)
    assert_left_alone(fitted, lambda one: one.fit(np.zeros((12, 5)), ROW_NAMES), ValueError, *answers)
    assert_left_alone(fitted, lambda one: one.enroll(ROWS[:2, :5], ["new", "new"]), ValueError, *answers)
    assert fitted.n_features_in_ == 16


# ------------------------------------------------------------------------------------------------- FaceAligner


def detector(image):
    if image.mean() < 5:
        raise KeyboardInterrupt
    return MarkedFace()(image)


@pytest.mark.parametrize("verb", ["fit_transform", "fit_describe"])
@pytest.mark.parametrize("bad", ["bad image", "no face", "Ctrl-C", "empty", "parameter"])
def test_aligner__is_left_as_it_was(astronaut, verb, bad):
    images = {"bad image": b"no", "no face": astronaut // 8, "Ctrl-C": DARK, "parameter": astronaut}
    X = [astronaut, images[bad]] if bad in images else []
    error = KeyboardInterrupt if bad == "Ctrl-C" else ValueError
    options = {"on_error": "raise"} if verb == "fit_describe" else {}
    aligner = FaceAligner(detector, size=16, n_jobs=1)
    for _ in ("unfitted", "fitted"):
        aligner.set_params(size=0 if bad == "parameter" else 16)
        before = state_of_aligner(aligner)
        with pytest.raises(error):
            getattr(aligner, verb)(X, **options)
        assert state_of_aligner(aligner) == before
        aligner.set_params(size=16).fit_transform([astronaut])
        assert len(aligner.faces_) == 1


def state_of_aligner(aligner):
    return {name: pickle.dumps(value) for name, value in vars(aligner).items() if name != "detector"}
