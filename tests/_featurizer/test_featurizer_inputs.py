"""Tables of rows, streams read once, and images that cannot be read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from common.networks import FAST, TinyNet

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp.exceptions import ImageInputError, ImageReadError, ImageReadWarning, MissingImageError


def tiny(**params):
    return PSPNetFeaturizer(TinyNet(), **(FAST | params))


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (10, 6, 8, 3), dtype=np.uint8)


def test_rows_of_levels_are_the_images_they_hold(noise):
    featurizer = tiny(image_shape=(6, 8, 3)).fit(noise.reshape(10, -1))
    assert featurizer.n_features_in_ == 144
    np.testing.assert_array_equal(featurizer.transform(noise.reshape(10, -1)), tiny().fit(noise).transform(noise))


def test_rows_of_floats_are_on_the_scale_where_1_is_white(noise):
    rows = tiny(image_shape=(6, 8, 3), center=False).fit_transform(noise.reshape(10, -1) / 255)
    featurizer = tiny(center=False).fit()
    np.testing.assert_allclose(rows, featurizer.transform(noise), atol=0.02)  # levels are rounded after the resize


def test_auto_image_shape_is_the_squarest_grey_image(noise):
    grey = noise[:, :, :, 0]
    rows = tiny(image_shape="auto").fit_transform(grey.reshape(10, -1))
    np.testing.assert_array_equal(rows, tiny().fit_transform(grey))


def test_rows_need_image_shape(noise):
    with pytest.raises(ImageInputError, match=r"2-D array of shape \(10, 144\).*image_shape=\(h, w\)"):
        tiny().fit(noise.reshape(10, -1))


@pytest.mark.parametrize("shape", [(5, 8), (6, 8), (6, 8, 2), (6,), "6x8"])
def test_image_shape_that_does_not_fit_is_refused(noise, shape):
    with pytest.raises(ValueError, match="image_shape"):
        tiny(image_shape=shape).fit(noise.reshape(10, -1))


def test_rows_of_another_length_are_refused_by_transform(noise):
    featurizer = tiny(image_shape="auto").fit(noise.reshape(10, -1))
    with pytest.raises(ValueError, match="X has 100 features, but PSPNetFeaturizer is expecting 144"):
        featurizer.transform(noise.reshape(10, -1)[:, :100])


def test_columns_are_remembered_and_forgotten(noise):
    frame = pd.DataFrame(noise.reshape(10, -1)).add_prefix("pixel")
    featurizer = tiny(image_shape="auto").fit(frame)
    assert featurizer.feature_names_in_[:2].tolist() == ["pixel0", "pixel1"]
    with pytest.raises(ValueError, match="feature names"):
        featurizer.transform(frame.add_prefix("other"))
    featurizer.fit(noise)
    assert not hasattr(featurizer, "feature_names_in_")
    assert not hasattr(featurizer, "n_features_in_")


def test_tables_are_validated_without_a_centre_too(noise):
    rows = noise.reshape(10, -1) / 255
    rows[3, 5] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        tiny(image_shape="auto", center=False).fit_transform(rows)


class CountingSequence(Sequence):
    """A lazy sequence of images that counts how often each is asked for."""

    def __init__(self, images):
        self.images = images
        self.reads = np.zeros(len(images), dtype=int)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        self.reads[i] += 1
        return self.images[i]


@pytest.mark.parametrize("center", [True, False])
def test_fit_transform_reads_each_image_once(noise, center):
    images = CountingSequence(noise)
    rows = tiny(center=center).fit_transform(images)
    assert images.reads.tolist() == [1] * 10
    np.testing.assert_allclose(rows, tiny(center=center).fit(noise).transform(noise), atol=1e-6)


@pytest.mark.parametrize("center", [True, False])
def test_fit_transform_consumes_an_iterable_of_batches_once(noise, center):
    drawn = []

    def batches():
        for start in range(0, 10, 3):
            drawn.append(start)
            yield noise[start : start + 3]

    rows = tiny(center=center).fit_transform(batches())
    assert drawn == [0, 3, 6, 9]
    np.testing.assert_allclose(rows, tiny(center=center).fit(noise).transform(noise), atol=1e-6)


def test_fit_without_a_centre_needs_no_images_and_reads_none(noise):
    featurizer = tiny(center=False).fit()
    images = CountingSequence(noise)
    np.testing.assert_array_equal(
        featurizer.transform(noise), tiny(center=False).fit(images).transform(noise), strict=True
    )
    assert images.reads.sum() == 0
    assert not featurizer.center_.any()


def test_fit_with_a_centre_needs_images():
    with pytest.raises(ValueError, match=r"X=None: center=True learns the mean.*pass them, or center=False"):
        tiny().fit()


@pytest.fixture
def spoilt(noise):
    """Ten images, of which 2 and 7 cannot be read."""
    images = list(noise)
    images[2], images[7] = b"not images", "nowhere/7.png"
    return images


def test_unreadable_image_is_named(spoilt):
    with pytest.raises(MissingImageError, match=r"1 of 10 images.*X\[7\] \('nowhere/7.png'\)"):
        tiny().fit(spoilt)
    with pytest.raises(ImageReadError, match=r"X\[2\] \(<bytes, 10 long>\) could not be decoded: .*on_error=\"nan\""):
        tiny().fit(spoilt[:7])


@pytest.mark.parametrize("center", [True, False])
def test_unreadable_images_become_rows_of_nan(noise, spoilt, center):
    featurizer = tiny(on_error="nan", center=center)
    with pytest.warns(ImageReadWarning, match=r"2 images could not be read.* the first is X\[2\]") as caught:
        rows = featurizer.fit_transform(spoilt)
    assert len(caught) == 1
    assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == [2, 7]
    good = np.delete(np.arange(10), [2, 7])
    np.testing.assert_allclose(rows[good], tiny(center=center).fit_transform(noise[good]), atol=1e-6)
    errors = caught[0].message.errors
    assert errors["index"].tolist() == [2, 7]
    assert errors["source"].tolist() == ["<bytes, 10 long>", "nowhere/7.png"]
    assert errors["reason"].str.len().min() > 0
    pd.testing.assert_frame_equal(featurizer.errors_, errors)


def test_transform_keeps_the_errors_of_fit(noise, spoilt):
    featurizer = tiny(on_error="nan").fit(noise)
    assert featurizer.errors_.columns.tolist() == ["index", "source", "reason"]
    assert len(featurizer.errors_) == 0
    before = {name: id(value) for name, value in vars(featurizer).items()}
    for method in (featurizer.transform, featurizer.transform_parts):
        with pytest.warns(ImageReadWarning):
            rows = method(spoilt)
        assert np.isnan(rows[[2, 7]]).all()
        assert np.isfinite(np.delete(rows, [2, 7], axis=0)).all()
    assert {name: id(value) for name, value in vars(featurizer).items()} == before


def test_refit_forgets_errors(noise, spoilt):
    featurizer = tiny(on_error="nan")
    with pytest.warns(ImageReadWarning):
        featurizer.fit(spoilt)
    assert len(featurizer.errors_) == 2
    featurizer.fit(noise)
    assert len(featurizer.errors_) == 0
    assert not hasattr(featurizer.set_params(on_error="raise").fit(noise), "errors_")


def test_nothing_to_fit_when_all_are_unreadable(spoilt):
    featurizer = tiny(on_error="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageReadWarning)
        with pytest.raises(ImageReadError, match="none of the images could be read") as raised:
            featurizer.fit([spoilt[2], spoilt[7]])
    assert raised.value.errors["index"].tolist() == [0, 1]
