"""Features made of feature maps, which a cache may have: maps on disk, and what was pooled from them in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from sklearn_psp._cache import FeatureMemo, RowStore
from sklearn_psp._extraction._extract import ComputedFeatures, Feature
from sklearn_psp._nets import Plan, Runner, resolve_plan
from sklearn_psp.exceptions import CacheSizeWarning
from sklearn_psp.utils._libraries import is_installed
from sklearn_psp.utils._warnings import warn_user

__all__ = ["CachedFeatures", "kept_plan"]

# Rows are written together: a commit waits for the disk.
_WRITE_BYTES = 4 << 20
# Few enough for their maps to stay in the processor's cache.
_POOLED_AT_ONCE = 8
# Local features serve every way to weight and aggregate them; what is aggregated, every fold.
_PARTS, _JOINED = FeatureMemo(), FeatureMemo()


class CachedFeatures(ComputedFeatures):
    """Features of which some need not be computed again.

    Parameters
    ----------
    store : RowStore
        Feature maps on disk.
    runner : Runner
        What computes, pools and aggregates them.
    feature : Feature
        What is asked for.
    reading : str
        Everything that the maps of an image depend on except its content and the runner.
    pooling : str
        Everything that local features depend on except the maps.
    joining : str
        Everything that the features asked for depend on except the local ones.
    """

    keeps = True

    def __init__(self, store: RowStore, runner: Runner, feature: Feature, *, reading: str, pooling: str, joining: str):
        super().__init__(runner, feature)
        self._store = store
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
        named = {i: key for i, key in enumerate(keys) if key is not None}
        unknown = np.fromiter(named, dtype=np.intp, count=len(named))
        for source in (self._from_joined, self._from_parts):
            found, features = source([named[i] for i in unknown])
            if features is not None and len(features):
                yield unknown[found], features
            unknown = unknown[~found]
        missing = np.ones(len(unknown), dtype=bool)
        for positions, features in self.pooled([named[i] for i in unknown]):
            missing[positions] = False
            yield unknown[positions], features
        left.extend(sorted([i for i, key in enumerate(keys) if key is None] + unknown[missing].tolist()))

    def pooled(self, keys: Sequence[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions, features) of the maps that are on disk."""

        def blocks():
            for start in range(0, len(keys), _POOLED_AT_ONCE):
                some = keys[start : start + _POOLED_AT_ONCE]
                rows, found = self._store.get([key + self._maps for key in some], self.runner.map_rows.length)
                if len(rows):
                    yield start + np.flatnonzero(found), rows

        for positions, (parts,) in self.runner.pool(blocks(), lambda maps: (self.runner.local_features(maps),)):
            yield positions, self._remember([keys[i] for i in positions], parts)

    def compute(self, maps: list) -> tuple:
        """Turn feature maps, as tensors, into rows as they are kept, and the local features of those rounded maps."""
        rows = self.runner.map_rows.pack(maps)
        return rows, self.runner.local_features(self.runner.map_rows.unpack(rows))

    def add(self, keys: Sequence[bytes], *computed: np.ndarray) -> np.ndarray:
        """Keep what was computed, and return the features; maps are written while the network goes on."""
        # A batch that was filled up has more rows than there are images.
        rows, parts = (array[: len(keys)] for array in computed)
        self._pending.append(([key + self._maps for key in keys], rows))
        if sum(rows.nbytes for _, rows in self._pending) >= _WRITE_BYTES:
            self._write()
        return self._remember(keys, parts)

    def warn_if_small(self, n_images: int) -> None:
        """Warn where the maps of one call are more than the store may hold."""
        needed, bound = 2 * self.runner.map_rows.length * n_images, self._store.max_bytes
        if needed > bound:
            warn_user(
                CacheSizeWarning(
                    f"cache_size={bound / 1e6:.0f} holds the feature maps of {bound * n_images // needed:,} "
                    f"images, but X has {n_images:,}: the others run through the network every time; pass "
                    f"cache_size={np.ceil(1.05 * needed / 1e6):.0f}, or cache=None"
                )
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

    def _from_joined(self, keys: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray | None]:
        if not self.feature.kept:
            return np.zeros(len(keys), dtype=bool), None
        return _JOINED.find(self._joined, keys)

    def _from_parts(self, keys: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray | None]:
        found, parts = _PARTS.find(self._parts, keys)
        if parts is None or not len(parts):
            return found, None
        return found, self._join([key for key, there in zip(keys, found, strict=True) if there], parts)

    def _remember(self, keys: Sequence[bytes], parts: np.ndarray) -> np.ndarray:
        _PARTS.add(self._parts, keys, parts)
        return self._join(keys, parts)

    def _join(self, keys: Sequence[bytes], parts: np.ndarray) -> np.ndarray:
        features = self.feature.of_parts(self.runner.pooling, parts)
        # A concatenation is as long as its parts, which are in memory already.
        if self.feature.kept and features[0].size < parts[0].size:
            _JOINED.add(self._joined, keys, features)
        return features

    def _write(self) -> None:
        self._wait()
        if self._pending:
            keys = [key for some, _ in self._pending for key in some]
            rows = np.concatenate([rows for _, rows in self._pending])
            self._pending.clear()
            if self._writer is None:
                self._writer = ThreadPoolExecutor(1, thread_name_prefix="sklearn_psp-cache")
            self._writing = self._writer.submit(self._store.put, keys, rows)

    def _wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()


def kept_plan(store: RowStore, backbone: Any, device: Any, asked: dict[str, Any]) -> Plan:
    """Return the plan of the first process that asked the same of this cache, or make it.

    It stays with the cache because another precision would make all feature maps in it useless.

    Parameters
    ----------
    store : RowStore
        The cache.
    backbone : Backbone
        The network.
    device : torch.device
        Where it runs.
    asked : dict
        The parameters of `resolve_plan`.

    Returns
    -------
    Plan
        Without any "auto".
    """
    # With the fields: another version of this library may know other ones.
    parts = [field.name for field in fields(Plan)]
    network = (backbone.spec, backbone.sha256, backbone.fingerprint(), backbone.image_size)
    question = f"{network} {device.type} {sorted(asked.items())} {parts}"
    name = "plan " + hashlib.blake2b(question.encode(), digest_size=16).hexdigest()
    kept = store.recall(name)
    if kept is not None:
        plan = Plan(**json.loads(kept))
        if plan.runtime == "torch" or is_installed("openvino"):
            return plan
    plan = resolve_plan(backbone, device, **asked)
    return plan if kept is not None else Plan(**json.loads(store.remember(name, json.dumps(asdict(plan)))))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
