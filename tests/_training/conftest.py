"""Tests of this folder run on one thread."""

from __future__ import annotations

import pytest
from common.threads import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield
