"""What FaceIdentifier predicts, how probable it says that is, and its score, against plain loops over descriptors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from common import people_oracles
from common.people import METRICS, described, of_descriptors, unit
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from sklearn_psp import FaceIdentifier, NearestImageRetriever
from sklearn_psp.exceptions import FaceError, FaceWarning, FewPairsWarning

seeds = st.integers(0, 2**16)
# Photographs of some enrolled people and of strangers, so noisy that each kind of mistake is made.
PROBES, _ = described([0, 1, 2, 3, 4, 5, 60, 61, 62, 63, 64, 65], 4, seed=99, noise=1.0)


def gallery(seed=1, n_people=6, noise=1.0):
    return described(range(n_people), 3, seed=seed, noise=noise)


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


@given(seeds, st.sampled_from(METRICS), st.sampled_from([0.1, 0.3, 1.0]))
@settings(max_examples=25)
def test_prediction__is_the_most_alike_person_at_or_above_the_threshold(seed, metric, fpir):
    X, names = gallery(seed)
    identifier = of_descriptors(metric, fpir=fpir).fit(X, names)
    expected = []
    for (best, name), (second, _), *_ in people_oracles.ranked(PROBES, X, names, metric):
        score = people_oracles.as_score(best, metric)
        # The oracle is in float64: what float32 cannot tell apart is not asked.
        assume(abs(score - identifier.threshold_) > 1e-5)
        assume(best - second > 1e-5)
        expected.append(name if score >= identifier.threshold_ else "unknown")
    assert identifier.predict(PROBES).tolist() == expected


@given(seeds, st.sampled_from(METRICS))
@settings(max_examples=15)
def test_prediction_of_a_closed_set__is_the_most_alike_person_and_the_most_probable(seed, metric):
    X, names = gallery(seed)
    identifier = of_descriptors(metric, unknown_label=None).fit(X, names)
    ranked = people_oracles.ranked(PROBES, X, names, metric)
    assume(all(best - second > 1e-5 for (best, _), (second, _), *_ in ranked))
    assert identifier.predict(PROBES).tolist() == [people[0][1] for people in ranked]
    most_probable = identifier.predict_proba(PROBES).argmax(axis=1)
    assert identifier.classes_[most_probable].tolist() == [people[0][1] for people in ranked]


@given(seeds)
@settings(max_examples=10)
def test_both_metrics__decide_alike_on_unit_vectors(seed):
    X, names = gallery(seed)
    cosine, euclidean = (of_descriptors(metric).fit(unit(X), names) for metric in METRICS)
    assert euclidean.threshold_ == pytest.approx(-math.sqrt(2 - 2 * cosine.threshold_), abs=1e-6)
    assert (cosine.fpir_, cosine.fnir_) == (euclidean.fpir_, euclidean.fnir_)
    found = [identifier.identify(unit(PROBES)) for identifier in (cosine, euclidean)]
    assume(min(abs(found[0]["score"] - cosine.threshold_)) > 1e-5)
    assert found[0]["name"].tolist() == found[1]["name"].tolist()
    assert found[0]["runner_up"].tolist() == found[1]["runner_up"].tolist()
    np.testing.assert_allclose(found[1]["score"], -np.sqrt(2 - 2 * found[0]["score"]), atol=1e-5)
    np.testing.assert_allclose(
        cosine.predict_proba(unit(PROBES)), euclidean.predict_proba(unit(PROBES)), rtol=1e-3, atol=1e-9
    )


def test_score_equal_to_the_threshold__is_accepted():
    # 3, 4 and 5: lengths and distances are exact.
    X = np.array([[0, 0], [30, 40], [100, 0]], dtype=np.float32)
    identifier = of_descriptors("euclidean", threshold=-5.0, unknown_label="nobody")
    with pytest.warns(FewPairsWarning, match="nobody has two images"):
        identifier.fit(X, ["al", "bo", "cy"])
    assert identifier.predict([[3, 4], [3, 4.001], [33, 44], [103, 4]]).tolist() == ["al", "nobody", "bo", "cy"]
    identifier.set_params(threshold=0.6, retriever=None)
    with pytest.warns(FewPairsWarning):
        identifier.fit([[1, 0], [0, -1]], ["al", "bo"])
    assert identifier.predict([[0.61, 0.79], [0.59, 0.81], [5, 0], [0, 0.5]]).tolist() == [
        "al",
        "nobody",
        "al",
        "nobody",
    ]


def test_person_with_many_images__does_not_hide_the_next_one(metric):
    rng = np.random.default_rng(0)
    around = np.r_[np.ones(4), np.zeros(4)] + 0.05 * rng.normal(size=(50, 8))
    X = np.r_[around, [[1, 1, 1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 1, 1, 0, 0]]]
    names = ["al"] * 50 + ["bo", "cy"]
    queries = np.r_[around[:5] + 0.01, [[1, 1, 0, 0, 1, 1, 0, 0.1]]]
    for threshold, accepted in ((None, True), (2.0 if metric == "cosine" else -1e-9, False)):
        found = of_descriptors(metric, threshold=threshold).fit(X, names).identify(queries)
        for row, people in zip(found.itertuples(), people_oracles.ranked(queries, X, names, metric), strict=True):
            assert row.name == (people[0][1] if accepted else "unknown")
            assert row.runner_up == people[1][1]
            scores = [people_oracles.as_score(s, metric) for s, _ in people[:2]]
            assert (row.score, row.runner_up_score) == pytest.approx(scores, abs=1e-6)


def test_search_for_the_runner_up__goes_as_deep_as_it_must_and_no_deeper(monkeypatch):
    X = np.r_[np.linspace(0, 0.1, 30), [2.0, 5.0]][:, None]
    identifier = of_descriptors("euclidean", unknown_label=None).fit(X, ["al"] * 30 + ["bo", "cy"])
    asked, real = [], NearestImageRetriever.kneighbors

    def kneighbors(self, X, k):
        asked.append((len(X), k))
        return real(self, X, k)

    monkeypatch.setattr(NearestImageRetriever, "kneighbors", kneighbors)
    found = identifier.identify([[0.0], [2.1], [4.0], [0.1]])
    assert asked == [(4, 4), (2, 16), (2, 32)]
    assert found["name"].tolist() == ["al", "bo", "cy", "al"]
    assert found["runner_up"].tolist() == ["bo", "al", "bo", "bo"]


def test_one_person__has_no_runner_up():
    X, names = described([3], 3)
    found = of_descriptors(threshold=0.5).fit(X, names).identify(X)
    assert found["name"].tolist() == names
    assert found["runner_up"].isna().all()
    assert found["runner_up_score"].isna().all()


def test_higher_rate__names_more():
    X, names = gallery()
    fitted = [of_descriptors(fpir=fpir).fit(X, names) for fpir in (0.1, 0.3, 0.6, 1.0)]
    assert np.all(np.diff([identifier.threshold_ for identifier in fitted]) < 0)
    unknown = [set(np.flatnonzero(identifier.predict(PROBES) == "unknown")) for identifier in fitted]
    assert unknown[0] > unknown[1] > unknown[2] >= unknown[3]


@pytest.mark.parametrize(
    ("name_of", "unknown", "kind"),
    [
        (str, "unknown", "U"),
        (int, -1, "i"),
        (int, "unknown", "O"),
        (lambda i: f"person {i}", None, "U"),
        (int, None, "i"),
        (bool, None, "b"),
        (lambda i: i == 0, "unknown", "O"),
    ],
    ids=["text", "int with -1", "int with text", "closed text", "closed int", "closed bool", "bool with text"],
)
def test_names__come_back_in_their_kind(name_of, unknown, kind):
    X, _ = described(range(4), 3)
    names = [name_of(i) for i in np.repeat(range(4), 3)]
    identifier = of_descriptors(unknown_label=unknown, threshold=0.5).fit(X, names)
    predicted = identifier.predict(np.r_[X, -X[:1]])
    assert predicted.dtype.kind == kind
    assert predicted[:-1].tolist() == names
    assert unknown is None or predicted[-1] == unknown
    assert identifier.people_.tolist() == sorted(set(names))
    assert identifier.classes_.tolist() == sorted(set(names)) + ([] if unknown is None else [unknown])
    assert identifier.score(X, names) == 1


def bayes(identifier, X, names, metric, prior):
    """The formula of `predict_proba`, term by term."""
    slope, intercept, share = identifier._identities.open_set.calibration
    tables = people_oracles.person_similarities(PROBES, X, names, metric)
    rows = []
    for table in tables:
        odds = [math.exp(slope * table[name] + intercept) / (share / (1 - share)) for name in sorted(table)]
        terms = odds if prior is None else [(1 - prior) / len(odds) * ratio for ratio in odds] + [prior]
        rows.append([term / math.fsum(terms) for term in terms])
    return rows


@given(seeds, st.sampled_from(METRICS), st.floats(0.01, 0.99) | st.none())
@settings(max_examples=20)
def test_probabilities__are_those_of_bayes_rule(seed, metric, prior):
    X, names = gallery(seed)
    params = {"unknown_label": None} if prior is None else {"unknown_prior": prior}
    identifier = of_descriptors(metric, **params).fit(X, names)
    probabilities = identifier.predict_proba(PROBES)
    assert probabilities.shape == (len(PROBES), len(identifier.classes_))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, bayes(identifier, X, names, metric, prior), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)


def test_share_of_strangers__moves_their_column_and_no_order_of_people():
    X, names = gallery()
    priors = [0.01, 0.2, 0.5, 0.8, 0.99]
    found = np.array([of_descriptors(unknown_prior=prior).fit(X, names).predict_proba(PROBES) for prior in priors])
    assert (np.diff(found[:, :, -1], axis=0) > 0).all()
    # What is left is shared among people as before.
    among = found[:, :, :-1] / found[:, :, :-1].sum(axis=2, keepdims=True)
    np.testing.assert_allclose(among, np.broadcast_to(among[0], among.shape), rtol=1e-9)
    odds = found[:, :, -1] / found[:, :, 0]
    ratio = np.array([prior / (1 - prior) for prior in priors])
    np.testing.assert_allclose(odds / odds[:1], np.repeat((ratio / ratio[0])[:, None], len(PROBES), axis=1), rtol=1e-9)


def test_probabilities_of_clear_faces__are_near_one():
    identifier = of_descriptors().fit(*gallery(noise=0.1))
    X, names = described([0, 5, 70, 71], seed=50, noise=0.1)
    probabilities = identifier.predict_proba(X)
    assert identifier.classes_[probabilities.argmax(axis=1)].tolist() == [*names[:2], "unknown", "unknown"]
    assert (probabilities.max(axis=1) > 0.8).all()


@pytest.mark.filterwarnings("ignore::sklearn_psp.exceptions.FewPairsWarning")
@pytest.mark.parametrize(
    ("people", "n_images", "message"),
    [
        (range(12), 1, r"nobody has two images.*add=True\)"),
        ([3], 3, "one person in the gallery and fit was given no unknown person"),
    ],
)
def test_without_genuine_or_impostor_images__there_are_names_but_no_probabilities(people, n_images, message):
    X, names = described(people, n_images)
    identifier = of_descriptors(threshold=0.5).fit(X, names)
    with pytest.raises(ValueError, match=rf"{message}.*predict and identify work as they are"):
        identifier.predict_proba(X)
    assert identifier.predict(X).tolist() == names
    found = identifier.identify(X)
    assert found["name"].tolist() == names
    assert found["probability"].isna().all()
    identifier.enroll(*described([0, 1], 2, seed=2), add=True)
    assert identifier.predict_proba(X).shape == (len(X), len(identifier.classes_))


def test_missing_descriptors__have_no_label_and_probabilities_of_nan():
    identifier = of_descriptors(on_error="nan").fit(*gallery(noise=0.2))
    X, _ = described([0, 1, 60], seed=7)
    X[1] = np.nan
    expected = identifier.predict_proba(X[[0, 2]])
    with pytest.warns(FaceWarning, match=r"1 images have no descriptor; the first is X\[1\] \(row 1\)") as caught:
        probabilities = identifier.predict_proba(X)
    assert [(warning.filename, len(warning.message.errors)) for warning in caught] == [(__file__, 1)]
    assert np.isnan(probabilities[1]).all()
    np.testing.assert_allclose(probabilities[[0, 2]], expected, rtol=1e-12)
    message = r"1 images have no descriptor, the first is X\[1\].*no label says so; predict_proba gives them NaN"
    with pytest.warns(FaceWarning), pytest.raises(FaceError, match=message) as refused:
        identifier.predict(X)
    assert refused.value.errors["index"].tolist() == [1]
    identifier.set_params(on_error="raise")
    for method in (identifier.predict, identifier.predict_proba, identifier.identify):
        with pytest.raises(FaceError, match=r'X\[1\] \(row 1\): .*NaN or infinite; remove it .*on_error="nan"'):
            method(X)


@given(seeds, st.booleans())
@settings(max_examples=10)
def test_score__is_the_share_of_right_names(seed, weighted):
    identifier = of_descriptors().fit(*gallery())
    rng = np.random.default_rng(seed)
    y = rng.choice(["p00", "p01", "p02", "somebody else", "unknown"], len(PROBES))
    weights = rng.random(len(PROBES)) if weighted else np.ones(len(PROBES))
    right = [w for w, name, named in zip(weights, y, identifier.predict(PROBES), strict=True) if name == named]
    score = identifier.score(PROBES, y, sample_weight=weights if weighted else None)
    assert type(score) is float
    assert score == pytest.approx(math.fsum(right) / math.fsum(weights))


def test_score__leaves_out_what_has_no_descriptor():
    identifier = of_descriptors(on_error="nan").fit(*gallery(noise=0.2))
    X, y = described([0, 1, 2, 60], seed=7)
    y[3] = "unknown"
    X[0], y[1] = np.nan, "p05"
    with pytest.warns(FaceWarning):
        assert identifier.score(X, y) == pytest.approx(2 / 3)
    with pytest.warns(FaceWarning):
        assert identifier.score(X, y, sample_weight=[9, 1, 2, 1]) == pytest.approx(3 / 4)
    with pytest.warns(FaceWarning), pytest.raises(FaceError, match="none of the images has a descriptor"):
        identifier.score(X[:1], y[:1])


def test_score__asks_for_one_name_a_image():
    identifier = of_descriptors().fit(*gallery())
    with pytest.raises(ValueError, match="X has 48 images, but y has 2 names"):
        identifier.score(PROBES, ["p00", "p01"])
    with pytest.raises(ValueError, match="y has 1 missing names, the first at 1; an unknown person is called"):
        identifier.score(PROBES[:2], ["p00", None])
    with pytest.raises(ValueError, match="y is None"):
        identifier.score(PROBES, None)


def test_numbers_as_names__are_no_names_of_text():
    X, names = gallery()
    identifier = of_descriptors().fit(X, names)
    assert identifier.score(X, np.arange(len(X))) == 0


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"fpir": 0}, "fpir"),
        ({"fpir": 1.1}, "fpir"),
        ({"threshold": "high"}, "threshold"),
        ({"unknown_prior": 0.0}, "unknown_prior"),
        ({"unknown_prior": 1.0}, "unknown_prior"),
        ({"on_error": "skip"}, "on_error"),
        ({"featurizer": "facenet"}, "featurizer"),
        ({"retriever": "exact"}, "retriever"),
        ({"random_state": -1}, "random_state"),
    ],
    ids=str,
)
def test_parameters__are_checked_by_fit_and_enroll(params, name):
    X, names = gallery()
    with pytest.raises(ValueError, match=f"The {name!r} parameter of FaceIdentifier must be"):
        FaceIdentifier(**{"featurizer": None, **params}).fit(X, names)
    identifier = of_descriptors().fit(X, names).set_params(**params)
    with pytest.raises(ValueError, match=f"The {name!r} parameter of FaceIdentifier must be"):
        identifier.enroll(*described([30], 2))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reranker": "aqe"}, "retriever must have reranker=None, got 'aqe': its distances are no scores"),
        ({"featurizer": StandardScaler()}, r"must have featurizer=None, got StandardScaler\(\): give it to FaceId"),
    ],
    ids=["reranker", "featurizer"],
)
def test_retriever_that_does_more_than_search__is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        FaceIdentifier(None, retriever=NearestImageRetriever(**params)).fit(*gallery())
