"""FaceIdentifier among scikit-learn's tools, in pickles and in files."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from common.networks import FAST, TinyNet
from common.people import NO_FACE, described, of_descriptors, side_by_side, tile, tile_featurizer
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

import sklearn_psp
from sklearn_psp import FaceIdentifier, NearestImageRetriever
from sklearn_psp.exceptions import FaceWarning, FewPairsWarning
from sklearn_psp.faces import make_face_featurizer

POOL, NAMES = described(range(6), 4, noise=0.7)
STRANGERS, _ = described(range(50, 62), noise=0.7)
X, Y = np.r_[POOL, STRANGERS], NAMES + ["unknown"] * 12
PROBES, _ = described([0, 1, 2, 3, 4, 5, 60, 61], 2, seed=9, noise=0.7)
TILES = [tile(person, seed) for person in range(4) for seed in range(3)]
TILE_NAMES = [f"p{person:02d}" for person in range(4) for _ in range(3)]
PUBLIC = {
    "people_",
    "classes_",
    "threshold_",
    "fpir_",
    "fpir_interval_",
    "fnir_",
    "fnir_interval_",
    "n_mated_",
    "n_nonmated_",
    "retriever_",
}


def attributes(identifier):
    return {name for name in vars(identifier) if name.endswith("_")}


def assert_alike(identifier, other, probes):
    assert attributes(other) == attributes(identifier) >= PUBLIC
    for name in PUBLIC - {"retriever_"}:
        expected, value = getattr(identifier, name), getattr(other, name)
        np.testing.assert_array_equal(value, expected)
        assert type(value) is type(expected)
    assert other.people_.dtype == identifier.people_.dtype
    assert other.classes_.dtype == identifier.classes_.dtype
    for verb in ("predict", "predict_proba"):
        np.testing.assert_array_equal(getattr(other, verb)(probes), getattr(identifier, verb)(probes))
    pd.testing.assert_frame_equal(other.identify(probes), identifier.identify(probes))


# ------------------------------------------------------------------------------------------------- parameters


def test_parameters__are_got_set_and_cloned():
    identifier = FaceIdentifier(tile_featurizer(), retriever=NearestImageRetriever(metric="euclidean"), fpir=0.05)
    params = identifier.get_params()
    assert params["fpir"] == 0.05
    assert (params["retriever__metric"], params["featurizer__aligner__size"]) == ("euclidean", 32)
    identifier.set_params(featurizer__aligner__size=48, featurizer__psp__bin_sizes=(1,), retriever__metric="cosine")
    assert identifier.featurizer["aligner"].size == 48
    assert (identifier.featurizer["psp"].bin_sizes, identifier.retriever.metric) == ((1,), "cosine")
    copy = clone(identifier.set_params(threshold=0.9).fit(TILES, TILE_NAMES))
    assert repr(copy) == repr(identifier)
    assert attributes(copy) == set()
    assert copy.featurizer is not identifier.featurizer
    assert copy.retriever is not identifier.retriever
    with pytest.raises(NotFittedError):
        copy.predict(TILES)


def test_fit_enroll_and_remove__return_it_and_change_no_parameter():
    identifier = FaceIdentifier(
        StandardScaler(), fpir=0.1, retriever=NearestImageRetriever(5), random_state=np.random.RandomState(0)
    )
    before = identifier.get_params()
    inner = [dict(vars(part)) for part in (identifier.featurizer, identifier.retriever)]
    assert identifier.fit(X, Y) is identifier
    assert identifier.enroll(*described([80], 2)) is identifier
    assert identifier.remove("p00") is identifier
    assert all(identifier.get_params()[name] is value for name, value in before.items())
    assert [vars(part) for part in (identifier.featurizer, identifier.retriever)] == inner


def test_featurizer_by_name__is_made_with_on_error(astronaut):
    identifier = FaceIdentifier(threshold=0.9, on_error="nan")
    with pytest.warns(FewPairsWarning), pytest.warns(FaceWarning, match="1 images are left out; .*no face was found"):
        identifier.fit([astronaut, np.zeros((100, 100, 3), dtype=np.uint8)], ["eileen", "unknown"])
    assert identifier.featurizer == "dlib_face"
    assert [identifier.featurizer_[i].on_error for i in range(2)] == ["nan", "nan"]
    assert repr(identifier.featurizer_) == repr(make_face_featurizer(on_error="nan"))
    assert identifier.predict([astronaut]).tolist() == ["eileen"]


def test_fit_again__forgets_what_was_before():
    table = pd.DataFrame(X, columns=[f"f{i}" for i in range(16)])
    table.iloc[3] = np.nan
    identifier = of_descriptors(on_error="nan", unknown_label=None)
    with pytest.warns(FaceWarning):
        identifier.fit(table, Y)
    assert attributes(identifier) == PUBLIC | {"errors_", "n_features_in_", "feature_names_in_"}
    identifier.enroll(table[4:6].set_axis([3, 4]) + 1, ["al", "bo"]).remove("p00")
    identifier.set_params(on_error="raise", unknown_label="unknown").fit(X[:, :9], Y)
    fresh = of_descriptors().fit(X[:, :9], Y)
    assert vars(identifier).keys() == vars(fresh).keys()
    assert_alike(fresh, identifier, PROBES[:, :9])
    identifier.set_params(featurizer=tile_featurizer(), threshold=0.99).fit(TILES, TILE_NAMES)
    assert attributes(identifier) == PUBLIC | {"featurizer_"}
    assert_alike(of_descriptors(featurizer=tile_featurizer(), threshold=0.99).fit(TILES, TILE_NAMES), identifier, TILES)
    identifier.set_params(featurizer=None, threshold=None).fit(X, Y)
    assert_alike(of_descriptors().fit(X, Y), identifier, PROBES)


def test_names_of_features__are_those_of_fit():
    table = pd.DataFrame(X, columns=[f"f{i}" for i in range(16)])
    identifier = of_descriptors().fit(table, Y)
    assert identifier.feature_names_in_.tolist() == list(table)
    assert identifier.n_features_in_ == 16
    identifier.enroll(-table[:2], ["al", "al"])
    assert identifier.predict(table).shape == (36,)
    with pytest.raises(ValueError, match="feature names"):
        identifier.predict(table.rename(columns={"f0": "g0"}))


def test_asking__changes_nothing():
    identifier = of_descriptors().fit(X, Y)
    before, copy = dict(vars(identifier)), pickle.loads(pickle.dumps(identifier))
    identifier.predict(PROBES)
    identifier.predict_proba(PROBES)
    identifier.identify(PROBES)
    identifier.score(X, Y)
    assert vars(identifier).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(identifier).items())
    assert_alike(copy, identifier, PROBES)


def test_threads__ask_at_once():
    identifier = of_descriptors().fit(X, Y)
    expected = identifier.identify(PROBES)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(identifier.identify, [PROBES] * 12):
            pd.testing.assert_frame_equal(found, expected)


# ------------------------------------------------------------------------------------------------- pickles and files


def through_file(identifier, tmp_path, **options):
    sklearn_psp.save(identifier, tmp_path / "identifier.skops")
    return sklearn_psp.load(tmp_path / "identifier.skops", **options)


def changed(identifier):
    return identifier.enroll(*described([80, 81], 2)).remove(["p00", "p03"]).enroll(*described([1], seed=4), add=True)


@pytest.mark.parametrize("way", ["pickle", "file"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_copy__answers_the_same_and_goes_on_the_same(way, metric, tmp_path):
    def copied(identifier):
        return pickle.loads(pickle.dumps(identifier)) if way == "pickle" else through_file(identifier, tmp_path)

    identifier = of_descriptors(metric, random_state=0).fit(X, Y)
    copy = copied(identifier)
    assert_alike(identifier, copy, PROBES)
    assert repr(copy) == repr(identifier)
    assert_alike(changed(identifier), changed(copy), PROBES)
    assert_alike(identifier, copied(identifier), PROBES)
    empty = copied(identifier.remove(identifier.people_))
    assert empty.people_.tolist() == []
    assert_alike(identifier.enroll(POOL, NAMES), empty.enroll(POOL, NAMES), PROBES)


@pytest.mark.parametrize("way", ["pickle", "file"])
def test_unfitted__stays_so(way, tmp_path):
    identifier = FaceIdentifier(fpir=0.02, unknown_label=-1)
    copy = pickle.loads(pickle.dumps(identifier)) if way == "pickle" else through_file(identifier, tmp_path)
    assert repr(copy) == repr(identifier)
    with pytest.raises(NotFittedError):
        copy.predict(PROBES)


@pytest.mark.parametrize(
    ("names", "params"),
    [
        (np.repeat(np.arange(6), 4), {"unknown_label": -1}),
        (np.repeat(np.arange(6), 4), {}),
        (np.array(NAMES, dtype=object), {"unknown_label": None}),
        (pd.Series(NAMES), {"threshold": 0.5}),
        (np.repeat(np.arange(6), 4) > 2, {"unknown_label": None}),
    ],
    ids=["int", "int with text", "closed", "given threshold", "closed bool"],
)
def test_names_of_any_kind__come_back_from_a_file(names, params, tmp_path):
    identifier = of_descriptors(**params).fit(POOL, names)
    assert_alike(identifier, through_file(identifier, tmp_path), PROBES)


def test_table_of_failures__comes_back_from_a_file(tmp_path):
    failing = X.copy()
    failing[2] = np.nan
    with pytest.warns(FaceWarning):
        identifier = of_descriptors(on_error="nan").fit(failing, Y)
    loaded = through_file(identifier, tmp_path)
    assert_alike(identifier, loaded, PROBES)
    pd.testing.assert_frame_equal(loaded.errors_, identifier.errors_)


def test_network_and_paths__come_back_from_a_file(tmp_path):
    small = {f"psp__{name}": value for name, value in FAST.items()}
    featurizer = make_face_featurizer(TinyNet(), detector=None).set_params(aligner__size=32, **small)
    paths = []
    for i, image in enumerate(TILES):
        paths.append(str(tmp_path / f"{i}.ppm"))
        (tmp_path / f"{i}.ppm").write_bytes(b"P6 64 64 255 " + image.tobytes())
    identifier = FaceIdentifier(featurizer, threshold=0.9).fit(paths, TILE_NAMES)
    loaded = through_file(identifier, tmp_path, modules={"common.networks.TinyNet": TinyNet(seed=1)})
    assert_alike(identifier, loaded, [tile(person, 9) for person in range(4)])
    assert set(loaded.identify(paths)["source"]) == set(paths)


# ------------------------------------------------------------------------------------------------- scikit-learn's tools


def test_tags__are_those_of_a_classifier_of_images_or_of_descriptors():
    assert is_classifier(FaceIdentifier())
    images, descriptors = (get_tags(FaceIdentifier(featurizer)).input_tags for featurizer in ("dlib_face", None))
    assert (images.two_d_array, images.three_d_array) == (False, True)
    assert (descriptors.two_d_array, descriptors.three_d_array) == (True, False)
    assert get_tags(FaceIdentifier()).target_tags.required


def test_grid_search__tunes_the_rate_on_folds_with_strangers():
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    grid = {"fpir": [0.1, 0.5, 1.0], "retriever__metric": ["cosine", "euclidean"]}
    search = GridSearchCV(of_descriptors(), grid, cv=folds).fit(X, Y)
    table = pd.DataFrame(search.cv_results_)
    assert table.groupby("param_fpir")["mean_test_score"].max().nunique() == 3
    # Naming everybody is wrong for each stranger, a third of the images.
    assert table.loc[table["param_fpir"] == 1.0, "mean_test_score"].max() <= 2 / 3
    assert search.best_params_["fpir"] < 1
    assert search.classes_.tolist() == [*sorted(set(NAMES)), "unknown"]
    chosen = of_descriptors(search.best_params_["retriever__metric"], fpir=search.best_params_["fpir"])
    np.testing.assert_array_equal(search.predict(PROBES), chosen.fit(X, Y).predict(PROBES))


def test_grid_search__tunes_the_featurizer():
    images = [tile(person, seed) for person in range(5) for seed in range(4)]
    names = np.repeat(["al", "bo", "cy", "di", "unknown"], 4)
    grid = {"featurizer__aligner__padding": [0.0, 0.25], "featurizer__psp__normalize": [True, False]}
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(FaceIdentifier(tile_featurizer(), fpir=0.2), grid, cv=folds).fit(images, names)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    chosen = search.best_estimator_.featurizer_
    assert chosen["aligner"].padding == search.best_params_["featurizer__aligner__padding"]
    assert search.best_score_ >= 0.8


def test_cross_validation__counts_strangers_that_are_kept_out():
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    scores = cross_val_score(of_descriptors(), X, Y, cv=folds)
    predicted = cross_val_predict(of_descriptors(), X, Y, cv=folds)
    right = [np.mean(predicted[test] == np.array(Y)[test]) for _, test in folds.split(X, Y)]
    assert scores.tolist() == pytest.approx(right)
    assert scores.mean() > 0.7


def test_weights__reach_the_score_of_a_cross_validation():
    weights = np.random.default_rng(0).random(len(X))
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    with config_context(enable_metadata_routing=True):
        scored = of_descriptors().set_score_request(sample_weight=True)
        scores = cross_val_score(scored, X, Y, cv=folds, params={"sample_weight": weights})
    for (train, test), score in zip(folds.split(X, Y), scores, strict=True):
        fitted = of_descriptors().fit(X[train], np.array(Y)[train])
        right = fitted.predict(X[test]) == np.array(Y)[test]
        assert score == pytest.approx(np.average(right, weights=weights[test]))


def test_pipeline__ends_with_it():
    together = make_pipeline(tile_featurizer(), FaceIdentifier(None, threshold=0.99)).fit(TILES, TILE_NAMES)
    alone = FaceIdentifier(tile_featurizer(), threshold=0.99).fit(TILES, TILE_NAMES)
    probes = [tile(person, 9) for person in range(6)]
    np.testing.assert_array_equal(together.predict(probes), alone.predict(probes))
    np.testing.assert_array_equal(together.predict_proba(probes), alone.predict_proba(probes))


def test_images_with_several_faces__are_enrolled_by_the_largest():
    pairs = [side_by_side(tile(person, seed), NO_FACE) for person in range(4) for seed in range(3)]
    identifier = FaceIdentifier(tile_featurizer(), threshold=0.99).fit(pairs, TILE_NAMES)
    assert_alike(FaceIdentifier(tile_featurizer(), threshold=0.99).fit(TILES, TILE_NAMES), identifier, TILES)
