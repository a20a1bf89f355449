"""Images for the tests of `_images`: encoded in memory, or the photographs that scikit-learn brings."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import sklearn
from PIL import Image


@pytest.fixture(scope="session")
def china():
    """Path of a photograph of 427 x 640 pixels."""
    return Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg"


@pytest.fixture(scope="session")
def encode():
    """Function from a PIL image to the bytes of a file."""

    def encode(image, file_format="PNG", **options):
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def noise():
    """Function from a shape to reproducible uint8 noise."""

    def noise(*shape, seed=0):
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return noise


@pytest.fixture
def folder(tmp_path, noise):
    """Twelve small PNG files, as paths in order, and their pixels."""
    paths, pixels = [], []
    for i in range(12):
        pixels.append(noise(8 + i % 3, 9, 3, seed=i))
        paths.append(str(tmp_path / f"{i:02}.png"))
        Image.fromarray(pixels[-1]).save(paths[-1])
    return paths, pixels
