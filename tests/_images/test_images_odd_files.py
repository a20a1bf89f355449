"""Pillow's own corner cases: truncated, CMYK, 16-bit, palette, animated, turned, bombs."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sklearn_psp._images import read_batches, read_image
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.utils._descriptions import failures_frame

ODD_IMAGES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "odd_images"

pytestmark = pytest.mark.skipif(not ODD_IMAGES.is_dir(), reason="../shared/data is absent")


@pytest.fixture(scope="module")
def files():
    return sorted(str(path) for path in ODD_IMAGES.rglob("*") if path.is_file())


def test_every_odd_file_is_decoded_or_refused_with_a_reason(files, capsys):
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        batches = list(read_batches(files, batch_size=16, image_size=(32, 32), on_error="nan"))
    seconds = time.perf_counter() - begin
    failures = failures_frame(failure for batch in batches for failure in batch.failures)
    assert sum(len(batch.images) for batch in batches) == len(files)
    with capsys.disabled():
        print(f"\nodd_images: {len(files) - len(failures)} decoded, {len(failures)} refused in {seconds:.1f} s")
        print(failures["reason"].str.replace(r"[\d,]+", "#", regex=True).value_counts().head(8).to_string())
    assert [str(warning.message) for warning in escaped] == []
    assert (failures["reason"].str.len() > 10).all()
    # 828 of 1,040 with Pillow 13 and all its codecs; the rest are fonts, palettes, documents, crashes and bombs
    assert len(files) - len(failures) >= 0.75 * len(files)


def test_odd_files_give_the_same_as_path_and_as_pil_image(files):
    compared = 0
    for name in files[::4]:
        try:
            expected = read_image(name)
        except ImageReadError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(name) as image:
                np.testing.assert_array_equal(read_image(image), expected, err_msg=name)
        compared += 1
    assert compared > 100
