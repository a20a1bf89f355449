"""One size for all: stretch, crop, pad."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sklearn_psp._images import read_image, resize_image

MODES = ["stretch", "crop", "pad"]


@pytest.mark.parametrize("size", [(224, 224), (100, 333), (600, 700)])
def test_stretch_is_pillows_bilinear(china, size):
    pixels = read_image(china)
    with Image.open(china) as image:
        expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
    resized = resize_image(pixels, size, "stretch")
    assert np.abs(resized.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("size", [(224, 224), (100, 333), (333, 100)])
def test_crop_and_pad_are_pillows_resize_with_the_centre_kept(china, size):
    pixels = read_image(china)
    height, width = size
    for mode, scale in (("crop", max), ("pad", min)):
        factor = scale(height / pixels.shape[0], width / pixels.shape[1])
        h, w = round(pixels.shape[0] * factor), round(pixels.shape[1] * factor)
        with Image.open(china) as image:
            scaled = image.resize((w, h), Image.Resampling.BILINEAR)
        left, top = (w - width) // 2, (h - height) // 2
        expected = Image.new("RGB", (width, height), "white")
        expected.paste(scaled, (-left, -top) if mode == "crop" else ((width - w) // 2, (height - h) // 2))
        resized = resize_image(pixels, size, mode)
        assert np.abs(resized.astype(int) - np.asarray(expected)).mean() < 2, mode


def test_pad_is_white_and_centred():
    resized = resize_image(np.zeros((10, 20, 3), np.uint8), (20, 20), "pad")
    assert (resized[:5] == 255).all()
    assert (resized[15:] == 255).all()
    assert (resized[5:15] == 0).all()


def test_crop_keeps_the_middle():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    assert (resize_image(image, (10, 10), "crop") == 200).all()


@pytest.mark.parametrize("mode", MODES)
def test_the_right_size_is_left_as_it_is(noise, mode):
    image = noise(8, 9, 3)
    assert resize_image(image, (8, 9), mode) is image


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 200_000, 3), (200_000, 1, 3)])
def test_a_very_long_strip_costs_no_memory(mode, shape):
    assert resize_image(np.full(shape, 7, np.uint8), (64, 32), mode).shape == (64, 32, 3)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(MODES),
    st.integers(0, 255),
)
def test_any_size_comes_out_contiguous_and_a_flat_image_stays_flat(shape, size, mode, level):
    image = np.full((*shape, 3), level, np.uint8)
    resized = resize_image(image, size, mode)
    assert resized.shape == (*size, 3)
    assert resized.dtype == np.uint8
    assert resized.flags.c_contiguous
    levels = set(np.unique(resized).tolist())
    assert level in levels
    assert levels <= ({level, 255} if mode == "pad" else {level})


@pytest.mark.parametrize("mode", MODES)
def test_mirrored_image_gives_mirrored_result(noise, mode):
    image = noise(31, 47, 3)
    resized = resize_image(image, (16, 16), mode)
    mirrored = resize_image(image[:, ::-1], (16, 16), mode)  # a negative stride, too
    assert np.abs(mirrored[:, ::-1].astype(int) - resized).max() <= (60 if mode == "crop" else 1)


def test_read_only_image_is_resized_without_a_warning(noise):
    image = noise(9, 9, 3)
    image.flags.writeable = False
    assert resize_image(image, (4, 4), "stretch").shape == (4, 4, 3)


def test_float_images_stay_float(noise):
    image = noise(9, 12, 3)
    exact = resize_image(image.astype(np.float32), (5, 6), "stretch")
    assert exact.dtype == np.float32
    assert np.abs(exact - resize_image(image, (5, 6), "stretch")).max() <= 1


def test_unknown_mode_is_refused(noise):
    with pytest.raises(ValueError, match="resize='squash' is unknown: it must be one of 'stretch', 'crop', 'pad'"):
        resize_image(noise(4, 4, 3), (2, 2), "squash")
