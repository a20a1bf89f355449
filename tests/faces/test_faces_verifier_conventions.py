"""FaceVerifier among scikit-learn's tools, in pickles and in files, and on photographs of people."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from common.networks import FAST, TinyNet
from common.pairs import Remembering, all_pairs, descriptor_pairs, portraits
from common.transformers import ColourGrid, DescribingGrid
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

import sklearn_psp
from sklearn_psp import FaceAligner, FaceVerifier
from sklearn_psp.exceptions import FaceWarning
from sklearn_psp.faces import make_face_featurizer
from sklearn_psp.metrics import tar_at_far, threshold_at

FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)
VERBS = ("predict", "predict_proba", "decision_function", "score_samples")


def assert_alike(fitted, other, pairs):
    for verb in VERBS:
        np.testing.assert_array_equal(getattr(other, verb)(pairs), getattr(fitted, verb)(pairs))
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    pd.testing.assert_frame_equal(other.verify(first, second), fitted.verify(first, second))
    public = [
        name for name in vars(fitted) if name.endswith("_") and name not in ("featurizer_", "errors_", "classes_")
    ]
    assert len(public) >= 9
    assert {name: getattr(other, name) for name in public} == {name: getattr(fitted, name) for name in public}
    assert hasattr(fitted, "errors_") == hasattr(other, "errors_")
    if hasattr(fitted, "errors_"):
        pd.testing.assert_frame_equal(other.errors_, fitted.errors_)


# ------------------------------------------------------------------------------------------------- parameters


def test_parameters__are_got_set_and_cloned():
    verifier = FaceVerifier(ColourGrid(3), target=("far", 0.01), metric="euclidean", on_error="nan")
    params = verifier.get_params()
    assert (params["target"], params["metric"], params["featurizer__size"]) == (("far", 0.01), "euclidean", 3)
    verifier.set_params(featurizer__size=2, target="eer")
    assert (verifier.featurizer.size, verifier.target) == (2, "eer")
    copy = clone(verifier)
    assert copy.featurizer is not verifier.featurizer
    assert repr(copy) == repr(verifier)
    assert not hasattr(clone(verifier.fit(*all_pairs(*portraits()))), "threshold_")


def test_fit__returns_itself_and_changes_no_parameter():
    verifier = FaceVerifier(Remembering(2), target=["far", 0.5], random_state=np.random.RandomState(0))
    before = verifier.get_params()
    inner = dict(vars(verifier.featurizer))
    assert verifier.fit(*all_pairs(*portraits())) is verifier
    after = verifier.get_params()
    assert all(after[name] is value for name, value in before.items())
    assert vars(verifier.featurizer) == inner
    assert verifier.featurizer_ is not verifier.featurizer


def test_fit_again__forgets_what_was_before():
    pairs, same = all_pairs(*portraits())
    verifier = FaceVerifier(DescribingGrid(2, on_error="nan"), on_error="nan", random_state=0)
    with pytest.warns(FaceWarning):
        verifier.fit([(b"not images", pairs[0][0]), *pairs], np.append(True, same))
    verifier.set_params(featurizer=None, on_error="raise").fit(*descriptor_pairs())
    fresh = FaceVerifier(None, random_state=0).fit(*descriptor_pairs())
    assert vars(verifier).keys() == vars(fresh).keys()
    assert_alike(fresh, verifier, descriptor_pairs(seed=1)[0])
    verifier.set_params(featurizer=ColourGrid(2)).fit(pairs, same)
    assert not hasattr(verifier, "n_features_in_")
    assert_alike(FaceVerifier(ColourGrid(2), random_state=0).fit(pairs, same), verifier, pairs)


def test_asking__changes_nothing():
    pairs, same = all_pairs(*portraits())
    fitted = FaceVerifier(ColourGrid(2), random_state=0).fit(pairs, same)
    before = pickle.dumps(fitted)
    for verb in VERBS:
        getattr(fitted, verb)(pairs)
    fitted.score(pairs, same)
    fitted.verify(*pairs[0])
    assert pickle.dumps(fitted) == before


def test_frozen_featurizer__is_not_fitted_to_the_pairs():
    images, people = portraits()
    frozen = FrozenEstimator(ColourGrid(2).fit(list(portraits(seed=1)[0])))
    fitted = FaceVerifier(frozen).fit(*all_pairs(images, people))
    np.testing.assert_array_equal(fitted.featurizer_.center_, frozen.estimator.center_)


# ------------------------------------------------------------------------------------------------- pickles and files


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_pickle_and_file_of_descriptors__answer_the_same(metric, tmp_path):
    pairs, same = descriptor_pairs()
    fitted = FaceVerifier(None, target="eer", metric=metric, random_state=0).fit(pairs, same.astype(int))
    assert_alike(fitted, pickle.loads(pickle.dumps(fitted)), pairs)
    sklearn_psp.save(fitted, tmp_path / "verifier.skops")
    loaded = sklearn_psp.load(tmp_path / "verifier.skops")
    assert_alike(fitted, loaded, pairs)
    assert loaded.classes_.dtype == fitted.classes_.dtype
    assert repr(loaded) == repr(fitted)


def test_table_of_failures__comes_back_from_pickle_and_file(tmp_path):
    pairs, same = descriptor_pairs()
    pairs[5, 1] = np.nan
    with pytest.warns(FaceWarning):
        fitted = FaceVerifier(None, on_error="nan", random_state=0).fit(pairs, same)
    assert len(fitted.errors_) == 1
    good = np.delete(pairs, 5, axis=0)
    assert_alike(fitted, pickle.loads(pickle.dumps(fitted)), good)
    sklearn_psp.save(fitted, tmp_path / "verifier.skops")
    assert_alike(fitted, sklearn_psp.load(tmp_path / "verifier.skops"), good)


def test_network_of_ones_own__comes_back_with_its_aligner(tmp_path):
    small = {f"psp__{name}": value for name, value in (FAST | {"image_size": 16}).items()}
    featurizer = make_face_featurizer(TinyNet(), detector=None).set_params(aligner__size=16, **small)
    pairs, same = all_pairs(*portraits())
    fitted = FaceVerifier(featurizer, random_state=0).fit(pairs, same)
    assert fitted.score(pairs, same) > 0.8
    sklearn_psp.save(fitted, tmp_path / "verifier.skops")
    loaded = sklearn_psp.load(tmp_path / "verifier.skops", modules={"common.networks.TinyNet": TinyNet(seed=1)})
    assert_alike(fitted, loaded, pairs)


# ------------------------------------------------------------------------------------------------- scikit-learn's tools


def test_tags__are_those_of_a_classifier_of_two_classes():
    tags = get_tags(FaceVerifier())
    assert is_classifier(FaceVerifier())
    assert tags.estimator_type == "classifier"
    assert not tags.classifier_tags.multi_class
    assert tags.requires_fit
    assert (tags.input_tags.two_d_array, tags.input_tags.three_d_array) == (False, True)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_battery__has_one_check_for_pairs():
    # It hands out tables, and pairs are none: a green tick of check_estimator says next to nothing.
    results = check_estimator(FaceVerifier(None), on_fail=None, on_skip=None)
    assert [result["status"] for result in results] == ["passed"]


def test_cross_validation__gives_the_accuracy_of_thresholds_of_other_folds():
    pairs, same = descriptor_pairs(60, 90, noise=1.5)
    first, second = pairs.swapaxes(0, 1)
    scores = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    expected = [
        np.mean((scores[test] >= threshold_at(same[train], scores[train], "accuracy")) == same[test])
        for train, test in FOLDS.split(pairs, same)
    ]
    assert cross_val_score(FaceVerifier(None), pairs, same, cv=FOLDS).tolist() == expected
    as_list = [(a, b) for a, b in pairs]
    assert cross_val_score(FaceVerifier(None), as_list, same, cv=FOLDS).tolist() == expected


@pytest.mark.parametrize("form", [list, lambda pairs: pd.DataFrame(pairs, columns=["a", "b"])], ids=["list", "frame"])
def test_cross_validation__takes_pairs_of_images(form):
    pairs, same = all_pairs(*portraits())
    decided = cross_val_predict(FaceVerifier(ColourGrid(2)), form(pairs), same, cv=FOLDS)
    assert decided.dtype == bool
    assert np.mean(decided == same) > 0.9
    probabilities = cross_val_predict(FaceVerifier(ColourGrid(2)), form(pairs), same, cv=FOLDS, method="predict_proba")
    assert roc_auc_score(same, probabilities[:, 1]) > 0.95


def test_cross_validation_with_bad_images__warns_at_the_line_of_the_caller():
    pairs, same = all_pairs(*portraits())
    verifier = FaceVerifier(DescribingGrid(2, on_error="nan"), on_error="nan")
    with pytest.warns(FaceWarning) as caught:
        scores = cross_val_score(verifier, [(pairs[0][0], b"not images"), *pairs], np.append(True, same), cv=FOLDS)
    assert scores.min() > 0.9
    assert [warning.filename for warning in caught] == [__file__] * 3  # two fits and a score see the pair


def test_grid_search__tunes_the_target_and_the_featurizer():
    pairs, same = all_pairs(*portraits(n_people=5))
    search = GridSearchCV(
        FaceVerifier(ColourGrid()),
        {"target": ["accuracy", ("far", 1.0)], "featurizer__size": [1, 2]},
        cv=FOLDS,
        error_score="raise",
    ).fit(pairs, same)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_params_["target"] == "accuracy"
    assert search.best_estimator_.featurizer_.size == search.best_params_["featurizer__size"]
    assert search.best_score_ > 0.9
    by_target = dict(
        zip(search.cv_results_["param_target"].tolist(), search.cv_results_["mean_test_score"], strict=True)
    )
    assert by_target[("far", 1.0)] < 0.5  # accepts all
    assert search.predict(pairs).dtype == bool


def test_scorers__see_the_scores_of_the_pairs():
    pairs, same = descriptor_pairs(60, 90, noise=1.5)
    fitted = FaceVerifier(None).fit(pairs, same)
    scorer = make_scorer(tar_at_far, response_method="decision_function", far=0.1)
    assert scorer(fitted, pairs, same) == tar_at_far(same, fitted.score_samples(pairs), 0.1)
    scores = cross_val_score(FaceVerifier(None), pairs, same, cv=FOLDS, scoring=scorer)
    assert ((scores > 0.3) & (scores <= 1)).all()
    auc = cross_val_score(FaceVerifier(None), pairs, same.astype(int), cv=FOLDS, scoring="roc_auc", error_score="raise")
    assert (auc > 0.7).all()
    loss = cross_val_score(FaceVerifier(None), pairs, same, cv=FOLDS, scoring="neg_log_loss", error_score="raise")
    assert (loss > -np.log(2)).all()


def test_import__loads_neither_dlib_nor_torch():
    script = "import sklearn_psp, sys; sklearn_psp.FaceVerifier(); print(*{'torch', 'dlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, check=True)
    assert run.stdout.split() == []


# ------------------------------------------------------------------------------------------------- photographs


def test_photographs_of_people__are_told_apart(shared_data):
    table = pd.read_csv(shared_data / "face_pairs" / "master.csv")
    files = sorted(set(table["file_x"]) | set(table["file_y"]))
    aligned = FaceAligner(n_jobs=1).transform([shared_data / "face_pairs" / file for file in files])
    chips = dict(zip(files, aligned, strict=True))
    pairs = [(chips[a], chips[b]) for a, b in zip(table["file_x"], table["file_y"], strict=True)]
    same = (table["Decision"] == "Yes").to_numpy()
    fast = {"psp__runtime": "torch", "psp__precision": "float32", "psp__device": "cpu"}
    featurizer = make_face_featurizer(detector=None).set_params(**fast)
    fitted = FaceVerifier(featurizer, random_state=0).fit(pairs, same)
    assert (len(pairs), fitted.n_genuine_, len(files)) == (300, 38, 25)
    assert (fitted.far_, fitted.frr_, fitted.eer_) == (0, 0, 0)
    assert roc_auc_score(same, fitted.decision_function(pairs)) == 1
    # Described once, and not in every fold: the featurizer learns nothing.
    rows = dict(zip(files, fitted.featurizer_.transform(aligned), strict=True))
    described = np.array([(rows[a], rows[b]) for a, b in zip(table["file_x"], table["file_y"], strict=True)])
    np.testing.assert_allclose(FaceVerifier(None).fit(described, same).threshold_, fitted.threshold_, atol=1e-6)
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    assert cross_val_score(FaceVerifier(None), described, same, cv=folds).mean() >= 0.99
