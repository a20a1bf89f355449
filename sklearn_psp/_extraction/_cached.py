"""Feature maps from and into the store on disk, and features from and into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from sklearn_psp._cache import FeatureMemo, RowStore
from sklearn_psp._nets import Runner

__all__ = ["POOLED_AT_ONCE", "CachedFeatures"]

# Rows are written together: a commit waits for the disk.
_WRITE_BYTES = 4 << 20
# Few enough for their maps to stay in the processor's cache.
POOLED_AT_ONCE = 16
_MEMO = FeatureMemo()


class CachedFeatures:
    """The cache of one featurizer's setting.

    Parameters
    ----------
    store : RowStore
        Feature maps on disk.
    runner : Runner
        What computes the maps.
    maps : str
        What else the maps of a picture depend on, but its content.
    features : str
        What features depend on, but the maps.
    """

    def __init__(self, store: RowStore, runner: Runner, *, maps: str, features: str):
        self._store = store
        maps = f"{runner.identity}|{maps}"
        self._maps = hashlib.blake2b(maps.encode(), digest_size=16).digest()
        self._setting = hashlib.blake2b(f"{store.directory}|{maps}|{features}".encode(), digest_size=16).digest()
        self._pending: list[tuple[list[bytes], np.ndarray]] = []

    def has(self, key: bytes) -> bool:
        """Whether the maps of this content are there."""
        return self._store.has(key + self._maps)

    def find(self, keys: Sequence[bytes | None], runner: Runner, compute: Callable, left: list[int]):
        """Yield (positions, features) of what is known; positions of the rest are added to `left`."""
        found, features = _MEMO.find(self._setting, keys)
        if features is not None and len(features):
            yield np.flatnonzero(found), features
        unknown = np.flatnonzero(~found)
        left.extend(i for i in unknown.tolist() if keys[i] is None)
        unknown = np.asarray([i for i in unknown if keys[i] is not None], dtype=np.intp)
        for start in range(0, len(unknown), POOLED_AT_ONCE):
            positions = unknown[start : start + POOLED_AT_ONCE]
            there, features = self.pooled([keys[i] for i in positions], runner, compute)
            left.extend(positions[~there].tolist())
            if features is not None:
                yield positions[there], features
        left.sort()

    def pooled(self, keys: Sequence[bytes], runner: Runner, compute: Callable):
        """Return which maps are there (n,), and the features of those; None where there are none."""
        rows, found = self._store.get([key + self._maps for key in keys], runner.map_rows.length)
        if not len(rows):
            return found, None
        (features,) = runner.pool(rows, lambda maps: (compute(maps),))
        _MEMO.add(self._setting, [key for key, there in zip(keys, found, strict=True) if there], features)
        return found, features

    def computation(self, runner: Runner, compute: Callable) -> Callable:
        """Return a computation that gives maps as they are kept, and the features of those rounded maps."""

        def compute_both(maps):
            rows = runner.map_rows.pack(maps)
            return rows, compute(runner.map_rows.unpack(rows))

        return compute_both

    def add(self, keys: Sequence[bytes], rows: np.ndarray, features: np.ndarray) -> None:
        """Keep the maps and features of some pictures."""
        _MEMO.add(self._setting, keys, features)
        self._pending.append(([key + self._maps for key in keys], rows))
        if sum(rows.nbytes for _, rows in self._pending) >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._pending:
            keys = [key for some, _ in self._pending for key in some]
            self._store.put(keys, np.concatenate([rows for _, rows in self._pending]))
            self._pending.clear()
