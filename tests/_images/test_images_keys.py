"""Keys of content: what has the same, what has not, and which files are known without reading them."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from sklearn_psp._images import _sources
from sklearn_psp._images._sources import (
    ItemImages,
    SomeImages,
    array_key,
    bytes_key,
    known_file_key,
    known_key,
    load_source,
)

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
