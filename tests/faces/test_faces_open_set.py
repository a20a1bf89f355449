"""The threshold that keeps strangers out, its rates and the calibration, against probes compared in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from common import people_oracles
from common.people import METRICS, described, of_descriptors, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_psp.exceptions import FewPairsWarning
from sklearn_psp.faces import _open_set
from sklearn_psp.faces._open_set import fit_open_set
from sklearn_psp.faces._scores import calibrate
from sklearn_psp.metrics import fpir_fnir, rate_interval, threshold_at_fpir

seeds = st.integers(0, 2**16)


def with_strangers(people=range(6), strangers=range(50, 58), n_images=3, seed=1, noise=1.0):
    """Return descriptors of people who are hard to tell apart, then those of strangers, and all names."""
    X, names = described(people, n_images, seed=seed, noise=noise)
    others, _ = described(strangers, seed=seed + 1, noise=noise)
    return np.r_[X, others], names + ["unknown"] * len(others)


def split(X, names):
    known = np.array(names) != "unknown"
    return X[known], [name for name in names if name != "unknown"], X[~known]


@given(seeds, st.sampled_from(METRICS), st.sampled_from([0.1, 0.25, 0.5, 1.0]), st.integers(0, 8))
@settings(max_examples=40)
def test_threshold_and_rates__are_those_of_all_probes(seed, metric, fpir, n_strangers):
    X, names = with_strangers(seed=seed, strangers=range(50, 50 + n_strangers))
    identifier = of_descriptors(metric, fpir=fpir).fit(X, names)
    enrolled, whose, strangers = split(X, names)
    mated, first, nonmated = people_oracles.probes(enrolled, whose, strangers, metric)
    threshold = threshold_at_fpir(nonmated, fpir)
    assert identifier.threshold_ == pytest.approx(people_oracles.as_score(threshold, metric), abs=1e-6)
    assert type(identifier.threshold_) is float
    rates = fpir_fnir(mated, first, nonmated, threshold)
    assert (identifier.fpir_, identifier.fnir_) == pytest.approx(rates)
    assert identifier.fpir_ <= fpir
    assert (identifier.n_mated_, identifier.n_nonmated_) == (18, 18 + n_strangers)
    assert identifier.fpir_interval_ == rate_interval(round(rates[0] * len(nonmated)), len(nonmated))
    assert identifier.fnir_interval_ == rate_interval(round(rates[1] * len(mated)), len(mated))


@pytest.mark.filterwarnings("ignore::sklearn_psp.exceptions.FewPairsWarning")
@pytest.mark.parametrize("metric", METRICS)
def test_few_probes__leave_no_stranger_of_fit_a_name_by_rounding(metric):
    # The threshold is then the next number above the best stranger, and distances of the search are float32.
    for seed in range(30):
        X, names = with_strangers(seed=seed)
        identifier = of_descriptors(metric, fpir=0.001).fit(X, names)
        assert identifier.fpir_ == 0
        found = identifier.identify(split(X, names)[2])
        assert set(found["name"]) == {"unknown"}
        assert (found["score"] < identifier.threshold_).all()


def test_few_probes__are_said():
    X, names = with_strangers()
    with pytest.warns(
        FewPairsWarning, match=r"fpir=0.01 cannot be measured with 26 non-mated probes.* 100 .* 300"
    ) as w:
        of_descriptors(fpir=0.01).fit(X, names)
    assert [warning.filename for warning in w] == [__file__]


@pytest.mark.parametrize(("metric", "threshold"), [("cosine", 0.25), ("cosine", -1.5), ("euclidean", -3.0)])
def test_threshold_that_was_given__is_kept_and_measured(metric, threshold):
    X, names = with_strangers()
    identifier = of_descriptors(metric, threshold=threshold, fpir=1e-6).fit(X, names)
    assert identifier.threshold_ == pytest.approx(threshold, abs=1e-15)
    mated, first, nonmated = people_oracles.probes(*split(X, names), metric)
    shown = [[people_oracles.as_score(s, metric) for s in scores] for scores in (mated, nonmated)]
    rates = fpir_fnir(shown[0], first, shown[1], threshold)
    assert (identifier.fpir_, identifier.fnir_) == pytest.approx(rates)
    assert identifier.enroll(*described([20], 2)).threshold_ == pytest.approx(threshold, abs=1e-15)


def test_distances_cannot_be_negative__and_a_threshold_above_0_means_0():
    X, names = with_strangers()
    assert of_descriptors("euclidean", threshold=0.5).fit(X, names).threshold_ == 0


@pytest.mark.parametrize("metric", METRICS)
def test_closed_set__has_no_threshold_and_no_rates(metric):
    X, names = described(range(4), 3)
    identifier = of_descriptors(metric, unknown_label=None, threshold=0.9).fit(X, names)
    assert identifier.threshold_ == -math.inf
    assert math.isnan(identifier.fpir_)
    assert math.isnan(identifier.fnir_)
    assert (identifier.n_mated_, identifier.n_nonmated_) == (0, 0)
    assert identifier.classes_.tolist() == identifier.people_.tolist() == sorted(set(names))


def test_nobody_with_two_images__is_said_and_strangers_are_kept_out_all_the_same():
    X, names = with_strangers(range(12), n_images=1)
    with pytest.warns(FewPairsWarning, match=r"nobody has two images.*\(fnir_\).*two or more images") as caught:
        identifier = of_descriptors().fit(X, names)
    assert [warning.filename for warning in caught] == [__file__]
    _, _, nonmated = people_oracles.probes(*split(X, names), "cosine")
    assert identifier.threshold_ == pytest.approx(threshold_at_fpir(nonmated, 0.1), abs=1e-6)
    assert math.isnan(identifier.fnir_)
    assert np.isnan(identifier.fnir_interval_).all()
    assert (identifier.n_mated_, identifier.n_nonmated_) == (0, 20)


def test_nobody_with_two_images_of_a_closed_set__is_nothing_to_warn_of():
    X, names = described(range(4))
    assert of_descriptors(unknown_label=None).fit(X, names).predict(X).tolist() == names


def test_one_person_and_strangers__have_a_threshold():
    X, names = with_strangers([0], range(50, 62))
    identifier = of_descriptors().fit(X, names)
    _, _, nonmated = people_oracles.probes(*split(X, names), "cosine")
    assert len(nonmated) == 12
    assert identifier.threshold_ == pytest.approx(threshold_at_fpir(nonmated, 0.1), abs=1e-6)
    assert (identifier.n_mated_, identifier.n_nonmated_) == (3, 12)


def test_one_person_alone__is_an_error_that_names_the_remedies():
    X, names = described([7], 3)
    message = r"'p07' is the only person.*no images of unknown people.*enroll others, or .*y='unknown', or pass thres"
    identifier = of_descriptors()
    with pytest.raises(ValueError, match=message):
        identifier.fit(X, names)
    assert not hasattr(identifier, "retriever_")
    identifier = of_descriptors(threshold=0.5).fit(X, names)
    assert identifier.threshold_ == 0.5
    assert math.isnan(identifier.fpir_)
    assert np.isnan(identifier.fpir_interval_).all()
    assert (identifier.n_mated_, identifier.n_nonmated_) == (3, 0)
    assert identifier.fnir_ == 0


def test_one_person_alone_who_is_fitted_after_others__has_no_threshold_of_theirs():
    identifier = of_descriptors().fit(*described(range(4), 3))
    before = identifier.threshold_
    with pytest.raises(ValueError, match=r"'p07' is the only person"):
        identifier.fit(*described([7], 3))
    assert identifier.threshold_ == before
    assert identifier.people_.tolist() == ["p00", "p01", "p02", "p03"]


def test_one_person_left__keeps_the_threshold_and_is_said():
    X, names = described(range(4), 3)
    identifier = of_descriptors().fit(X, names)
    before = identifier.threshold_
    with pytest.warns(FewPairsWarning, match=r"'p02' is the only person.*the threshold stays what it was") as caught:
        identifier.remove(["p00", "p01", "p03"])
    assert [warning.filename for warning in caught] == [__file__]
    assert identifier.threshold_ == before
    assert math.isnan(identifier.fpir_)
    assert (identifier.n_mated_, identifier.n_nonmated_, identifier.fnir_) == (3, 0, 0.0)
    assert identifier.predict(X).tolist() == [name if name == "p02" else "unknown" for name in names]
    identifier.enroll(*described([30, 31, 32], 3))
    assert identifier.threshold_ != before


def test_one_person_left_beside_strangers__has_a_new_threshold():
    X, names = with_strangers(range(3), range(50, 62))
    identifier = of_descriptors().fit(X, names).remove(["p01", "p02"])
    kept = [i for i, name in enumerate(names) if name in ("p00", "unknown")]
    expected = of_descriptors().fit(X[kept], [names[i] for i in kept])
    assert identifier.threshold_ == expected.threshold_


@pytest.fixture
def many():
    """A gallery of more images than probes are drawn of, at least 100."""
    X, names = described(range(60), 3, noise=1.0)
    return X, names


def test_large_gallery__is_measured_by_probes_that_the_seed_draws(many, monkeypatch):
    monkeypatch.setattr(_open_set, "_N_PROBES", 120)
    fitted = [of_descriptors(random_state=seed).fit(*many) for seed in (0, 0, 1)]
    assert [identifier.n_nonmated_ for identifier in fitted] == [120] * 3
    assert fitted[0].threshold_ == fitted[1].threshold_ != fitted[2].threshold_
    all_scores = people_oracles.probes(*many, metric="cosine")[2]
    assert fitted[0].threshold_ == pytest.approx(np.quantile(all_scores, 0.9), abs=0.05)


def test_very_many_people__are_measured_by_100_probes(many, monkeypatch):
    monkeypatch.setattr(_open_set, "_MOST_SIMILARITIES", 60 * 50)
    assert of_descriptors(random_state=0).fit(*many).n_nonmated_ == 100


@pytest.mark.parametrize("metric", METRICS)
def test_calibration__is_learned_from_all_comparisons(metric):
    X, names = with_strangers()
    enrolled, whose, strangers = split(X, names)
    own, _, others = people_oracles.leave_one_out(enrolled, whose, metric)
    for table in people_oracles.person_similarities(strangers, enrolled, whose, metric):
        others += table.values()
    expected = calibrate(np.repeat([True, False], [len(own), len(others)]), np.array(own + others))
    assert of_descriptors(metric).fit(X, names)._identities.open_set.calibration == pytest.approx(
        tuple(expected), rel=1e-4
    )


@given(seeds, st.sampled_from(METRICS))
@settings(max_examples=20)
def test_calibration_of_names_that_mean_nothing__still_puts_the_most_alike_first(seed, metric):
    X = np.random.default_rng(seed).normal(size=(12, 8))
    identifier = of_descriptors(metric, unknown_label=None).fit(X, np.arange(12) % 4)
    assert identifier._identities.open_set.calibration[0] > 0
    queries = np.random.default_rng(seed + 1).normal(size=(20, 8))
    probabilities = identifier.predict_proba(queries)
    np.testing.assert_array_equal(identifier.classes_[probabilities.argmax(axis=1)], identifier.predict(queries))


def test_calibration_where_genuine_images_are_less_alike__says_nothing():
    # Everybody's two images are opposite to each other, and those of two people are not.
    X = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float64)
    identifier = of_descriptors(unknown_label=None).fit(X, ["al", "al", "bo", "bo"])
    np.testing.assert_allclose(identifier.predict_proba([[1.0, 0.1], [0.1, 1.0]]), 0.5, atol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7, 1.1, 2.3])
def test_calibration_where_all_images_are_equally_alike__says_nothing(scale):
    X = scale * np.eye(6)
    identifier = of_descriptors("euclidean", unknown_label=None).fit(X, ["al", "bo", "cy"] * 2)
    np.testing.assert_allclose(identifier.predict_proba(0.9 * X), 1 / 3, atol=1e-4)


def test_only_one_person_with_two_images__is_enough_for_the_rates():
    X, names = with_strangers()
    kept = [0, 1, 3, 6, 9, *range(18, 26)]
    X, names = X[kept], [names[i] for i in kept]
    identifier = of_descriptors().fit(X, names)
    mated, first, nonmated = people_oracles.probes(*split(X, names), "cosine")
    assert identifier.n_mated_ == len(mated) == 2
    assert identifier.fnir_ == fpir_fnir(mated, first, nonmated, identifier.threshold_)[1]
    assert identifier._identities.open_set.calibration is not None


def test_pure_function__takes_similarities_whatever_the_metric():
    X, names = with_strangers()
    enrolled, whose, strangers = split(X, names)
    people, codes = np.unique(whose, return_inverse=True)
    found = [
        fit_open_set(
            unit(enrolled),
            codes,
            len(people),
            unit(strangers),
            metric=metric,
            fpir=0.1,
            threshold=None,
            random_state=np.random.RandomState(0),
        )
        for metric in METRICS
    ]
    assert found[0].threshold == pytest.approx(found[1].threshold, abs=1e-6)
    assert found[0][1:7] == found[1][1:7]
    assert found[0].calibration == found[1].calibration
