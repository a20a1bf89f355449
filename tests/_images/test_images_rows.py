"""Tables whose rows are images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_psp._images import as_images, read_batches
from sklearn_psp._images._containers import squarest_shape
from sklearn_psp.exceptions import ImageInputError


def read(X, image_shape, image_size=(6, 8), batch_size=4):
    batches = read_batches(X, batch_size=batch_size, image_size=image_size, image_shape=image_shape)
    return np.concatenate([batch.images for batch in batches])


def test_squarest_shape_has_the_smallest_difference_of_sides():
    for n in range(1, 400):
        candidates = [(h, n // h) for h in range(1, n + 1) if n % h == 0 and h <= n // h]
        assert squarest_shape(n) == min(candidates, key=lambda shape: shape[1] - shape[0])


def test_uint8_rows_are_ordinary_images(noise):
    X = noise(5, 48)
    images = read(X, (6, 8))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, np.repeat(X.reshape(5, 6, 8, 1), 3, axis=3))
    np.testing.assert_array_equal(read(X, "auto"), images)
    np.testing.assert_array_equal(read(torch.from_numpy(X), "auto"), images)
    np.testing.assert_array_equal(read(pd.DataFrame(X), "auto"), images)
    np.testing.assert_array_equal(read(X > 99, "auto"), (images > 99) * np.uint8(255))


def test_colour_rows(noise):
    X = noise(5, 48)
    np.testing.assert_array_equal(read(X, (4, 4, 3), (4, 4)), X.reshape(5, 4, 4, 3))
    np.testing.assert_allclose(read(X / 255, (4, 4, 3), (4, 4)), X.reshape(5, 4, 4, 3), atol=1e-4)


def test_colour_rows_with_alpha_are_composed_on_white(noise):
    X = noise(5, 64)
    np.testing.assert_allclose(read(X / 255, (4, 4, 4), (4, 4)), read(X, (4, 4, 4), (4, 4)), atol=0.51)


def test_float_rows_are_scaled_neither_rounded_nor_checked():
    X = np.random.default_rng(0).normal(size=(5, 48))
    images = read(X, (6, 8))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[..., 0], X.reshape(5, 6, 8) * 255, rtol=1e-6)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_integer_rows_are_levels(noise):
    X = noise(5, 48).astype(np.int64)
    images = read(X, (6, 8))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[..., 0], X.reshape(5, 6, 8))


@pytest.mark.parametrize("convert", [np.asarray, lambda X: X.tolist(), lambda X: list(X), lambda X: X.astype(object)])
def test_rows_do_not_depend_on_their_batch(convert):
    X = np.random.default_rng(0).random((9, 48))
    images = read(convert(X), "auto", (5, 5), batch_size=9)
    np.testing.assert_array_equal(read(X, "auto", (5, 5), batch_size=2), images)
    np.testing.assert_array_equal(read(X[::-1], "auto", (5, 5))[::-1], images)


def test_image_shape_does_not_touch_images(folder):
    paths, pixels = folder
    batch = next(read_batches(paths, batch_size=1, image_size=(8, 9), image_shape="auto"))
    np.testing.assert_array_equal(batch.images[0], pixels[0])


@pytest.mark.parametrize(
    ("image_shape", "message"),
    [
        ((5, 5), r"image_shape=\(5, 5\) has 25 values, but the rows of X have 48; .* image_shape=\(6, 8\)"),
        ((4, 6, 2), r'must be "auto", \(h, w\) or \(h, w, 1 \| 3 \| 4\), got \(4, 6, 2\)'),
        ((48,), "must be"),
        ((-6, -8), "must be"),
        ("square", "got 'square'"),
        (7, "got 7"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(image_shape, message):
    with pytest.raises(ImageInputError, match=message):
        as_images(np.zeros((2, 48)), image_shape=image_shape)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 0)), r"0 feature\(s\)"),
        (np.array([["a", "b"]], dtype=object), "rows must be numbers"),
        (np.zeros((2, 4), complex), "must be real numbers"),
        (np.zeros((0, 4)), r"0 sample\(s\)"),
    ],
)
def test_tables_of_anything_else_are_refused(X, message):
    with pytest.raises(ImageInputError, match=message):
        as_images(X, image_shape="auto")
