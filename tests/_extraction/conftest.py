"""Tests of this folder run on one thread; caches are closed when a test ends."""

from common.cache_fixtures import _one_thread, folder, forget, seen

__all__ = ["_one_thread", "folder", "forget", "seen"]
