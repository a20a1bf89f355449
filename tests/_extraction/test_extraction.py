"""From images to features: each content runs once, every row is where it belongs, and progress counts them all."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from common.networks import FAST, TinyNet
from PIL import Image

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._extraction import _extract
from sklearn_psp._extraction._extract import Batcher, FeatureTable
from sklearn_psp.exceptions import ImageReadError, ImageReadWarning, MissingImageError

UNCENTRED = FAST | {"center": False}
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
ORDER = [3, 3, 0, 5, 3, 9, 0, 1, 1, 1, 2, 8, 9]  # seven contents


@pytest.fixture
def tiny(folder):
    """Function from parameters to a fitted featurizer; `cached=True` gives it a cache."""

    def tiny(*, cached=False, **params):
        return PSPNetFeaturizer(TinyNet(), cache=folder if cached else None, **(UNCENTRED | params)).fit()

    return tiny


@pytest.fixture
def files(tmp_path):
    """A file for every image."""
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    return paths


def in_batches(images):
    return (images[start : start + 3] for start in range(0, len(images), 3))


@pytest.fixture(params=["array", "larger array", "list", "paths", "bytes", "images", "stream"])
def form(request, files):
    """Function from positions to images, in one of the forms of X, and the descriptors' images."""
    return {
        "array": lambda order: IMAGES[order],
        "larger array": lambda order: IMAGES[order].repeat(2, axis=1).repeat(2, axis=2),
        "list": lambda order: list(IMAGES[order]),
        "paths": lambda order: [str(files[i]) for i in order],
        "bytes": lambda order: [files[i].read_bytes() for i in order],
        "images": lambda order: [Image.fromarray(IMAGES[i]) for i in order],
        "stream": lambda order: in_batches(IMAGES[order]),
    }[request.param]


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_duplicates_run_once_and_rows_keep_their_order(tiny, form, seen, cached):
    featurizer = tiny(cached=cached)
    rows = featurizer.transform(form(ORDER))
    assert sum(seen) == 7
    expected = np.concatenate([tiny().transform(form([i])) for i in range(10)])
    np.testing.assert_allclose(rows, expected[ORDER], atol=1e-3 if cached else 1e-5)
    for i, image in enumerate(ORDER):
        np.testing.assert_array_equal(rows[i], rows[ORDER.index(image)])


def test_duplicates_fill_batches_of_contents(tiny, seen):
    tiny().transform(list(IMAGES[ORDER]))
    assert seen == [4, 3]


def test_a_path_and_its_bytes_run_once(tiny, files, seen):
    rows = tiny().transform([files[0], files[1].read_bytes(), str(files[1]), files[0].read_bytes()])
    assert sum(seen) == 2
    np.testing.assert_array_equal(rows[:2], rows[[3, 2]])


def test_local_features_of_duplicates_are_equal(tiny, seen):
    parts = tiny().transform_parts(IMAGES[ORDER])
    assert sum(seen) == 7
    assert parts.shape == (13, 14, 12)
    np.testing.assert_array_equal(parts[4], parts[0])


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_every_unreadable_duplicate_is_reported_with_its_own_index(tiny, cached):
    bad = b"not images"
    X = [IMAGES[0], bad, IMAGES[1], bad, IMAGES[0], "nowhere.png", bad]
    featurizer = tiny(cached=cached, on_error="nan")
    for images in (X, in_batches(X)):
        with pytest.warns(ImageReadWarning, match="4 images could not be read") as caught:
            rows = featurizer.transform(images)
        assert caught[0].message.errors["index"].tolist() == [1, 3, 5, 6]
        assert np.isnan(rows).all(axis=1).tolist() == [False, True, False, True, False, True, True]
        np.testing.assert_array_equal(rows[4], rows[0])


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_the_first_bad_image_is_named(tiny, cached):
    featurizer = tiny(cached=cached)
    X = [*IMAGES[:6], *IMAGES[:3], b"first", *IMAGES[6:], b"second"]
    for _ in range(2):  # with a cache, only the bad ones are left to read
        with pytest.raises(ImageReadError, match=r"X\[9\] \(<bytes, 5 long>\)") as caught:
            featurizer.transform(X)
        assert caught.value.errors["index"].tolist() == [9]


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_missing_files_are_counted_among_all_images(tiny, cached):
    featurizer = tiny(cached=cached)
    featurizer.transform(IMAGES)
    with pytest.raises(MissingImageError, match=r"2 of 7 images .*X\[3\] \('a.png'\), X\[6\] \('b.png'\);"):
        featurizer.transform([*IMAGES[:3], "a.png", *IMAGES[3:5], "b.png"])


class Bar:
    """Counts what it is told."""

    def __init__(self, total):
        self.total = total
        self.n = 0

    def update(self, n):
        self.n += n


@pytest.fixture
def bars(monkeypatch):
    """The bars that were shown."""
    bars = []

    @contextmanager
    def progress(total, description, unit, verbose):
        bars.append(Bar(total))
        yield bars[-1]

    monkeypatch.setattr(_extract, "progress", progress)
    return bars


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_progress_counts_every_image_once(tiny, form, bars, forget, cached):
    featurizer = tiny(cached=cached)
    for order in (ORDER[:5], ORDER, ORDER):  # new ones; some of them known; all of them
        featurizer.transform(form(order))
        forget()
    assert [bar.n for bar in bars] == [5, 13, 13]
    assert {bar.total for bar in bars} <= {5, 13, None}


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_progress_counts_images_that_cannot_be_read(tiny, bars, cached):
    featurizer = tiny(cached=cached, on_error="nan")
    X = [IMAGES[0], b"not images", IMAGES[1], b"not images", IMAGES[0]]
    for images in (X, X, in_batches(X)):
        with pytest.warns(ImageReadWarning):
            featurizer.transform(images)
    assert [bar.n for bar in bars] == [5, 5, 5]


def test_rows_of_one_call_are_not_those_of_another(tiny):
    featurizer = tiny(cached=True)
    first = featurizer.transform(IMAGES)
    kept = first.copy()
    featurizer.transform(IMAGES)[:] = 0
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(featurizer.transform(IMAGES), kept)


def test_a_batcher_hands_out_full_batches_and_the_rest():
    batcher, images, batches = Batcher(4), np.arange(11), []
    for start, stop in [(0, 3), (3, 3), (3, 5), (5, 11)]:
        batches += batcher.add(images[start:stop], list(range(start, stop)))
    batches += batcher.rest()
    assert [names for _, names in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    for images_of, names in batches:
        assert images_of.tolist() == names
    assert list(batcher.rest()) == []


def test_a_full_batch_passes_without_a_copy():
    images = np.zeros((4, 2, 2, 3))
    ((batch, _),) = Batcher(4).add(images, list("abcd"))
    assert batch is images


@pytest.mark.parametrize("n_rows", [6, None])
def test_a_table_is_filled_in_any_order(n_rows):
    table = FeatureTable(n_rows, (2,))
    table.put(np.array([5, 0]), np.array([[5, 5], [0, 0]], np.float32))
    table.put(np.array([3]), np.array([[3, 3]], np.float32))
    rows = table.finish(6, {1: 5, 2: 3}, [4])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.array([0, 5, 3, 3, np.nan, 5], np.float32)[:, None].repeat(2, axis=1))
