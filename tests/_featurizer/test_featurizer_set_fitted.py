"""A featurizer that is fitted without images, with what was learned elsewhere: the door of a classifier."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from common.networks import FAST, TinyNet
from sklearn.utils.validation import check_is_fitted

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._featurizer import set_fitted, shrunk_mean
from sklearn_psp.exceptions import ImageReadWarning
from sklearn_psp.utils._arrays import center_share

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
WEIGHTS = np.linspace(0.1, 2, 14)


def tiny(**params):
    return PSPNetFeaturizer(**({"backbone": TinyNet()} | FAST | params))


@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_it_describes_as_if_it_had_been_fitted(aggregation):
    fitted = tiny(part_weights=WEIGHTS, aggregation=aggregation).fit(IMAGES)
    made = tiny(aggregation=aggregation, part_weights="learned")
    assert set_fitted(made, part_weights=WEIGHTS, center=fitted.center_) is made
    check_is_fitted(made)
    assert vars(made).keys() == vars(fitted).keys() - {"errors_"}
    for featurizer in (made, pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(featurizer.transform(IMAGES), fitted.transform(IMAGES))
        np.testing.assert_array_equal(featurizer.part_weights_, fitted.part_weights_)


def test_without_a_centre_nothing_is_subtracted_and_weights_are_those_of_the_parameter():
    expected = tiny(center=False, part_weights=WEIGHTS).fit().transform(IMAGES)
    made = set_fitted(tiny(part_weights=WEIGHTS))
    np.testing.assert_allclose(made.transform(IMAGES), expected, atol=1e-6)
    ignored = set_fitted(tiny(part_weights=WEIGHTS, center=False), center=np.ones(12))
    np.testing.assert_array_equal(ignored.transform(IMAGES), expected)
    assert not ignored.center_.any()


def test_the_centre_is_copied():
    center = np.ones(12, dtype=np.float32)
    made = set_fitted(tiny(), center=center)
    center[:] = 5
    np.testing.assert_array_equal(made.center_, np.ones(12))
    assert made.center_.dtype == np.float32


def test_what_an_earlier_fit_knew_of_its_images_is_forgotten():
    featurizer = tiny(on_error="nan")
    with pytest.warns(ImageReadWarning):
        featurizer.fit([*IMAGES, b"not images"])
    assert len(featurizer.errors_) == 1
    set_fitted(featurizer, center=np.zeros(12))
    assert not hasattr(featurizer, "errors_")


@pytest.mark.parametrize(
    ("params", "learned", "message"),
    [
        ({}, {"center": np.zeros(11)}, r"center has shape \(11,\), but descriptors have 12 features"),
        ({"aggregation": "concat"}, {"center": np.zeros(12)}, "descriptors have 168 features"),
        ({}, {"part_weights": np.ones(13)}, r"part_weights has shape \(13,\), but bin_sizes make 14 parts"),
        ({"pooling": "sum"}, {}, "The 'pooling' parameter of PSPNetFeaturizer"),
    ],
    ids=["centre", "concat", "weights", "parameter"],
)
def test_what_does_not_fit_is_refused(params, learned, message):
    with pytest.raises(ValueError, match=message):
        set_fitted(tiny(**params), **learned)


def test_a_centre_is_a_share_of_the_mean():
    rows = np.random.default_rng(1).normal(size=(150, 4)).astype(np.float32)
    assert center_share(150) == 0.75
    np.testing.assert_allclose(shrunk_mean(rows), 0.75 * rows.astype(np.float64).mean(axis=0), rtol=1e-6)
    assert shrunk_mean(rows).dtype == np.float32
