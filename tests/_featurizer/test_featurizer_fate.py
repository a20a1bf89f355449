"""The fate of images and of fits: failures of one thread's own, warnings at the user's line, refits that fail."""

from __future__ import annotations

import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from common.networks import FAST, TinyNet
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._featurizer import model_of
from sklearn_psp.exceptions import CacheSizeWarning, ImageReadError, ImageReadWarning

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
LABELS = np.repeat(["cat", "dog"], 4)


def tiny(**params):
    return PSPNetFeaturizer(**({"backbone": TinyNet()} | FAST | params))


@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_eight_threads_get_their_own_reasons_and_leave_warnings_as_found(on_error):
    featurizer = tiny(on_error=on_error).fit(IMAGES)
    expected = featurizer.transform(IMAGES[:1])
    filters, show = list(warnings.filters), warnings.showwarning
    barrier = threading.Barrier(8)

    def describe(thread):
        barrier.wait()
        found = []
        for i in range(20):
            bad = b"\xff\xd8\xff" + bytes(10 + 100 * thread + i)  # a JPEG of a length of its own
            rows, failures = featurizer.describe([IMAGES[0], bad])
            np.testing.assert_array_equal(rows[:1], expected)
            found.append((len(bad), failures.to_dict("records")))
        return found

    with ThreadPoolExecutor(8) as executor:
        answers = [answer for found in executor.map(describe, range(8)) for answer in found]
    assert len(answers) == 160
    for length, failures in answers:
        assert [failure["index"] for failure in failures] == [1]
        assert failures[0]["source"] == f"<bytes, {length:,} long>"
        assert f"({length:,} bytes)" in failures[0]["reason"]
    assert list(warnings.filters) == filters
    assert warnings.showwarning is show


VERBS = {
    "fit": lambda featurizer, X: featurizer.fit(X),
    "fit_transform": lambda featurizer, X: featurizer.fit_transform(X),
    "transform": lambda featurizer, X: featurizer.transform(X),
    "transform_parts": lambda featurizer, X: featurizer.transform_parts(X),
    "pipeline": lambda featurizer, X: make_pipeline(featurizer, "passthrough").transform(X),
    "clone in a pipeline": lambda featurizer, X: make_pipeline(clone(featurizer), "passthrough").fit(X),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_warning_points_to_the_users_line(verb):
    featurizer = tiny(on_error="nan").fit(IMAGES)
    with pytest.warns(ImageReadWarning) as caught:
        VERBS[verb](featurizer, [*IMAGES, b"not an image"])
    assert [warning.filename for warning in caught] == [__file__] * len(caught)


def test_a_warning_within_a_parameter_search_points_to_the_users_line():
    class Classifier(KNeighborsClassifier):
        def fit(self, X, y):
            return super().fit(np.nan_to_num(X), y)

        def predict(self, X):
            return super().predict(np.nan_to_num(X))

    search = GridSearchCV(
        make_pipeline(tiny(on_error="nan"), Classifier(1)), {"pspnetfeaturizer__flip": [False, True]}, cv=2
    )
    with pytest.warns(ImageReadWarning) as caught:
        search.fit([*IMAGES[:7], b"not an image"], LABELS)
    assert {warning.filename for warning in caught} == {__file__}


def test_a_warning_about_the_cache_points_to_the_users_line(folder):
    featurizer = tiny(cache=folder, cache_size=1e-3)
    with pytest.warns(CacheSizeWarning) as caught:
        featurizer.fit(IMAGES)
    assert [warning.filename for warning in caught] == [__file__]


def interrupted():
    yield IMAGES[:3]
    raise KeyboardInterrupt


def other_numbers(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


FAILING = {
    "bad image": ({}, lambda: [*other_numbers(1), b"not an image"], None, ImageReadError),
    "no readable image": ({"on_error": "nan"}, lambda: [b"not an image"], None, ImageReadError),
    "interrupted": ({}, interrupted, None, KeyboardInterrupt),
    "too few labels": ({"part_weights": "learned"}, lambda: other_numbers(1), LABELS[:5], ValueError),
    "no pair of labels": ({"part_weights": "learned"}, lambda: other_numbers(1), np.arange(8), ValueError),
    "wrong X": ({}, lambda: {"a": 1}, None, ValueError),
    "no X": ({}, lambda: None, None, ValueError),
    "wrong backbone": ({"backbone": "no_such_network"}, lambda: other_numbers(1), None, ValueError),
    "wrong parts": ({"bin_sizes": (1, 2), "part_weights": np.ones(3)}, lambda: other_numbers(1), None, ValueError),
}


@pytest.mark.parametrize("verb", ["fit", "fit_transform", "fit_describe"])
@pytest.mark.parametrize("case", FAILING)
def test_a_refit_that_fails_leaves_answers_and_attributes_as_they_were(verb, case):
    changes, make, y, error = FAILING[case]
    featurizer = tiny(on_error="raise").fit(IMAGES)
    expected, parts, before = featurizer.transform(IMAGES), featurizer.transform_parts(IMAGES), dict(vars(featurizer))
    own = featurizer.get_params(deep=False)
    featurizer.set_params(**changes)
    options = {"on_error": None} if verb == "fit_describe" else {}
    with pytest.raises(error):
        getattr(featurizer, verb)(make(), y, **options)
    featurizer.set_params(**own)
    assert vars(featurizer).keys() == before.keys()
    assert all(vars(featurizer)[name] is value for name, value in before.items())
    for same in (featurizer, pickle.loads(pickle.dumps(featurizer))):
        np.testing.assert_array_equal(same.transform(IMAGES), expected)
        np.testing.assert_array_equal(same.transform_parts(IMAGES), parts)


@pytest.mark.parametrize("case", FAILING)
def test_an_unfitted_featurizer_stays_unfitted(case):
    changes, make, y, error = FAILING[case]
    featurizer = tiny(**changes)
    before = dict(vars(featurizer))
    with pytest.raises(error):
        featurizer.fit(make(), y)
    assert vars(featurizer) == before


def test_a_refit_of_a_table_that_fails_keeps_its_columns():
    featurizer = tiny(image_shape=(32, 32, 3)).fit(IMAGES.reshape(8, -1))
    expected = featurizer.transform(IMAGES.reshape(8, -1))
    featurizer.set_params(image_shape=(16, 16, 3), bin_sizes=())
    with pytest.raises(ValueError, match="bin_sizes"):
        featurizer.fit(IMAGES[:, :16, :16].reshape(8, -1))
    featurizer.set_params(image_shape=(32, 32, 3), bin_sizes=(1, 2, 3))
    assert featurizer.n_features_in_ == 32 * 32 * 3
    np.testing.assert_array_equal(featurizer.transform(IMAGES.reshape(8, -1)), expected)


def test_a_refit_that_fails_keeps_the_copy_of_a_module_that_was_trained_on():
    network = TinyNet()
    featurizer = tiny(backbone=network).fit(IMAGES)
    expected = clone(featurizer).fit(IMAGES).transform(IMAGES)
    network.norm.weight.data += 1
    with pytest.raises(ImageReadError):
        featurizer.fit([*IMAGES, b"not an image"])
    np.testing.assert_array_equal(featurizer.transform(IMAGES), expected)


def test_what_depends_on_the_fit_is_made_once__and_anew_when_a_parameter_changes():
    featurizer = tiny().fit(IMAGES)
    rows = featurizer.transform(IMAGES)
    runner = model_of(featurizer).runner()
    featurizer.transform(IMAGES)
    assert model_of(featurizer).runner() is runner
    featurizer.set_params(pooling="avg")
    changed = featurizer.transform(IMAGES)
    assert model_of(featurizer).runner() is not runner
    assert not np.allclose(changed, rows, atol=1e-3)
    featurizer.set_params(pooling="max")
    np.testing.assert_array_equal(featurizer.transform(IMAGES), rows)
    featurizer.part_weights_[0] = 5  # in place
    assert not np.allclose(featurizer.transform(IMAGES), rows, atol=1e-3)


def test_describing_leaves_the_attributes_as_they_are():
    featurizer = tiny().fit(IMAGES)
    before = dict(vars(featurizer))
    featurizer.transform(IMAGES)
    assert vars(featurizer) == before
