"""Every mode brought to RGB, against closed forms and Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sklearn_psp._images import read_image
from sklearn_psp.exceptions import ImageReadError

SIDE = st.integers(1, 6)


def on_white(rgba):
    alpha = rgba[..., 3:].astype(float) / 255
    return np.floor(rgba[..., :3] * alpha + 255 * (1 - alpha) + 0.5 + 1e-9).astype(np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_alpha_is_composed_on_white(encode, noise, file_format):
    rgba = noise(40, 50, 4)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    expected = on_white(rgba)
    assert (expected[0] == 255).all()
    image = Image.fromarray(rgba)
    for source in (rgba, image, encode(image, file_format)):
        np.testing.assert_array_equal(read_image(source), expected)


def test_grey_with_alpha_is_composed_on_white(encode, noise):
    la = noise(9, 8, 2)
    expected = on_white(np.dstack([la[..., [0, 0, 0]], la[..., 1]]))
    image = Image.fromarray(la)
    assert image.mode == "LA"
    np.testing.assert_array_equal(read_image(encode(image)), expected)
    np.testing.assert_array_equal(read_image(image), expected)
    palette_alpha = Image.frombytes("PA", (2, 1), bytes([1, 51, 0, 255]))
    palette_alpha.putpalette([10, 20, 30, 40, 50, 60])
    assert read_image(palette_alpha).tolist() == [[[212, 214, 216], [10, 20, 30]]]


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_transparent_palette_colour_is_white(encode, file_format):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    pixels = read_image(encode(image, file_format, transparency=1))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


def test_palette_with_alpha_per_colour(encode):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    pixels = read_image(encode(image, transparency=bytes([255, 0, 51])))
    # 51 / 255 = 0.2: 255 - 0.2 * (255 - colour)
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [218, 220, 222]]]


@pytest.mark.parametrize(("mode", "key"), [("RGB", (1, 2, 3)), ("L", 7)])
def test_colour_key_of_png_is_white(encode, mode, key):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    pixels = read_image(encode(image, transparency=key))
    assert pixels.tolist() == [[[255, 255, 255], [9, 9, 9]]]


def test_grey_is_repeated(encode, noise):
    grey = noise(5, 6)
    expected = np.dstack([grey] * 3)
    image = Image.fromarray(grey)
    for source in (grey, grey[..., None], image, encode(image), encode(image, "PPM")):
        np.testing.assert_array_equal(read_image(source), expected)
    jpeg = encode(image, "JPEG")
    with Image.open(io.BytesIO(jpeg)) as decoded:
        np.testing.assert_array_equal(read_image(jpeg), np.asarray(decoded.convert("RGB")))


def test_black_and_white(encode):
    image = Image.frombytes("1", (8, 1), b"\xa5")
    expected = np.repeat(np.unpackbits(np.uint8([0xA5]))[None, :, None] * np.uint8(255), 3, axis=2)
    for source in (image, encode(image), expected[..., 0] > 0):
        np.testing.assert_array_equal(read_image(source), expected)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_rounded_to_eight(encode, file_format):
    levels = np.arange(0, 65536, dtype=np.uint16).reshape(256, 256)
    expected = np.dstack([np.rint(levels / 257).astype(np.uint8)] * 3)
    np.testing.assert_array_equal(read_image(levels), expected)
    np.testing.assert_array_equal(read_image(encode(Image.fromarray(levels), file_format)), expected)
    np.testing.assert_array_equal(read_image(Image.fromarray(levels.astype(np.int32))), expected)
    big = Image.frombytes("I;16B", (256, 256), levels.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(big), expected)


@pytest.mark.parametrize("value", [-1, 65536])
def test_32_bit_levels_beyond_16_bits_are_refused(value):
    with pytest.raises(ImageReadError, match="16-bit range 0 to 65,535"):
        read_image(Image.fromarray(np.array([[0, value]], np.int32)))


def test_mode_f_is_a_float_image():
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    expected = np.dstack([np.rint(values.astype(float) * 255).astype(np.uint8)] * 3)
    np.testing.assert_array_equal(read_image(Image.fromarray(values)), expected)
    with pytest.raises(ImageReadError, match=r"must lie in \[0, 1\]"):
        read_image(Image.fromarray(values * 255))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_colour_spaces_convert_as_pillow_does(mode, noise):
    image = Image.frombytes(mode, (5, 4), noise(4, 5, 4 if mode == "CMYK" else 3).tobytes())
    np.testing.assert_array_equal(read_image(image), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_is_read_as_pillow_reads_it(encode, china):
    with Image.open(china) as photograph:
        small = photograph.resize((64, 48))
    data = encode(small.convert("CMYK"), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(data), expected)
    assert np.abs(expected.astype(int) - np.asarray(small)).mean() < 8, "inverted"


def test_lab_black_grey_and_white():
    image = Image.frombytes("LAB", (3, 1), bytes([0, 0, 0, 136, 0, 0, 255, 0, 0]))  # a* and b* signed
    black, grey, white = read_image(image)[0].astype(int)
    assert black.max() <= 1
    assert np.ptp(grey) <= 2
    assert abs(grey.mean() - 127) <= 2  # L* = 53.3 is 0.214 linear, 127 in sRGB
    assert white.min() >= 254


def test_premultiplied_modes(noise):
    rgba = noise(4, 5, 4)
    premultiplied = Image.fromarray(rgba).convert("RGBa")
    np.testing.assert_array_equal(read_image(premultiplied), on_white(np.asarray(premultiplied.convert("RGBA"))))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_array_follows_the_closed_form(data):
    channels = data.draw(st.sampled_from([None, 1, 3, 4]))
    shape = (data.draw(SIDE), data.draw(SIDE)) + (() if channels is None else (channels,))
    dtype = data.draw(st.sampled_from(["u1", "<u2", ">u2", "?", "f2", "<f4", ">f4", "f8"]))
    elements = {"min_value": 0, "max_value": 1} if "f" in dtype else {}
    array = data.draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(np.dtype(dtype), **elements)))
    scale = {"u": 1 / (257 if "2" in dtype else 1), "b": 255, "f": 255}[np.dtype(dtype).kind]
    levels = np.rint(array.astype(np.float64) * scale).reshape(*shape[:2], -1)
    expected = on_white(levels) if channels == 4 else np.broadcast_to(levels, (*shape[:2], 3))
    before = array.copy()
    np.testing.assert_array_equal(read_image(array), expected)
    np.testing.assert_array_equal(array, before)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(width=64)))
def test_floats_are_read_exactly_when_all_lie_in_0_1(array):
    if ((array >= 0) & (array <= 1)).all():
        assert read_image(array).shape == (2, 3, 3)
    else:
        with pytest.raises(ImageReadError, match=r"must lie in \[0, 1\]"):
            read_image(array)
