"""What FaceVerifier learns from pairs, and what it says of others; the rules of its threshold are those of metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from common.pairs import descriptor_pairs, unit
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from sklearn_psp import FaceVerifier
from sklearn_psp.exceptions import FewPairsWarning
from sklearn_psp.metrics import equal_error_rate, far_frr, rate_interval, threshold_at, threshold_interval

TARGETS = ["accuracy", "eer", ("far", 0.1), ("far", 1.0), ["far", 0.02]]
few_pairs_are_enough = pytest.mark.filterwarnings("ignore::sklearn_psp.exceptions.FewPairsWarning")


def verifier(**params):
    return FaceVerifier(**({"featurizer": None, "random_state": 0} | params))


def cosines(pairs):
    first, second = unit(np.asarray(pairs, dtype=np.float64)).swapaxes(0, 1)
    return (first * second).sum(axis=1)


def distances(pairs):
    first, second = np.asarray(pairs, dtype=np.float64).swapaxes(0, 1)
    return np.linalg.norm(first - second, axis=1)


# Vectors whose length is 1 without rounding, of which many pairs are equally alike.
signs = arrays(np.float64, st.tuples(st.integers(4, 30), st.just(2), st.just(16)), elements=st.sampled_from([-1.0, 1]))
exact_units = signs.map(lambda pairs: pairs / 4)


def both_kinds(n):
    return np.arange(n) % 3 == 0


# ------------------------------------------------------------------------------------------------- the threshold


@few_pairs_are_enough
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fit__learns_threshold_and_rates_as_the_metrics_do(target):
    pairs, same = descriptor_pairs()
    fitted = verifier(target=target, confidence=0.9).fit(pairs, same)
    scores = cosines(pairs)
    threshold = threshold_at(same, scores, target)
    assert fitted.threshold_ == pytest.approx(threshold, abs=1e-6)
    assert (fitted.far_, fitted.frr_) == far_frr(same, scores, threshold)
    assert fitted.eer_ == pytest.approx(equal_error_rate(same, scores))
    assert (fitted.n_genuine_, fitted.n_impostor_) == (30, 60)
    accepted, rejected = np.sum(scores[~same] >= threshold), np.sum(scores[same] < threshold)
    assert fitted.far_interval_ == rate_interval(accepted, 60, confidence=0.9)
    assert fitted.frr_interval_ == rate_interval(rejected, 30, confidence=0.9)
    interval = threshold_interval(same, scores, target, confidence=0.9, random_state=0)
    assert fitted.threshold_interval_ == pytest.approx(interval, abs=1e-6)
    assert roc_auc_score(same, fitted.decision_function(pairs)) == roc_auc_score(same, scores)


@pytest.mark.parametrize("target", TARGETS[:3], ids=str)
def test_euclidean__shows_threshold_and_interval_as_distances(target):
    pairs, same = descriptor_pairs()
    pairs = unit(pairs)
    fitted = verifier(target=target, metric="euclidean").fit(pairs, same)
    np.testing.assert_allclose(fitted.score_samples(pairs), -distances(pairs), rtol=1e-6)
    # The middle between two similarities is that between two squares of distances.
    threshold = threshold_at(same, -(distances(pairs) ** 2), target)
    assert fitted.threshold_ == pytest.approx(-np.sqrt(-threshold), abs=1e-6)
    low, high = fitted.threshold_interval_
    assert low < fitted.threshold_ < high < 0


def test_interval_of_the_threshold__knows_descriptors_that_are_in_several_pairs():
    vectors = np.random.default_rng(0).normal(size=(24, 8))
    places = np.random.default_rng(1).integers(24, size=(150, 2))
    pairs, same = [(vectors[a], vectors[b]) for a, b in places], places[:, 0] % 4 == places[:, 1] % 4
    fitted = verifier(target="eer").fit(pairs, same)
    # Drawn are images in the order in which they come.
    items = pd.factorize(places.ravel())[0].reshape(-1, 2)
    expected = threshold_interval(same, cosines(pairs), "eer", items=items, random_state=0)
    assert fitted.threshold_interval_ == pytest.approx(expected, abs=1e-6)
    assert verifier(target="eer").fit(np.array(pairs), same).threshold_interval_ == fitted.threshold_interval_


def test_too_few_impostor_pairs__are_said_at_the_line_of_the_caller():
    pairs, same = descriptor_pairs(n_impostor=40)
    with pytest.warns(FewPairsWarning, match=r"far=0.01 cannot be measured with 40 impostor pairs") as caught:
        fitted = verifier(target=("far", 0.01)).fit(pairs, same)
    assert [warning.filename for warning in caught] == [__file__]
    assert fitted.far_ == 0


@pytest.mark.parametrize(
    "target", ["EER", 0.1, None, ("far", 0), ("far", 2), ("tar", 0.1), ("far",), ["far", True]], ids=str
)
def test_unknown_target__is_an_error_that_names_the_rule(target):
    with pytest.raises(ValueError, match=r'target must be "accuracy", "eer" or \("far", rate\) with 0 < rate <= 1'):
        verifier(target=target).fit(*descriptor_pairs())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metric", "manhattan"),
        ("confidence", 1.0),
        ("confidence", 0),
        ("on_error", "skip"),
        ("featurizer", "facenet"),
        ("featurizer", 3),
        ("random_state", "a"),
    ],
)
def test_parameters__are_checked(name, value):
    with pytest.raises(ValueError, match=f"The {name!r} parameter of FaceVerifier must be"):
        verifier(**{name: value}).fit(*descriptor_pairs())


@pytest.mark.parametrize("verb", ["predict", "predict_proba", "decision_function", "score_samples", "score", "verify"])
def test_unfitted__refuses_and_says_that_no_threshold_is_invented(verb):
    pairs, same = descriptor_pairs()
    arguments = {"score": (pairs, same), "verify": (pairs[0, 0], pairs[0, 1])}.get(verb, (pairs,))
    with pytest.raises(NotFittedError, match=r"This FaceVerifier is not fitted: its threshold comes from pairs .*none"):
        getattr(verifier(), verb)(*arguments)


# ------------------------------------------------------------------------------------------------- decisions


@few_pairs_are_enough
@given(st.integers(0, 2**32 - 1), st.sampled_from(TARGETS), st.sampled_from(["cosine", "euclidean"]))
@settings(max_examples=40)
def test_decisions__are_scores_at_or_above_the_threshold(seed, target, metric):
    pairs, same = descriptor_pairs(12, 16, n_features=48, noise=0.3 + seed % 3, seed=seed)
    pairs[::5] = unit(pairs[::5])
    fitted = verifier(target=target, metric=metric).fit(pairs, same)
    others, of_others = descriptor_pairs(10, 10, n_features=48, seed=seed + 1)
    for asked, truth in ((pairs, same), (others, of_others)):
        scores, decisions = fitted.score_samples(asked), fitted.predict(asked)
        np.testing.assert_array_equal(decisions, scores >= fitted.threshold_)
        np.testing.assert_array_equal(fitted.decision_function(asked), scores - fitted.threshold_)
        np.testing.assert_array_equal(decisions, fitted.decision_function(asked) >= 0)
        assert fitted.score(asked, truth) == np.mean(decisions == truth)
    assert np.mean(fitted.predict(pairs)[~same]) == fitted.far_
    assert np.mean(~fitted.predict(pairs)[same]) == fitted.frr_


@few_pairs_are_enough
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_threshold_that_nothing_may_reach__lies_above_the_images_of_two_people_that_are_equal(metric):
    pairs, same = descriptor_pairs()
    pairs = np.concatenate([pairs, pairs[:1, [0, 0]]])
    same = np.append(same, False)
    fitted = verifier(target=("far", 0.01), metric=metric).fit(pairs, same)
    assert (fitted.far_, fitted.frr_) == (0, 1)
    assert not fitted.predict(pairs).any()
    assert (fitted.decision_function(pairs) < 0).all()
    assert np.isfinite(fitted.threshold_interval_).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["cosine", "euclidean"]), st.booleans())
@settings(max_examples=20)
def test_probabilities__sum_to_one_and_follow_the_score(seed, metric, reverse):
    pairs, same = descriptor_pairs(12, 16, seed=seed)
    same = same ^ reverse
    fitted = verifier(metric=metric).fit(pairs, same)
    others, _ = descriptor_pairs(20, 20, seed=seed + 1)
    probabilities = fitted.predict_proba(others)
    assert probabilities.shape == (40, 2)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    ordered = probabilities[np.argsort(fitted.score_samples(others)), 1]
    # They fall where those of the same person are less alike.
    steps = np.diff(ordered) * np.sign(ordered[-1] - ordered[0])
    assert (steps >= 0).all()
    if not reverse:
        assert ordered[-1] > ordered[0]


def test_probabilities__are_as_frequent_as_they_say():
    pairs, same = descriptor_pairs(3000, 6000, noise=1.3)
    fitted = verifier().fit(pairs[:4500], same[:4500])
    probability = fitted.predict_proba(pairs[4500:])[:, 1]
    assert np.mean(probability) == pytest.approx(same[4500:].mean(), abs=0.02)
    for low in np.arange(0, 1, 0.2):
        within = (probability >= low) & (probability < low + 0.2)
        assert within.sum() > 100
        assert same[4500:][within].mean() == pytest.approx(probability[within].mean(), abs=0.07)


# ------------------------------------------------------------------------------------------------- metrics


@few_pairs_are_enough
@given(exact_units, exact_units, st.sampled_from(TARGETS))
@settings(max_examples=25)
def test_cosine_and_euclidean__decide_alike_on_unit_vectors_with_ties(pairs, others, target):
    same = both_kinds(len(pairs))
    cosine, euclidean = (verifier(target=target, metric=name).fit(pairs, same) for name in ("cosine", "euclidean"))
    assert (cosine.far_, cosine.frr_, cosine.eer_) == (euclidean.far_, euclidean.frr_, euclidean.eer_)
    for asked in (pairs, others):
        np.testing.assert_array_equal(cosine.predict(asked), euclidean.predict(asked))
        np.testing.assert_array_equal(cosine.predict_proba(asked), euclidean.predict_proba(asked))


@few_pairs_are_enough
@given(st.integers(0, 2**32 - 1), st.sampled_from(TARGETS))
@settings(max_examples=15)
def test_cosine_and_euclidean__decide_alike_on_any_unit_vectors(seed, target):
    pairs, same = descriptor_pairs(10, 15, seed=seed)
    others, _ = descriptor_pairs(20, 20, seed=seed + 1)
    assume(np.diff(np.sort(cosines(pairs))).min() > 1e-5)  # cosine rounds the lengths once more
    cosine, euclidean = (
        verifier(target=target, metric=name).fit(unit(pairs), same) for name in ("cosine", "euclidean")
    )
    assert (cosine.far_, cosine.frr_) == (euclidean.far_, euclidean.frr_)
    clear = np.abs(cosine.decision_function(unit(others))) > 1e-5
    np.testing.assert_array_equal(cosine.predict(others)[clear], euclidean.predict(unit(others))[clear])
    np.testing.assert_allclose(cosine.predict_proba(others), euclidean.predict_proba(unit(others)), atol=1e-4)
    np.testing.assert_allclose(euclidean.score_samples(unit(others)), -np.sqrt(2 - 2 * cosines(others)), rtol=1e-5)


def test_lengths__count_for_euclidean_and_not_for_cosine():
    directions = unit(np.random.default_rng(0).normal(size=(20, 8)))
    near, far = np.stack([directions, 1.1 * directions], axis=1), np.stack([directions, 5 * directions], axis=1)
    pairs, same = np.concatenate([near, far]), np.repeat([True, False], 20)
    euclidean = verifier(metric="euclidean").fit(pairs, same)
    assert (euclidean.far_, euclidean.frr_) == (0, 0)
    np.testing.assert_allclose(euclidean.score_samples(pairs), np.repeat([-0.1, -4], 20), rtol=1e-6)
    cosine = verifier(metric="cosine").fit(
        np.concatenate([near, far, near[:, :, ::-1] * [[1], [-1]]]), [1] * 40 + [0] * 20
    )
    np.testing.assert_allclose(cosine.score_samples(pairs), 1, atol=1e-6)
    assert cosine.predict(pairs).all()
