"""Tests of this folder run on one thread, on small images whose class is their colour."""

from __future__ import annotations

import numpy as np
import pytest
from common.cache_fixtures import _one_thread, folder
from common.colours import colours
from PIL import Image

__all__ = ["_one_thread", "folder"]


@pytest.fixture(scope="session")
def training():
    """Thirty images and their labels."""
    return colours(30)


@pytest.fixture(scope="session")
def held_out():
    """Eighteen other images and their labels."""
    return colours(18, seed=1)


@pytest.fixture(scope="session")
def paths(training, tmp_path_factory):
    """The thirty images as files."""
    where = tmp_path_factory.mktemp("images")
    paths = [str(where / f"{i:02}.png") for i in range(len(training[0]))]
    for path, image in zip(paths, training[0], strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture
def bad_paths(paths, tmp_path):
    """The files, of which those at 4 and 11 cannot be read."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    some = np.array(paths, dtype=object)
    some[[4, 11]] = [str(broken), str(tmp_path / "missing.png")]
    return some.tolist()
