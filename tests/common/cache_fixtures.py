"""Fixtures of tests that use a cache: one thread, folders that are closed, passes counted, memory forgotten."""

from __future__ import annotations

import pytest

from common.threads import one_thread
from common.watched import watch_networks
from sklearn_psp._cache import FeatureMemo, open_store
from sklearn_psp._extraction import _cached


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def folder(tmp_path):
    """The folder of a cache."""
    path = tmp_path / "cache"
    yield path
    if path.is_dir():
        open_store(path).close()


@pytest.fixture
def seen(monkeypatch):
    """Numbers of images that went through a network, pass by pass."""
    return watch_networks(monkeypatch)


@pytest.fixture
def forget(monkeypatch):
    """Function that forgets the features in memory, so that maps are read from the disk."""

    def forget():
        for memo in ("_PARTS", "_JOINED"):
            monkeypatch.setattr(_cached, memo, FeatureMemo())

    return forget
