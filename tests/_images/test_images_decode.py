"""Decoding: the two JPEG decoders agree, damaged files are refused, the bomb limit holds."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from sklearn_psp._images import _decode, read_image
from sklearn_psp.exceptions import ImageReadError


@pytest.fixture(scope="module")
def jpegs(encode, china):
    with Image.open(china) as photograph:
        small = photograph.resize((61, 43))
        return {
            "photograph": china.read_bytes(),
            "4:2:0": encode(small, "JPEG"),
            "4:4:4": encode(small, "JPEG", quality=95, subsampling=0),
            "4:2:2": encode(small, "JPEG", quality=30, subsampling=1),
            "progressive": encode(small, "JPEG", progressive=True),
            "optimised, restarts": encode(small, "JPEG", optimize=True, restart_marker_blocks=2),
            "grey": encode(small.convert("L"), "JPEG"),
            "stored as RGB": encode(small, "JPEG", keep_rgb=True),
            "one pixel": encode(small.crop((0, 0, 1, 1)), "JPEG"),
        }


def pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def test_torchvision_decoder_is_used_and_equals_pillow_bit_for_bit(jpegs):
    for name, data in jpegs.items():
        decoded = _decode.decode_jpeg(data)
        assert decoded is not None, name
        np.testing.assert_array_equal(decoded, pillow(data), err_msg=name)


def test_without_torchvision_decoder_pillow_gives_the_same(monkeypatch, jpegs):
    expected = {name: read_image(data) for name, data in jpegs.items()}
    monkeypatch.setattr(_decode, "_jpeg_operator", None)
    for name, data in jpegs.items():
        np.testing.assert_array_equal(read_image(data), expected[name], err_msg=name)


def test_truncated_jpeg_is_refused_wherever_it_ends(jpegs):
    for name in ("4:2:0", "progressive", "grey"):
        data = jpegs[name]
        for length in range(3, len(data), max(1, len(data) // 60)):
            with pytest.raises(ImageReadError, match="JPEG"):
                read_image(data[:length])


def test_truncated_jpeg_says_so_from_every_kind_of_source(tmp_path, jpegs):
    data = jpegs["photograph"][:5120]
    path = tmp_path / "cut.jpg"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ImageReadError, match=r"truncated JPEG \(5,120 bytes\): image file is truncated"):
            read_image(source)
    with Image.open(path) as image, pytest.raises(ImageReadError, match="truncated JPEG: image file is truncated"):
        read_image(image)


def test_bytes_behind_the_end_do_not_matter(jpegs):
    np.testing.assert_array_equal(read_image(jpegs["4:2:0"] + b"\0" * 100), read_image(jpegs["4:2:0"]))


def test_damaged_jpegs_are_accepted_and_decoded_exactly_as_by_pillow(jpegs):
    rng = random.Random(0)
    data, outcomes = jpegs["4:2:0"], {"decoded": 0, "refused": 0}
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 5)):
            damaged[rng.randrange(200, len(data))] = rng.randrange(256)
        try:
            expected = pillow(bytes(damaged))
        except (OSError, SyntaxError, ValueError):
            with pytest.raises(ImageReadError):
                read_image(bytes(damaged))
            outcomes["refused"] += 1
        else:
            np.testing.assert_array_equal(read_image(bytes(damaged)), expected)
            outcomes["decoded"] += 1
    assert outcomes["decoded"] > 20


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_files_of_other_formats_are_refused(encode, noise, file_format):
    data = encode(Image.fromarray(noise(64, 64, 3)), file_format)
    with pytest.raises(ImageReadError, match="could not be decoded"):
        read_image(data[: len(data) // 2])


@pytest.mark.parametrize("error", [SyntaxError("x"), MemoryError(), RuntimeError("x"), EOFError(), ZeroDivisionError()])
def test_whatever_a_decoder_throws_becomes_a_reason(monkeypatch, encode, error):
    data = encode(Image.new("RGB", (3, 3)))

    def load(self):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load, raising=False)
    with pytest.raises(ImageReadError, match=rf"unreadable PNG \({len(data)} bytes\): (x|{type(error).__name__})"):
        read_image(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    "limit", [99, 60, 40]
)  # 100 pixels: Pillow warns above the limit, refuses above twice the limit
def test_bombs_are_refused_by_both_decoders_from_the_limit_on(monkeypatch, encode, file_format, limit):
    data = encode(Image.new("RGB", (20, 5)), file_format)
    with Image.open(io.BytesIO(data)) as unloaded:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for source in (data, unloaded):
            with pytest.raises(
                ImageReadError, match=rf"decompression bomb.*MAX_IMAGE_PIXELS = {limit}; make the image"
            ):
                read_image(source)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("limit", [100, None])
def test_a_image_at_the_limit_is_read(monkeypatch, encode, limit):
    data = encode(Image.new("RGB", (20, 5)), "JPEG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert read_image(data).shape == (5, 20, 3)
    assert read_image(Image.new("RGB", (30, 5))).shape == (5, 30, 3)  # made in memory: no bomb


def test_reading_leaves_torch_threads_alone(jpegs):
    before = torch.get_num_threads()
    read_image(jpegs["photograph"])
    assert torch.get_num_threads() == before
