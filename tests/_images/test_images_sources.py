"""One image of any kind: the same pixels whatever it came as, and the key of its content."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from common.ids import without_addresses
from PIL import Image, ImageOps

from sklearn_psp._images import _sources, read_image
from sklearn_psp._images._sources import (
    ItemImages,
    SomeImages,
    array_key,
    bytes_key,
    known_file_key,
    known_key,
    load_source,
)
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
    ids=without_addresses,
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


LONG_AGO = 10**18  # in nanoseconds, the year 2001


@pytest.fixture(autouse=True)
def _no_files(monkeypatch):
    monkeypatch.setattr(_sources, "_FILES", type(_sources._FILES)())


@pytest.fixture
def path(tmp_path, noise):
    path = tmp_path / "image.bmp"
    Image.fromarray(noise(6, 5, 3)).save(path)
    return path


@pytest.fixture
def later(monkeypatch):
    """Function that lets time pass, in seconds from the last change of a file."""

    def later(path, seconds):
        status = os.stat(path)
        now = max(status.st_mtime_ns, status.st_ctime_ns) + int(seconds * 10**9)
        monkeypatch.setattr(_sources.time, "time_ns", lambda: now)

    return later


def test_a_path_and_its_bytes_have_one_key(path):
    keys = {load_source(source)[0] for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()))}
    assert keys == {bytes_key(path.read_bytes())}


def test_equal_pixels_have_one_key_whatever_holds_them(noise):
    pixels = noise(6, 5, 3)
    sources = [
        pixels,
        pixels / 255,
        np.asfortranarray(pixels),
        np.repeat(pixels, 2, axis=0)[::2],
        torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
        Image.fromarray(pixels),
    ]
    assert {load_source(source)[0] for source in sources} == {array_key(pixels)}


def test_keys_depend_on_pixels_shape_and_dtype(noise):
    pixels = noise(6, 4, 3)
    changed = pixels.copy()
    changed[5, 3, 2] ^= 1
    others = [changed, pixels.reshape(4, 6, 3), pixels[::-1], pixels.view(np.int8), pixels.astype(np.float32)]
    keys = {array_key(image) for image in (pixels, *others)}
    assert len(keys) == 6
    assert all(len(key) == 16 for key in keys)


def test_bytes_and_pixels_of_the_same_numbers_have_two_keys():
    assert bytes_key(bytes(12)) != array_key(np.zeros((2, 2, 3), np.uint8))


def test_what_is_known_without_reading_is_what_reading_says(path, noise, later):
    later(path, 3)
    pixels = noise(6, 5, 3)
    assert known_key(path) is None
    for source in (path, path.read_bytes(), pixels, pixels[:, ::-1]):
        key, _ = load_source(source)
        assert known_key(source) == key
    for source in (pixels / 255, pixels[:, :, 0], Image.fromarray(pixels), np.zeros((0, 5, 3), np.uint8), None):
        assert known_key(source) is None


def test_items_of_a_lazy_sequence_are_not_asked_for_to_know_them(noise):
    class Lazy(list):
        def __getitem__(self, i):
            pytest.fail("asked for")

    assert ItemImages(Lazy([noise(4, 4, 3)]), in_memory=False).known_key(0) is None


def test_some_images_are_known_by_their_own_keys(noise):
    images = [noise(4, 4, 3, seed=i) for i in range(4)]
    some = SomeImages(ItemImages(images), [3, 1])
    assert [some.known_key(i) for i in range(2)] == [array_key(images[3]), array_key(images[1])]
    assert [some.row(i) for i in range(2)] == [3, 1]


@pytest.mark.parametrize("seconds", [-5, 0, 1.9])
def test_a_file_written_a_moment_ago_is_not_remembered(path, later, seconds):
    later(path, seconds)
    load_source(path)
    assert known_file_key(path) is None


def test_a_file_left_alone_is_remembered(path, later):
    later(path, 2.1)
    key, _ = load_source(path)
    assert known_file_key(path) == known_file_key(str(path)) == key


def test_a_file_that_grows_is_noticed(path, later):
    later(path, 3)
    load_source(path)
    times = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert known_file_key(path) is None


def test_a_file_with_another_time_is_noticed(path, later):
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    later(path, 3)
    load_source(path)
    os.utime(path, ns=(LONG_AGO, LONG_AGO + 1000))
    assert known_file_key(path) is None


def test_a_file_in_the_place_of_another_is_noticed(path, tmp_path, later):
    other = tmp_path / "other.bmp"
    other.write_bytes(path.read_bytes())
    for name in (path, other):
        os.utime(name, ns=(LONG_AGO, LONG_AGO))
    later(other, 3)
    load_source(path)
    os.replace(other, path)
    assert known_file_key(path) is None


@pytest.mark.parametrize("field", range(5))
def test_every_part_of_the_signature_counts(path, later, monkeypatch, field):
    later(path, 3)
    load_source(path)
    signature = _sources._signature

    def other(status):
        values = list(signature(status))
        values[field] += 1
        return tuple(values)

    monkeypatch.setattr(_sources, "_signature", other)
    assert known_file_key(path) is None


def test_a_file_that_is_gone_is_not_known(path, later):
    later(path, 3)
    load_source(path)
    path.unlink()
    assert known_file_key(path) is None
    assert known_file_key("a\0b") is None


def test_the_same_relative_path_elsewhere_is_another_file(tmp_path, noise, later, monkeypatch):
    keys = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        Image.fromarray(noise(6, 5, 3, seed=ord(name))).save(folder / "image.bmp")
        os.utime(folder / "image.bmp", ns=(LONG_AGO, LONG_AGO))
        monkeypatch.chdir(folder)
        later("image.bmp", 3)
        assert known_file_key("image.bmp") is None
        keys.append(load_source("image.bmp")[0])
    assert keys[0] != keys[1]
    assert known_file_key("image.bmp") == keys[1]


def test_no_more_than_so_many_files_are_remembered(tmp_path, later, monkeypatch):
    monkeypatch.setattr(_sources, "_MOST_FILES", 3)
    paths = [tmp_path / str(i) for i in range(5)]
    for path in paths:
        path.write_bytes(b"%d" % paths.index(path))
        later(path, 3)
        load_source(path)
    assert [known_file_key(path) is not None for path in paths] == [False, False, True, True, True]
