"""Tests of this folder run on one thread, and name images small enough to describe at once."""

from __future__ import annotations

import numpy as np
import pytest
from common.threads import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def path(tmp_path):
    """Where to save."""
    return tmp_path / "estimator.skops"


@pytest.fixture(scope="session")
def images():
    """Twelve small images of noise."""
    return np.random.default_rng(0).integers(0, 256, size=(12, 32, 32, 3), dtype=np.uint8)
