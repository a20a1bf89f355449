"""Similarities, what they say of the person, and the descriptors they are of: loops, scipy and equations as oracles."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from common.pairs import portraits
from common.transformers import ColourGrid, DescribingGrid
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_psp.faces import FaceAligner, make_face_featurizer
from sklearn_psp.faces._compared_pairs import pair_similarities
from sklearn_psp.faces._describing import FaceDescriptors, check_one_row_each, describe_images, new_featurizer
from sklearn_psp.faces._scores import (
    as_score,
    calibrate,
    similarity_of_distance,
    similarity_of_score,
)

# ------------------------------------------------------------------------------------------------- similarities


@given(arrays(np.float32, (5, 7), elements=st.floats(-4, 4, width=32)), st.lists(st.integers(0, 4), min_size=1))
def test_pair_similarities__equal_the_loop(rows, first):
    second = first[::-1]
    expected = [
        1 - sum((float(x) - float(y)) ** 2 for x, y in zip(rows[a], rows[b], strict=True)) / 2
        for a, b in zip(first, second, strict=True)
    ]
    similarities = pair_similarities(rows, np.array(first), np.array(second))
    assert similarities.dtype == np.float64
    np.testing.assert_allclose(similarities, expected, rtol=1e-13, atol=1e-13)


def test_pair_similarities__tell_neighbouring_numbers_apart():
    row = np.full(128, 128**-0.5, dtype=np.float32)
    other = np.nextafter(row, np.float32(1))
    (similarity,) = pair_similarities(np.stack([row, other]), np.array([0]), np.array([1]))
    step = float(other[0]) - float(row[0])
    assert 1 - similarity == pytest.approx(128 * step**2 / 2, abs=2**-53)
    assert pair_similarities(np.stack([row, row]), np.array([0]), np.array([1])) == 1


def test_pair_similarities__of_many_rows_are_those_of_few():
    rows = np.random.default_rng(0).normal(size=(40, 4096)).astype(np.float32)
    first, second = np.arange(400) % 40, np.arange(400) * 7 % 40
    blocks = pair_similarities(rows, first, second)
    alone = [pair_similarities(rows, first[i : i + 1], second[i : i + 1])[0] for i in range(400)]
    np.testing.assert_array_equal(blocks, alone)


@given(st.floats(-20, 1))
def test_scores__are_a_similarity_and_a_negative_distance(similarity):
    assert as_score(similarity, "cosine") == similarity_of_score(similarity, "cosine") == similarity
    distance = -as_score(similarity, "euclidean")
    assert distance == pytest.approx(math.sqrt(2 - 2 * similarity))
    assert similarity_of_score(-distance, "euclidean") == pytest.approx(similarity, abs=1e-12)
    assert similarity_of_distance(distance, "euclidean") == pytest.approx(similarity, abs=1e-12)
    assert similarity_of_distance(1 - similarity, "cosine") == pytest.approx(similarity, abs=1e-12)


def test_scores__keep_nan_and_their_order():
    similarities = np.sort(np.random.default_rng(0).uniform(-1, 1, 100))
    assert (np.diff(as_score(similarities, "euclidean")) > 0).all()
    assert np.isnan(as_score(np.array([np.nan, 0.5]), "euclidean")).tolist() == [True, False]


def test_threshold_above_the_similarity_of_a_image_to_itself__is_a_distance_too():
    # Images of two people are equal: a threshold that rejects them is the number after 1.
    assert as_score(math.nextafter(1, 2), "euclidean") == 0


# ------------------------------------------------------------------------------------------------- calibration


def platt(same, similarity):
    """Fit Platt's line in float64, to his own targets."""
    n_genuine = same.sum()
    target = np.where(same, (n_genuine + 1) / (n_genuine + 2), 1 / (len(same) - n_genuine + 2))
    X = np.column_stack((similarity, np.ones(len(similarity))))

    def log_loss(line):
        z = X @ line
        return (np.logaddexp(0, z) - target * z).sum()

    def gradient(line):
        return X.T @ (expit(X @ line) - target)

    def hessian(line):
        z = X @ line
        return X.T @ (X * (expit(z) * expit(-z))[:, None])

    found = minimize(log_loss, np.zeros(2), jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-8})
    assert np.abs(found.jac).max() < 1e-6  # rounding may end it a little early
    return found.x


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(2, 300), st.sampled_from([-0.2, 0.0, 0.1, 0.3, 1.0]))
def test_calibration__is_platts(seed, n_genuine, n_impostor, gap):
    same = np.repeat([True, False], [n_genuine, n_impostor])
    similarity = 0.1 + gap * same + 0.1 * np.random.default_rng(seed).normal(size=len(same))
    line = calibrate(same, similarity)
    slope, intercept = platt(same, similarity)
    # Far from the scores that were seen a slope tells, where a probability is 0 or 1 in any case.
    assert line.slope == pytest.approx(slope, rel=1e-3, abs=1e-3)
    grid = np.linspace(-1, 1, 101)
    np.testing.assert_allclose(line.probability(grid), expit(slope * grid + intercept), atol=1e-5)
    assert line.prior == n_genuine / len(same)


def test_calibration__keeps_pairs_that_a_threshold_separates_short_of_certain():
    same = np.repeat([True, False], 10)
    line = calibrate(same, np.where(same, 0.9, 0.1))
    np.testing.assert_allclose(line.probability(np.array([0.9, 0.1])), [11 / 12, 1 / 12], atol=1e-6)


def test_calibration__falls_where_genuine_pairs_are_less_alike():
    same = np.repeat([True, False], 50)
    similarity = np.random.default_rng(0).normal(size=100) - same
    assert calibrate(same, similarity).slope < 0


# The mean of some of these is a little beside them, and their deviation rounding instead of 0.
@pytest.mark.parametrize("similarity", [0.1, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("n_genuine", [3, 5, 7])
def test_calibration_of_equal_similarities__gives_all_the_same_probability(similarity, n_genuine):
    same = np.repeat([True, False], [n_genuine, 3 * n_genuine])
    line = calibrate(same, np.full(4 * n_genuine, similarity))
    # The mean of Platt's targets.
    target = (n_genuine * (n_genuine + 1) / (n_genuine + 2) + 3 * n_genuine / (3 * n_genuine + 2)) / (4 * n_genuine)
    np.testing.assert_allclose(line.probability(np.array([-1, similarity, 1])), target, atol=1e-6)


def test_log_likelihood_ratio__is_the_posterior_without_the_prior():
    same = np.random.default_rng(0).random(200) < 0.2
    similarity = np.random.default_rng(1).normal(size=200) + same
    line = calibrate(same, similarity)
    odds = line.probability(similarity) / (1 - line.probability(similarity))
    prior_odds = same.mean() / (1 - same.mean())
    np.testing.assert_allclose(np.exp(line.log_likelihood_ratio(similarity)), odds / prior_odds)
    assert np.isnan(line.probability(np.nan))


# ------------------------------------------------------------------------------------------------- descriptors

ODD_ROWS = np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1], [1e-30, 0], [1e30, 1e30]], dtype=np.float32)


def test_described_for_cosine__have_unit_length_and_a_direction():
    described = FaceDescriptors(ODD_ROWS, "cosine")
    assert described.valid.tolist() == [True, False, False, False, True, True]
    np.testing.assert_allclose(described.rows[[0, 4, 5]], [[0.6, 0.8], [1, 0], [0.5**0.5, 0.5**0.5]], rtol=1e-6)
    assert described.reason(1) == "its descriptor is zero"
    assert described.reason(2) == described.reason(3) == "its descriptor is NaN or infinite"


def test_described_for_euclidean__keep_their_length_and_may_be_zero():
    described = FaceDescriptors(ODD_ROWS, "euclidean")
    assert described.valid.tolist() == [True, True, False, False, True, True]
    np.testing.assert_array_equal(described.rows, ODD_ROWS)


def test_describe__takes_transformers_of_every_kind():
    images, _ = portraits()
    expected = ColourGrid().fit(list(images)).transform(list(images))

    class Bare:
        """Has no fit_transform."""

        def fit(self, X, y=None):
            self.inner = ColourGrid().fit(X)
            return self

        def transform(self, X):
            return pd.DataFrame(self.inner.transform(X)).astype(np.float64)

    fitted = FrozenEstimator(ColourGrid().fit(list(images)))
    for featurizer in (ColourGrid(), Bare(), fitted):
        rows = describe_images(featurizer, list(images), on_error="raise", fit=True).rows
        assert (rows.dtype, rows.flags.c_contiguous) == (np.float32, True)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(describe_images(featurizer, list(images), on_error="raise").rows, expected)


def test_describe__keeps_nan_and_refuses_what_is_no_table():
    np.testing.assert_array_equal(describe_images(None, ODD_ROWS.tolist(), on_error="raise").rows, ODD_ROWS)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        describe_images(None, np.zeros(3), on_error="raise")


def test_rows_that_are_not_one_for_each_image__are_refused():
    check_one_row_each(ODD_ROWS, 6)
    with pytest.raises(ValueError, match=r"featurizer gave 6 rows for 5 images.*select=\"largest\""):
        check_one_row_each(ODD_ROWS, 5)


def test_name_of_a_featurizer__stands_for_the_pipeline_of_dlib():
    made = new_featurizer("dlib_face", "nan")
    assert repr(made) == repr(make_face_featurizer(on_error="nan"))
    assert made.get_params()["aligner__on_error"] == made.get_params()["psp__on_error"] == "nan"
    assert new_featurizer(None, "raise") is None


def test_featurizer_that_is_given__is_cloned():
    given = ColourGrid(size=3).fit(list(portraits()[0]))
    made = new_featurizer(given, "nan")
    assert made is not given
    assert made.get_params() == given.get_params()
    assert not hasattr(made, "center_")


def test_make_face_featurizer__passes_its_parameters_on():
    made = make_face_featurizer("resnet18", detector=None, on_error="nan", verbose=1)
    assert isinstance(made, Pipeline)
    assert isinstance(made.named_steps["aligner"], FaceAligner)
    params = made.get_params()
    assert params["psp__backbone"] == "resnet18"
    assert params["aligner__detector"] is None
    assert {params[f"{step}__on_error"] for step in ("aligner", "psp")} == {"nan"}
    assert {params[f"{step}__verbose"] for step in ("aligner", "psp")} == {1}
    # One part without a centre, which would be that of few people.
    assert (params["psp__bin_sizes"], params["psp__pooling"], params["psp__center"]) == ((1,), "avg", False)
    assert params["psp__normalize"]
    assert clone(made).set_params(psp__bin_sizes=(1, 2)).get_params()["psp__bin_sizes"] == (1, 2)


# ------------------------------------------------------------------------------------------------- reasons


def test_reasons__are_those_of_the_first_step_that_failed_or_of_the_row():
    image, *_, other = portraits()[0]
    pipeline = Pipeline([("aligner", FaceAligner(None, size=8, n_jobs=1)), ("grid", DescribingGrid(2))])
    rows, failures = describe_images(pipeline, [image, b"no", other], on_error="nan", fit=True)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]
    assert failures["index"].tolist() == [1]
    rows[2] = 0
    faces = FaceDescriptors(rows, "cosine", failures)
    assert list(faces.reasons()) == [1, 2]
    assert faces.reason(1).startswith("it could not be decoded: not an image")
    assert faces.reason(2) == "its descriptor is zero"
