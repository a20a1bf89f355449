"""Reading ahead: order, failures, bounded memory, threads that end; batches of one size, and images at full size."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sklearn_psp._images import (
    ImageBatch,
    ImageRefusedError,
    as_images,
    map_images,
    read_batches,
    resize_image,
    resolve_n_threads,
    thumbnail,
)
from sklearn_psp._images import _sources as images_module
from sklearn_psp._images._sources import load_source
from sklearn_psp.exceptions import ImageInputError, ImageReadError, MissingImageError
from sklearn_psp.utils._descriptions import Failure, failures_frame


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("sklearn_psp-read")]


def replace_decoder(monkeypatch, decode):
    """Let all images be decoded by another function."""
    monkeypatch.setattr(images_module, "load_source", lambda source: (b"key", lambda: decode(source)))


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
@pytest.mark.parametrize("n_jobs", [None, 1, 4, -1])
def test_batches_come_in_order_and_equal_the_images_resized_one_by_one(folder, batch_size, n_jobs):
    paths, pixels = folder
    batches = list(read_batches(paths, batch_size=batch_size, image_size=(5, 4), n_jobs=n_jobs))
    assert [batch.start for batch in batches] == list(range(0, 12, batch_size))
    assert all(batch.images.flags.c_contiguous and batch.failures == () for batch in batches)
    images = np.concatenate([batch.images for batch in batches])
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, [resize_image(image, (5, 4)) for image in pixels])


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_resize_reaches_the_images(folder, resize):
    paths, pixels = folder
    (batch,) = read_batches(paths, batch_size=12, image_size=(5, 5), resize=resize)
    np.testing.assert_array_equal(batch.images, [resize_image(image, (5, 5), resize) for image in pixels])


def test_order_holds_when_the_first_image_takes_longest(monkeypatch):
    def slow_first(source):
        time.sleep(0.05 if source[0, 0, 0] % 4 == 0 else 0)
        return source

    replace_decoder(monkeypatch, slow_first)
    X = [np.full((3, 3, 3), i, np.uint8) for i in range(16)]
    batches = read_batches(X, batch_size=3, image_size=(3, 3), n_jobs=4)
    assert [int(i) for batch in batches for i in batch.images[:, 0, 0, 0]] == list(range(16))


def test_missing_files_are_all_named_at_once_before_anything_is_read(folder, monkeypatch):
    paths, _ = folder
    monkeypatch.setattr(images_module, "load_source", pytest.fail)
    X = [*paths[:2], *(f"missing-{i}.jpg" for i in range(13)), paths[3]]
    for container in (X, pd.Series(X), np.array(X), pd.DataFrame({"path": X})):
        with pytest.raises(MissingImageError, match=r"13 of 16 images are files that do not exist") as caught:
            read_batches(container, batch_size=2, image_size=(4, 4))  # not even iterated
        message = str(caught.value)
        assert "X[2] ('missing-0.jpg')" in message
        assert "X[11] ('missing-9.jpg') and 3 more" in message
        assert 'on_error="nan"' in message
        assert caught.value.errors["index"].tolist() == list(range(2, 15))
        assert caught.value.errors["source"].tolist() == X[2:15]
        assert isinstance(caught.value, FileNotFoundError)
        assert isinstance(caught.value, ValueError)


def test_on_error_raise_names_the_first_bad_image_of_x(folder, monkeypatch, tmp_path):
    paths, _ = folder
    (tmp_path / "cut.png").write_bytes((tmp_path / "00.png").read_bytes()[:60])
    X = [*paths[:5], str(tmp_path / "cut.png"), b"not images", *paths[5:]]
    batches = read_batches(X, batch_size=3, image_size=(4, 4), n_jobs=4)
    assert next(batches).start == 0
    with pytest.raises(ImageReadError, match=r"X\[5\] \('.*cut.png'\) could not be decoded: .*; remove it") as caught:
        list(batches)
    assert 'pass on_error="nan"' in str(caught.value)
    assert caught.value.errors["index"].tolist() == [5]
    assert pickle.loads(pickle.dumps(caught.value)).errors.equals(caught.value.errors)
    assert readers() == []


def test_on_error_nan_gives_zeros_and_failures(folder):
    paths, pixels = folder
    X = [paths[0], "missing.jpg", b"not images", None, paths[3]]
    batches = list(read_batches(X, batch_size=2, image_size=(8, 9), on_error="nan"))
    assert [[f.index for f in batch.failures] for batch in batches] == [[1], [2, 3], []]
    images = np.concatenate([batch.images for batch in batches])
    np.testing.assert_array_equal(images[0], pixels[0])
    np.testing.assert_array_equal(images[4], pixels[3])
    assert not images[1:4].any()
    assert [[key is None for key in batch.keys] for batch in batches] == [[False, True], [True, True], [False]]
    frame = failures_frame([failure for batch in batches for failure in batch.failures])
    assert frame["source"].tolist() == ["missing.jpg", "<bytes, 10 long>", "<missing value>"]
    assert frame["reason"].iloc[0] == "there is no such file"
    assert frame["index"].dtype == np.int64


def test_failures_frame_of_nothing_has_its_columns():
    assert failures_frame([]).columns.tolist() == ["index", "source", "reason"]
    assert len(failures_frame([Failure(1, "a", "b")])) == 1


def test_memory_is_bounded_while_the_consumer_works(monkeypatch):
    lock, state = threading.Lock(), {"decoded": 0, "consumed": 0, "most": 0}

    def count(source):
        with lock:
            state["decoded"] += 1
            state["most"] = max(state["most"], state["decoded"] - state["consumed"])
        return source

    replace_decoder(monkeypatch, count)
    X = [np.zeros((4, 4, 3), np.uint8)] * 2000
    for batch in read_batches(X, batch_size=10, image_size=(4, 4), n_jobs=4):
        time.sleep(0.0005)
        with lock:
            state["consumed"] += len(batch.images)
    assert state["decoded"] == 2000
    assert state["most"] <= 40  # the batch in hand, two ahead, and one that is handed over


def test_a_stream_is_not_pulled_far_ahead(noise):
    pulled = []

    def stream():
        for i in range(1000):
            pulled.append(i)
            yield noise(10, 4, 4, 3, seed=i)

    batches = read_batches(stream(), batch_size=10, image_size=(4, 4), n_jobs=2)
    for _ in range(3):
        next(batches)
    assert len(pulled) <= 7
    batches.close()


@pytest.mark.parametrize("how", ["close", "del", "error"])
def test_threads_end_when_the_consumer_stops_early(monkeypatch, how):
    started = []

    def slow(source):
        started.append(1)
        time.sleep(0.002)
        return source

    replace_decoder(monkeypatch, slow)
    batches = read_batches([np.zeros((4, 4, 3), np.uint8)] * 5000, batch_size=500, image_size=(4, 4), n_jobs=4)
    next(batches)
    assert len(readers()) == 4
    if how == "close":
        batches.close()
    elif how == "del":
        del batches
    else:
        with pytest.raises(RuntimeError, match="mine"):
            batches.throw(RuntimeError("mine"))
    assert readers() == []
    assert len(started) < 2500


def test_nothing_is_started_before_the_first_batch_is_asked_for(folder):
    batches = read_batches(folder[0], batch_size=2, image_size=(4, 4))
    assert readers() == []
    batches.close()


def test_two_iterators_at_once(folder):
    paths, _ = folder
    pair = [read_batches(paths, batch_size=2, image_size=(8, 9)) for _ in range(2)]
    for first, second in zip(*pair, strict=True):
        np.testing.assert_array_equal(first.images, second.images)
    assert readers() == []


def test_the_same_unloaded_image_many_times(folder):
    paths, pixels = folder
    with Image.open(paths[0]) as image:
        (batch,) = read_batches([image] * 40, batch_size=40, image_size=(8, 9), n_jobs=8)
    np.testing.assert_array_equal(batch.images, np.stack([pixels[0]] * 40))


def test_a_bug_is_not_mistaken_for_a_bad_image(monkeypatch):
    def bug(source):
        raise KeyError("ours")

    replace_decoder(monkeypatch, bug)
    with pytest.raises(KeyError, match="ours"):
        list(read_batches([b"x"], batch_size=1, image_size=(4, 4), on_error="nan"))
    monkeypatch.setattr(images_module, "load_source", bug)
    with pytest.raises(KeyError, match="ours"):
        list(read_batches([b"x"], batch_size=1, image_size=(4, 4), on_error="nan"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size must be an integer"),
        ({"image_size": 224}, "image_size must be two integers"),
        ({"image_size": (0, 5)}, "image_size must be two integers"),
        ({"image_size": (4.0, 5.0)}, "image_size must be two integers"),
        ({"resize": "squash"}, "resize must be one of 'stretch', 'crop', 'pad', got 'squash'"),
        ({"on_error": "skip"}, "on_error must be 'raise' or 'nan', got 'skip'"),
        ({"n_jobs": 0}, "n_jobs must be None or an integer other than 0, got 0; pass -1"),
        ({"n_jobs": 1.5}, "n_jobs must be"),
    ],
)
def test_options_are_checked_at_the_call(options, message):
    with pytest.raises(ValueError, match=message):
        read_batches([np.zeros((4, 4))], **({"batch_size": 1, "image_size": (4, 4)} | options))


def test_n_jobs_counts_as_in_joblib(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert [resolve_n_threads(n) for n in (None, 1, 3, 20, -1, -2, -99)] == [8, 1, 3, 20, 16, 15, 1]


def test_every_image_comes_with_the_key_of_its_content(folder):
    paths, _ = folder
    contents = [Path(path).read_bytes() for path in paths]
    X = [*paths, *contents, paths[0]]
    batches = list(read_batches(X, batch_size=5, image_size=(4, 4)))
    keys = [key for batch in batches for key in batch.keys]
    assert keys[:12] == keys[12:24]
    assert keys[24] == keys[0]
    assert len(set(keys)) == 12
    assert all(batch.skipped == frozenset() for batch in batches)


def test_content_that_is_to_be_skipped_is_not_decoded(folder, monkeypatch):
    paths, pixels = folder
    keys = [key for batch in read_batches(paths, batch_size=5, image_size=(8, 9)) for key in batch.keys]
    unwanted = {keys[i] for i in (0, 6, 7)}
    decoded = []

    def load(source):
        key, decode = load_source(source)
        return key, lambda: decoded.append(source) or decode()

    monkeypatch.setattr(images_module, "load_source", load)
    batches = list(read_batches(paths, batch_size=5, image_size=(8, 9), skip=unwanted.__contains__))
    assert [batch.skipped for batch in batches] == [{0}, {1, 2}, set()]
    assert [key for batch in batches for key in batch.keys] == keys
    assert sorted(decoded) == [path for i, path in enumerate(paths) if i not in (0, 6, 7)]
    images = np.concatenate([batch.images for batch in batches])
    assert not images[[0, 6, 7]].any()
    np.testing.assert_array_equal(images[3], pixels[3])


def test_batch_is_frozen():
    with pytest.raises(AttributeError):
        ImageBatch(range(1), np.zeros((1, 2, 2, 3), np.uint8)).rows = range(3)


OPTIONS = {"on_error": "nan", "n_jobs": 3, "title": "testing", "verbose": 0}


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
