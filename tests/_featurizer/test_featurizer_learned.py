"""part_weights="learned": fitted with labels, used like any other weights, and refused where it cannot be."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from common.networks import FAST, TinyNet
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer, load, save
from sklearn_psp.exceptions import ImageReadWarning

LEARNED = FAST | {"backbone": TinyNet(), "part_weights": "learned"}
RNG = np.random.default_rng(0)
# A class shows in the upper left quarter; the rest is noise.
LABELS = np.repeat(["cat", "dog", "emu"], 6)
IMAGES = RNG.integers(0, 256, (18, 32, 32, 3), dtype=np.uint8)
IMAGES[:, :16, :16] = (60 * np.unique(LABELS, return_inverse=True)[1] + 40)[:, None, None, None]
IMAGES[:, :16, :16] += RNG.integers(0, 20, (18, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_the_part_that_shows_the_class_weighs_most(aggregation):
    featurizer = PSPNetFeaturizer(bin_sizes=(1, 2), aggregation=aggregation, **LEARNED).fit(IMAGES, LABELS)
    parts = featurizer.parts_.assign(weight=featurizer.part_weights_)
    heaviest = parts.loc[parts["weight"].idxmax()]
    assert (heaviest["level"], heaviest["row"], heaviest["column"]) == (1, 0, 0)
    assert (featurizer.part_weights_ >= 0).all()
    assert featurizer.part_weights_.sum() == pytest.approx(5, abs=1e-4)


def test_descriptors_are_made_with_the_learned_weights():
    featurizer = PSPNetFeaturizer(**LEARNED)
    rows = featurizer.fit_transform(IMAGES, LABELS)
    given = PSPNetFeaturizer(**LEARNED | {"part_weights": featurizer.part_weights_}).fit(IMAGES)
    np.testing.assert_array_equal(given.transform(IMAGES), rows)
    np.testing.assert_array_equal(featurizer.transform(IMAGES), rows)


def test_labels_of_any_type_in_any_order_give_the_same_weights():
    expected = PSPNetFeaturizer(**LEARNED).fit(IMAGES, LABELS).part_weights_
    for y in (pd.Series(LABELS, index=range(100, 118)), pd.Categorical(LABELS), pd.factorize(LABELS)[0] * 1.5):
        np.testing.assert_array_equal(PSPNetFeaturizer(**LEARNED).fit(list(IMAGES), y).part_weights_, expected)


def test_weights_survive_clone_pickle_and_save(tmp_path):
    featurizer = PSPNetFeaturizer(
        **LEARNED | {"backbone": "timm/test_efficientnet", "weights": None, "random_state": 0}
    )
    rows = featurizer.fit_transform(IMAGES, LABELS)
    save(featurizer, tmp_path / "file.skops")
    for again in (pickle.loads(pickle.dumps(featurizer)), load(tmp_path / "file.skops")):
        np.testing.assert_array_equal(again.transform(IMAGES), rows)
    np.testing.assert_array_equal(clone(featurizer).fit(IMAGES, LABELS).part_weights_, featurizer.part_weights_)


def test_a_grid_search_compares_uniform_and_learned():
    search = Pipeline([("psp", PSPNetFeaturizer(**LEARNED)), ("retriever", NearestImageRetriever(n_neighbors=1))])
    grid = GridSearchCV(
        search, {"psp__part_weights": ["uniform", "learned"]}, cv=StratifiedKFold(3), error_score="raise"
    )
    grid.fit(list(IMAGES), LABELS)
    uniform, learned = grid.cv_results_["mean_test_score"]
    assert uniform != learned
    weights = grid.best_estimator_["psp"].part_weights_
    assert (weights == 1).all() == (uniform > learned)


def test_unreadable_images_are_left_out():
    expected = PSPNetFeaturizer(**LEARNED).fit(IMAGES, LABELS).part_weights_
    images, labels = [*IMAGES, b"not images"], [*LABELS, "cat"]
    with pytest.warns(ImageReadWarning, match="1 images could not be read"):
        featurizer = PSPNetFeaturizer(**LEARNED, on_error="nan").fit(images, labels)
    assert featurizer.errors_["index"].tolist() == [18]
    np.testing.assert_array_equal(featurizer.part_weights_, expected)


def test_only_some_of_many_images_are_learned_from_and_the_seed_says_which(monkeypatch):
    monkeypatch.setattr("sklearn_psp._featurizer._feature_model._MOST_LEARNED_FROM", 9)
    weights = [PSPNetFeaturizer(**LEARNED, random_state=seed).fit(IMAGES, LABELS).part_weights_ for seed in (0, 0, 1)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (IMAGES, None, r"part_weights='learned' needs images and their labels: fit\(X, y\)"),
        (None, LABELS, "needs images and their labels"),
        (IMAGES, LABELS[:5], "X has 18 images, but y has 5 labels"),
        (IMAGES, [None, *LABELS[1:]], "y has 1 missing labels, the first at 0"),
        (IMAGES, np.arange(18), "needs a label that two readable images have"),
        ((batch for batch in [IMAGES]), LABELS, "an iterable of batches is read once: pass a list"),
    ],
    ids=["no y", "no X", "too few", "missing", "no pair", "stream"],
)
def test_what_cannot_be_learned_from_is_refused(X, y, message):
    with pytest.raises(ValueError, match=message):
        PSPNetFeaturizer(**LEARNED | {"center": False}).fit(X, y)


def test_local_features_with_lengths_of_their_own_are_not_learned_from():
    with pytest.raises(ValueError, match=r"part_weights='learned' compares .* use normalize=True, or give the weights"):
        PSPNetFeaturizer(**LEARNED, normalize=False).fit(IMAGES, LABELS)


def test_scikit_learn_is_told_that_labels_are_needed():
    assert PSPNetFeaturizer(**LEARNED).__sklearn_tags__().target_tags.required
    assert not PSPNetFeaturizer().__sklearn_tags__().target_tags.required
    assert not PSPNetFeaturizer(part_weights=np.ones(14)).__sklearn_tags__().target_tags.required
