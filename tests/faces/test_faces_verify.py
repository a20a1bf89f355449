"""Answers of FaceVerifier: labels as they were given, the score, and verdicts on two images or two columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from common.pairs import descriptor_pairs

from sklearn_psp import FaceVerifier
from sklearn_psp.exceptions import ImageInputError
from sklearn_psp.faces import Verification


def verifier(**params):
    return FaceVerifier(**({"featurizer": None, "random_state": 0} | params))


# ------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (list, bool),
        (np.array, bool),
        (lambda same: same.astype(np.int8), np.int8),
        (lambda same: same.astype(int).tolist(), int),
        (lambda same: same.astype(float), float),
        (lambda same: pd.Series(same, index=range(5, 95)), bool),
        (lambda same: pd.Series(same).astype("boolean"), bool),
        (lambda same: pd.Series(same).astype(object), bool),
        (lambda same: np.append(same, None)[:-1], bool),
    ],
    ids=["list", "bool", "int8", "int list", "float", "Series", "boolean", "object Series", "object"],
)
def test_labels__are_those_of_fit(labels, dtype):
    pairs, same = descriptor_pairs()
    fitted = verifier().fit(pairs, labels(same))
    assert fitted.classes_.tolist() == [0, 1]
    assert fitted.classes_.dtype == fitted.predict(pairs).dtype == dtype
    np.testing.assert_array_equal(fitted.predict(pairs) == 1, verifier().fit(pairs, same).predict(pairs))
    assert fitted.score(pairs, labels(same)) == fitted.score(pairs, same)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.repeat("same", 90), "y must be bool, or 0 and 1 .*got the dtype <U4; compare labels first"),
        (np.append(np.ones(89), np.nan), r"y must be bool, or 0 and 1 .*y\[89\] is nan"),
        ([*[True] * 89, None], "y must be bool, or 0 and 1"),
        (np.arange(90), r"y\[2\] is 2"),
        (np.ones((90, 1), dtype=int), r"y must have one dimension; got the shape \(90, 1\)"),
        ([], "y is empty"),
        (None, "y must have one dimension"),
        ([0, 1], r"inconsistent numbers of samples: there are 90 pairs, but y has 2 labels"),
        (np.ones(90, dtype=bool), r"y holds no pairs of two people \(0\): a threshold needs pairs of both kinds"),
        (np.zeros(90, dtype=int), r"y holds no pairs of the same person \(1\): a threshold needs"),
    ],
    ids=["str", "NaN", "None", "numbers", "column", "empty", "missing", "short", "genuine only", "impostors only"],
)
def test_labels_of_another_kind__are_an_error(y, message):
    with pytest.raises(ValueError, match=message):
        verifier().fit(descriptor_pairs()[0], y)


def test_score__is_the_weighted_share_of_right_decisions():
    pairs, same = descriptor_pairs(noise=2)
    fitted = verifier().fit(pairs, same)
    weights = np.random.default_rng(0).integers(0, 5, 90)
    right = fitted.predict(pairs) == same
    assert 0 < right.mean() < 1
    assert fitted.score(pairs, same, sample_weight=weights) == pytest.approx(np.average(right, weights=weights))
    assert type(fitted.score(pairs, same.astype(int))) is float
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(3,\), expected \(90,\)"):
        fitted.score(pairs, same, sample_weight=[1, 2, 3])
    with pytest.raises(ValueError, match="there are 90 pairs, but y has 89 labels"):
        fitted.score(pairs, same[1:])


# ------------------------------------------------------------------------------------------------- verify


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_verify_of_two__says_what_the_other_verbs_say(metric):
    pairs, same = descriptor_pairs()
    fitted = verifier(metric=metric).fit(pairs, same)
    for pair in pairs[:6]:
        verdict = fitted.verify(*pair)
        assert isinstance(verdict, Verification)
        assert [type(value) for value in verdict] == [bool, float, float, float]
        assert verdict.same == fitted.predict([pair])[0]
        assert verdict.score == fitted.score_samples([pair])[0]
        assert verdict.threshold == fitted.threshold_
        assert verdict.probability == fitted.predict_proba([pair])[0, 1]
        assert verdict == fitted.verify(pair[0].tolist(), pd.Series(pair[1]))


def test_verify_of_a_score_that_is_the_threshold__is_the_same_person():
    pairs, same = descriptor_pairs()
    fitted = verifier(target=("far", 1.0)).fit(pairs, same)  # all are accepted, and the lowest is the threshold
    lowest = pairs[np.argmin(fitted.score_samples(pairs))]
    assert fitted.verify(*lowest).score == fitted.threshold_
    assert fitted.verify(*lowest).same
    assert fitted.verify(pairs[:, 0], pairs[:, 1])["same"].all()


@pytest.mark.parametrize("form", [np.asarray, list, tuple, pd.Series], ids=lambda form: form.__name__)
def test_verify_of_many__tabulates_what_the_other_verbs_say(form):
    pairs, same = descriptor_pairs()
    fitted = verifier().fit(pairs, same)
    columns = [form(pairs[:, side] if form is np.asarray else list(pairs[:, side])) for side in range(2)]
    table = fitted.verify(*columns)
    assert list(table) == ["same", "score", "threshold", "probability"]
    assert table["same"].dtype == "boolean"
    np.testing.assert_array_equal(table["same"].to_numpy(bool), fitted.predict(pairs))
    np.testing.assert_array_equal(table["score"], fitted.score_samples(pairs))
    np.testing.assert_array_equal(table["probability"], fitted.predict_proba(pairs)[:, 1])
    assert (table["threshold"] == fitted.threshold_).all()
    assert table.index.equals(pd.RangeIndex(90))


def test_verify_of_columns__keeps_the_index_of_the_first():
    pairs, same = descriptor_pairs()
    first, second = (pd.Series(list(pairs[:, side]), index=range(side, 90 + side)) for side in range(2))
    first.index = [f"case {i}" for i in range(90)]
    table = verifier(on_error="nan").fit(pairs, same).verify(first, second)
    assert table.index.equals(first.index)
    assert table["reason"].tolist() == [None] * 90


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (slice(0, 3), 0, "one image and a collection"),
        (0, slice(0, 3), "one image and a collection"),
        (slice(0, 3), slice(0, 2), "3 and 2 images"),
        (slice(0, 0), slice(0, 0), "pairs is empty"),
    ],
)
def test_verify_of_what_is_no_pair__is_an_error(first, second, message):
    pairs, same = descriptor_pairs()
    with pytest.raises(ImageInputError, match=message):
        verifier().fit(pairs, same).verify(pairs[first, 0], pairs[second, 1])


# ------------------------------------------------------------------------------------------------- fit again


def test_parameters_set_after_fit__change_nothing_until_the_next():
    pairs, same = descriptor_pairs()
    fitted = verifier().fit(pairs, same)
    expected = fitted.predict_proba(pairs), fitted.score_samples(pairs), fitted.predict(pairs)
    fitted.set_params(metric="euclidean", target=("far", 1.0), featurizer="dlib_face")
    for verb, values in zip(("predict_proba", "score_samples", "predict"), expected, strict=True):
        np.testing.assert_array_equal(getattr(fitted, verb)(pairs), values)
    fitted.set_params(featurizer=None).fit(pairs, same)
    assert fitted.predict(pairs).all()
    assert fitted.threshold_ < 0


def test_random_state__decides_the_interval_alone():
    pairs, same = descriptor_pairs()
    first, again, other = (verifier(random_state=seed).fit(pairs, same) for seed in (0, np.random.RandomState(0), 1))
    assert first.threshold_interval_ == again.threshold_interval_ != other.threshold_interval_
    assert first.threshold_ == other.threshold_
    np.testing.assert_array_equal(first.predict_proba(pairs), other.predict_proba(pairs))


def test_descriptors_of_another_length__are_refused():
    pairs, same = descriptor_pairs()
    fitted = verifier().fit(pairs, same)
    assert fitted.n_features_in_ == 16
    with pytest.raises(ImageInputError, match="descriptors of 5 features, but FaceVerifier is expecting 16"):
        fitted.predict(pairs[:, :, :5])
    with pytest.raises(ImageInputError, match="descriptors of 5 features"):
        fitted.verify(pairs[0, 0, :5], pairs[0, 1, :5])


def test_pairs_that_are_far_apart__leave_no_errors_and_no_warnings():
    pairs, same = descriptor_pairs(noise=0.01)
    fitted = verifier(target="eer").fit(pairs, same)
    assert (fitted.far_, fitted.frr_, fitted.eer_) == (0, 0, 0)
    assert fitted.verify(pairs[:, 0], pairs[:, 1])["same"].tolist() == same.tolist()
