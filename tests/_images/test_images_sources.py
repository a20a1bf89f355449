"""One image, whatever it came as."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from sklearn_psp._images import read_image
from sklearn_psp.exceptions import ImageReadError


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_same_image_as_path_bytes_pil_and_array_gives_same_pixels(tmp_path, china, suffix):
    path = china
    if suffix == "png":
        path = tmp_path / "china.png"
        with Image.open(china) as photograph:
            photograph.save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    data = path.read_bytes()
    scaled = expected / 255
    with Image.open(path) as unloaded:
        sources = {
            "str": str(path),
            "Path": path,
            "np.str_": np.str_(path),
            "bytes": data,
            "bytearray": bytearray(data),
            "memoryview": memoryview(data),
            "unloaded PIL": unloaded,
            "loaded PIL": Image.fromarray(expected),
            "uint8": expected,
            "uint16": expected.astype(np.uint16) * 257,
            "big-endian uint16": (expected.astype(np.uint16) * 257).astype(">u2"),
            "float64": scaled,
            "float32": scaled.astype(np.float32),
            "float16": scaled.astype(np.float16),
            "fortran order": np.asfortranarray(expected),
            "opaque RGBA": np.dstack([expected, np.full(expected.shape[:2], 255, np.uint8)]),
            "tensor": torch.from_numpy(expected.copy()).permute(2, 0, 1),
            "float tensor": torch.from_numpy(scaled).permute(2, 0, 1),
        }
        for name, source in sources.items():
            pixels = read_image(source)
            assert pixels.dtype == np.uint8, name
            np.testing.assert_array_equal(pixels, expected, err_msg=name)


def test_content_decides_not_the_name(tmp_path, encode, noise):
    pixels = noise(5, 7, 3)
    path = tmp_path / "png.jpg"
    path.write_bytes(encode(Image.fromarray(pixels)))
    np.testing.assert_array_equal(read_image(path), pixels)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turn_is_that_of_pillow(encode, china, file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(china) as photograph:
        data = encode(photograph.resize((33, 20)), file_format, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(data), expected)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read_image(image), expected)


def test_orientation_0_9_and_damaged_exif_turn_nothing(encode, noise):
    image = Image.fromarray(noise(6, 9, 3))
    expected = read_image(encode(image, "JPEG"))
    for orientation in (0, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        np.testing.assert_array_equal(read_image(encode(image, "JPEG", exif=exif)), expected)
    np.testing.assert_array_equal(read_image(encode(image, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")), expected)


def test_animation_gives_its_first_frame(encode, noise):
    frames = [Image.fromarray(noise(6, 8, 3, seed=i)) for i in range(3)]
    for file_format in ("PNG", "WEBP", "TIFF"):
        data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_array_equal(read_image(data), np.asarray(frames[0]), err_msg=file_format)
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(gif)) as image:
        np.testing.assert_array_equal(read_image(gif), np.asarray(image.convert("RGB")))


def test_multi_image_jpeg_gives_its_first(encode, china):
    with Image.open(china) as photograph:
        small = photograph.resize((40, 30))
    data = encode(small, "MPO", save_all=True, append_images=[ImageOps.mirror(small)])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(data), expected)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "is empty"),
        (b"plain text", r"not an image of a format that Pillow reads \(10 bytes\)"),
        (None, r"missing value \(None\)"),
        (float("nan"), "missing value"),
        (pd.NA, "missing value"),
        (17, "int is not an image: pass a path"),
        ([[1, 2], [3, 4]], r"list is not an image; pass np.asarray\(...\)"),
        (io.BytesIO(b"x"), r"open file \(BytesIO\).*file.read\(\)"),
        (np.zeros((4, 4), np.int64), r"dtype int64.*array.astype\(np.uint8\)"),
        (np.zeros((4, 4), complex), "dtype complex128"),
        (np.zeros((4, 4), object), "dtype object"),
        (np.zeros(4), r"this one has \(4,\)"),
        (np.zeros((3, 8, 9)), r"array.transpose\(1, 2, 0\)"),
        (np.zeros((8, 9, 2)), r"this one has \(8, 9, 2\)"),
        (np.zeros((0, 9, 3)), "no pixels"),
        (np.full((2, 2), 1.5), r"must lie in \[0, 1\].*1.5 to 1.5; scale it"),
        (np.array([[0.5, np.nan]]), "holds NaN"),
        (torch.zeros(8, 9, 3), r"tensor.permute\(2, 0, 1\)"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        (pd.Series(["a.png"]), "Series is not an image"),
        (np.float64(3.0), "float64 is not an image"),
        ("no such file.jpg", "there is no such file"),
        ("nul\0.jpg", "cannot be read"),
        (os.curdir, "directory; pass the paths"),
        (os.devnull, "not a regular file"),
    ],
    ids=repr,
)
def test_what_is_no_image_is_refused_with_the_reason(source, reason):
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(source)
    assert list(caught.value.errors.columns) == ["index", "source", "reason"]
    assert len(caught.value.errors) == 1


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        return
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageReadError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")


def test_path_is_named_in_the_error():
    with pytest.raises(ImageReadError, match=r"the image 'a/b.jpg' could not be decoded: there is no such file"):
        read_image(Path("a") / "b.jpg")
