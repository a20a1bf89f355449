"""Feature maps from and into the store on disk, and what was pooled from them, from and into memory."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from sklearn_psp._cache import FeatureMemo, RowStore
from sklearn_psp._nets import Runner
from sklearn_psp.exceptions import CacheSizeWarning

__all__ = ["CachedFeatures"]

# Rows are written together: a commit waits for the disk.
_WRITE_BYTES = 4 << 20
# Few enough for their maps to stay in the processor's cache.
_POOLED_AT_ONCE = 8
# Local features serve every way to weight and join them; what is joined, every fold.
_PARTS, _JOINED = FeatureMemo(), FeatureMemo()
# What is asked for, of local features: arrays in, arrays out.
_MADE_OF_PARTS = {
    "local_features": lambda pooling, parts: parts,
    "projected_features": lambda pooling, parts: pooling.project(parts),
    "global_features": lambda pooling, parts: pooling.join(pooling.project(parts)),
}


class CachedFeatures:
    """What one featurizer need not compute again.

    Parameters
    ----------
    store : RowStore
        Feature maps on disk.
    runner : Runner
        What computes, pools and joins them.
    method : {"global_features", "projected_features", "local_features"}
        What is asked for.
    reading : str
        What the maps of an image depend on, but its content and the runner.
    pooling : str
        What local features depend on, but the maps.
    joining : str
        What global features depend on, but the local ones.
    """

    def __init__(self, store: RowStore, runner: Runner, method: str, *, reading: str, pooling: str, joining: str):
        self._store = store
        self._runner = runner
        self._joins = method == "global_features"
        self._made_of_parts = _MADE_OF_PARTS[method]
        maps = f"{runner.identity}|{reading}"
        self._maps = _digest(maps)
        self._parts = _digest(f"{store.directory}|{maps}|{pooling}")
        self._joined = _digest(f"{store.directory}|{maps}|{pooling}|{joining}")
        self._pending: list[tuple[list[bytes], np.ndarray]] = []
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future | None = None

    def has(self, key: bytes) -> bool:
        """Whether the maps of this content are there."""
        return self._store.has(key + self._maps)

    def known(self, keys: Sequence[bytes | None], left: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions, features) of what is known; positions of the rest are added to `left`."""
        unknown = np.asarray([i for i, key in enumerate(keys) if key is not None], dtype=np.intp)
        left.extend(i for i, key in enumerate(keys) if key is None)
        for source in (self._from_joined, self._from_parts):
            found, features = source([keys[i] for i in unknown])
            if features is not None and len(features):
                yield unknown[found], features
            unknown = unknown[~found]
        missing = np.ones(len(unknown), dtype=bool)
        for positions, features in self.pooled([keys[i] for i in unknown]):
            missing[positions] = False
            yield unknown[positions], features
        left.extend(unknown[missing].tolist())
        left.sort()

    def pooled(self, keys: Sequence[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions, features) of the maps that are on disk."""

        def blocks():
            for start in range(0, len(keys), _POOLED_AT_ONCE):
                some = keys[start : start + _POOLED_AT_ONCE]
                rows, found = self._store.get([key + self._maps for key in some], self._runner.map_rows.length)
                if len(rows):
                    yield start + np.flatnonzero(found), rows

        for positions, (parts,) in self._runner.pool(blocks(), lambda maps: (self._runner.local_features(maps),)):
            yield positions, self._remember([keys[i] for i in positions], parts)

    def compute(self, maps: list) -> tuple:
        """Turn feature maps, as tensors, into rows as they are kept, and the local features of those rounded maps."""
        rows = self._runner.map_rows.pack(maps)
        return rows, self._runner.local_features(self._runner.map_rows.unpack(rows))

    def add(self, keys: Sequence[bytes], rows: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Keep what was computed, and return the features; maps are written while the network goes on."""
        self._pending.append(([key + self._maps for key in keys], rows))
        if sum(rows.nbytes for _, rows in self._pending) >= _WRITE_BYTES:
            self._write()
        return self._remember(keys, parts)

    def warn_if_small(self, n_images: int) -> None:
        """Warn where the maps of one call are more than the store may hold."""
        needed, bound = 2 * self._runner.map_rows.length * n_images, self._store.max_bytes
        if needed > bound:
            warnings.warn(
                CacheSizeWarning(
                    f"cache_size={bound / 1e6:.0f} holds the feature maps of {bound * n_images // needed:,} "
                    f"images, but X has {n_images:,}: the others run through the network every time; pass "
                    f"cache_size={np.ceil(1.05 * needed / 1e6):.0f}, or cache=None"
                ),
                stacklevel=2,
            )

    def finish(self) -> None:
        """Write what waits, and wait for it."""
        try:
            self._write()
            self._wait()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None

    def _from_joined(self, keys):
        if not self._joins:
            return np.zeros(len(keys), dtype=bool), None
        return _JOINED.find(self._joined, keys)

    def _from_parts(self, keys):
        found, parts = _PARTS.find(self._parts, keys)
        if parts is None or not len(parts):
            return found, None
        return found, self._join([key for key, there in zip(keys, found, strict=True) if there], parts)

    def _remember(self, keys, parts):
        _PARTS.add(self._parts, keys, parts)
        return self._join(keys, parts)

    def _join(self, keys, parts):
        features = self._made_of_parts(self._runner.pooling, parts)
        # A concatenation is as long as its parts, which are in memory already.
        if self._joins and features[0].size < parts[0].size:
            _JOINED.add(self._joined, keys, features)
        return features

    def _write(self):
        self._wait()
        if self._pending:
            keys = [key for some, _ in self._pending for key in some]
            rows = np.concatenate([rows for _, rows in self._pending])
            self._pending.clear()
            if self._writer is None:
                self._writer = ThreadPoolExecutor(1, thread_name_prefix="sklearn_psp-cache")
            self._writing = self._writer.submit(self._store.put, keys, rows)

    def _wait(self):
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()


def _digest(text):
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
