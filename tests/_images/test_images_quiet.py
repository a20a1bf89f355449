"""Warnings of decoders are swallowed, everybody else's are not, and the filters are left as found."""

from __future__ import annotations

import pickle
import threading
import warnings

import numpy as np
import pytest

from sklearn_psp._images import _sources, read_batches, read_image
from sklearn_psp._images._quiet import WarningWhileDecoding, decoding, quiet_decoders


@pytest.mark.parametrize("action", ["error", "always", "default"])
def test_a_decoders_warning_neither_escapes_nor_decides(tmp_path, noise, encode, monkeypatch, action):
    from PIL import Image, PngImagePlugin

    load_end = PngImagePlugin.PngImageFile.load_end

    def warn(self):
        warnings.warn("odd file", UserWarning, stacklevel=1)
        return load_end(self)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_end", warn)
    pixels = noise(4, 4, 3)
    data = encode(Image.fromarray(pixels))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        before = list(warnings.filters)
        np.testing.assert_array_equal(read_image(data), pixels)
        for batch in read_batches([data] * 20, batch_size=3, image_size=(4, 4), n_jobs=4):
            np.testing.assert_array_equal(batch.images[-1], pixels)
        assert warnings.filters == before
    assert caught == []


def test_the_consumers_warnings_pass_while_images_are_read(monkeypatch):
    decoders_at_work, warned = threading.Event(), threading.Event()

    def read(data):
        with decoding():
            decoders_at_work.set()
            warned.wait(600)
            warnings.warn("from the decoder", UserWarning, stacklevel=1)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(_sources, "rgb_from_bytes", read)
    batches = read_batches(
        iter([[np.zeros((4, 4, 3), np.uint8)], [b""], [b""], [b""]]), batch_size=1, image_size=(4, 4)
    )
    next(batches)
    assert decoders_at_work.wait(600)
    with pytest.warns(UserWarning, match="from the consumer") as caught:
        warnings.warn("from the consumer", UserWarning, stacklevel=1)
    warned.set()
    assert len(caught) == 1
    assert len(list(batches)) == 3


def test_filters_are_left_as_found_when_the_consumer_stops_early_or_resets_them(folder):
    before = list(warnings.filters)
    batches = read_batches(folder[0], batch_size=2, image_size=(4, 4))
    next(batches)
    batches.close()
    assert warnings.filters == before
    with warnings.catch_warnings():
        with quiet_decoders():
            warnings.resetwarnings()
        assert warnings.filters == []


def test_the_rule_matches_nothing_outside_a_decoder_and_travels_to_other_processes():
    assert not issubclass(UserWarning, WarningWhileDecoding)
    with decoding():
        assert issubclass(UserWarning, WarningWhileDecoding)
    assert not issubclass(UserWarning, WarningWhileDecoding)
    with quiet_decoders():
        assert pickle.loads(pickle.dumps(warnings.filters[0])) == warnings.filters[0]
