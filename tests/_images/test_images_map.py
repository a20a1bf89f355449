"""Full-size images, decoded ahead in threads and worked on: order, refusals as values, errors that name the image."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from PIL import Image

from sklearn_psp._images import ImageRefusedError, as_images, map_images, thumbnail
from sklearn_psp.exceptions import ImageInputError, MissingImageError

OPTIONS = {"on_error": "nan", "n_jobs": 3, "title": "testing", "verbose": 0}


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("sklearn_psp-read")]


def test_images_come_in_order_with_position_and_source_whatever_takes_longest(folder):
    paths, pixels = folder

    def slow_first(image):
        time.sleep(0.05 if np.array_equal(image, pixels[0]) else 0)
        return image.copy()

    done = list(map_images(as_images(paths), slow_first, **OPTIONS))
    assert [(row, source) for row, source, _ in done] == list(enumerate(paths))
    for (_, _, image), expected in zip(done, pixels, strict=True):
        np.testing.assert_array_equal(image, expected)
    assert not readers()


def test_image_is_contiguous_even_where_exif_turns_it(noise, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(Image.fromarray(noise(4, 7, 3)), exif=exif)
    ((_, _, contiguous),) = map_images(as_images([turned]), lambda image: image.flags.c_contiguous, **OPTIONS)
    assert contiguous


def test_refusal_is_a_value__and_the_others_are_done(folder):
    paths, _ = folder
    images = as_images([paths[0], b"", "missing.png", paths[1]])
    done = list(map_images(images, np.shape, **OPTIONS))
    assert [row for row, _, _ in done] == [0, 1, 2, 3]
    assert [isinstance(result, ImageRefusedError) for _, _, result in done] == [False, True, True, False]
    assert str(done[1][2]) == "it is empty (0 bytes)"
    assert str(done[2][2]) == "there is no such file"


def test_missing_files_are_refused_at_once__before_it_is_iterated(folder):
    images = as_images([folder[0][0], "missing.png"])
    with pytest.raises(MissingImageError, match=r"X\[1\] \('missing.png'\)"):
        map_images(images, np.shape, **{**OPTIONS, "on_error": "raise"})


def test_unreadable_image_is_yielded_with_raise_too__the_consumer_says_what_it_means(folder):
    (_, (_, _, refusal)) = map_images(as_images([folder[0][0], b""]), np.shape, **{**OPTIONS, "on_error": "raise"})
    assert isinstance(refusal, ImageRefusedError)


def test_error_of_the_work_names_the_image__and_threads_end(folder):
    paths, _ = folder

    def fails(image):
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError) as caught:
        list(map_images(as_images(paths), fails, **OPTIONS, note="while testing {image}"))
    assert caught.value.__notes__ == [f"while testing X[0] ({paths[0]!r})"]
    assert not readers()


def test_closing_early_ends_the_threads__and_memory_is_bounded(folder):
    paths, _ = folder
    begun = []
    done = map_images(as_images(paths * 20), lambda image: begun.append(1), **OPTIONS)
    next(done)
    done.close()
    assert not readers()
    assert len(begun) <= 24


def test_iterable_that_yields_nothing_is_refused__and_bad_n_jobs():
    with pytest.raises(ImageInputError, match="a generator can be read only once"):
        list(map_images(as_images(iter([])), np.shape, **OPTIONS))
    with pytest.raises(ValueError, match="n_jobs"):
        map_images(as_images([b""]), np.shape, **{**OPTIONS, "n_jobs": 0})


def test_progress_is_shown(folder, capsys):
    list(map_images(as_images(folder[0]), np.shape, **{**OPTIONS, "title": "Searching faces", "verbose": 1}))
    assert "Searching faces" in capsys.readouterr().err


def test_thumbnail__keeps_the_ratio_and_a_small_image__and_is_none_for_none(noise):
    assert thumbnail(noise(40, 20, 3), 10).shape == (10, 5, 3)
    small = noise(4, 5, 3)
    np.testing.assert_array_equal(thumbnail(small), small)
    assert not np.shares_memory(thumbnail(small), small)
    assert thumbnail(b"") is None
