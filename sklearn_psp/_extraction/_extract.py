"""Features of images: read ahead, each content once through the network, from the cache where it is there."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from sklearn_psp._extraction._cached import CachedFeatures
from sklearn_psp._extraction._table import Batcher, FeatureTable
from sklearn_psp._images import Images, SomeImages, read_batches
from sklearn_psp._nets import Runner
from sklearn_psp.utils._descriptions import Failure
from sklearn_psp.utils._progress import progress

__all__ = ["extract"]

# Images whose maps are on disk are pooled so many at a time.
_STORED_AT_ONCE = 64


def extract(
    images: Images,
    runner: Runner,
    method: str,
    shape: tuple[int, ...],
    *,
    reading: dict[str, Any],
    cache: CachedFeatures | None = None,
    verbose: int = 0,
) -> tuple[np.ndarray, list[Failure]]:
    """Compute the features of images.

    Parameters
    ----------
    images : Images
        The images.
    runner : Runner
        Network and pooling.
    method : {"global_features", "projected_features", "local_features"}
        What of the runner's is computed.
    shape : tuple of int
        Shape of the features of one image.
    reading : dict
        `image_size`, `resize`, `on_error` and `n_jobs` of `read_batches`.
    cache : CachedFeatures or None, default=None
        Where feature maps are kept.
    verbose : int, default=0
        Above 0, progress is shown.

    Returns
    -------
    features : ndarray of shape (n_images, *shape), float32
        Rows of NaN for images that could not be read.
    failures : list of Failure
        Those images, in order.
    """
    with progress(images.n_images, "describing images", "image", verbose) as bar:
        return _Extraction(images, runner, getattr(runner, method), shape, reading, cache, bar).run()


class _Extraction:
    """One call: what is done is in `run`, the rest is bookkeeping."""

    def __init__(self, images, runner, features, shape, reading, cache, bar):
        self.images = images
        self.runner = runner
        self.features = features
        self.reading = reading
        self.cache = cache
        self.bar = bar
        self.table = FeatureTable(images.n_images, shape)
        self.first: dict[bytes, int] = {}  # where a content was met first
        self.copies: dict[int, int] = {}
        self.failures: list[Failure] = []
        self.failed: list[int] = []  # their places; a failure's own index is that in X
        self.lost: list[int] = []  # rows that were in the cache when they were read, but not when they were needed
        self.n_read = 0

    def run(self):
        known_length = self.images.n_images is not None
        left = self._place_known() if self.cache is not None and known_length else None
        if left is None or left:
            self._through_network(left, may_skip=self.cache is not None and known_length)
        if self.lost:
            self._through_network(sorted(self.lost), may_skip=False)
        n_rows = self.n_read if self.images.n_images is None else self.images.n_images
        if self.cache is not None:
            self.cache.warn_if_small(n_rows - len(self.copies) - len(self.failures))
        failures = sorted(self.failures, key=lambda failure: failure.index)
        return self.table.finish(n_rows, self.copies, self.failed), failures

    def _place_known(self):
        """Place what can be had without reading, and return the places that are left; None for all of them."""
        n = self.images.n_images
        left = []
        for rows, features in self.cache.known([self.images.known_key(i) for i in range(n)], left):
            self._place(rows, features)
        return left if len(left) < n else None

    def _through_network(self, places, *, may_skip):
        """Read and describe the images at some places; None for all."""
        images = self.images if places is None else SomeImages(self.images, places)
        batches = self._new_batches(images, places, may_skip)
        # Closed at once when the network fails: left to the garbage collector, the reading threads would live on.
        with closing(batches):
            if self.cache is None:
                for names, (features,) in self.runner.run(batches, lambda maps: (self.features(maps),)):
                    self._place([row for row, _ in names], features)
                return
            try:
                for names, (packed, parts) in self.runner.run(batches, self.cache.compute):
                    rows, keys = zip(*names, strict=True)
                    self._place(rows, self.cache.add(keys, packed[: len(rows)], parts[: len(rows)]))
            finally:  # what was computed before an error is kept
                self.cache.finish()

    def _new_batches(self, images, places, may_skip):
        """Yield full batches of images whose content has not been met, as ([(row, key), ...], images)."""
        size = self.runner.plan.batch_size
        batcher, stored = Batcher(size), []
        batches = read_batches(images, batch_size=size, skip=self.cache.has if may_skip else None, **self.reading)
        with closing(batches):
            for batch in batches:
                self.n_read = max(self.n_read, batch.start + len(batch.images))
                self.failures.extend(batch.failures)
                self.bar.update(len(batch.failures))
                rows = list(range(batch.start, batch.start + len(batch.images)))
                rows = rows if places is None else [places[i] for i in rows]
                stored += [(rows[i], batch.keys[i]) for i in sorted(batch.skipped)]
                fresh = self._not_in_stream_cache(images, batch, self._first_met(batch, rows))
                decoded = batch.images if len(fresh) == len(rows) else batch.images[[i for i, _, _ in fresh]]
                yield from self._filled(batcher.add(decoded, [(row, key) for _, row, key in fresh]))
                if len(stored) >= _STORED_AT_ONCE:
                    self._from_cache(stored)
        self._from_cache(stored)
        yield from self._filled(batcher.rest())

    def _first_met(self, batch, rows):
        """Return (place in the batch, row, key) of what was decoded and not met before; note the copies."""
        fresh = []
        for i, (row, key) in enumerate(zip(rows, batch.keys, strict=True)):
            if i in batch.skipped:
                continue
            if key is None:
                self.failed.append(row)
            elif self.first.setdefault(key, row) == row:
                fresh.append((i, row, key))
            else:
                self.copies[row] = self.first[key]
                self.bar.update(1)
        return fresh

    def _not_in_stream_cache(self, images, batch, fresh):
        """Return what of a stream is not in the cache. A stream is read once: it cannot be skipped and read later."""
        if self.cache is None or images.n_images is not None or not fresh:
            return fresh
        here = set()
        for positions, features in self.cache.pooled([key for _, _, key in fresh]):
            here.update(positions.tolist())
            self._place([fresh[i][1] for i in positions], features)
        return [item for i, item in enumerate(fresh) if i not in here]

    def _filled(self, batches):
        for images, rows_and_keys in batches:
            if self.cache is not None and len(images) < self.runner.plan.batch_size:
                # Full batches always: the last bits of an image's maps may depend on how many are beside it.
                padding = np.zeros((self.runner.plan.batch_size - len(images), *images.shape[1:]), images.dtype)
                images = np.concatenate([images, padding])
            yield rows_and_keys, images

    def _from_cache(self, stored):
        """Pool maps that are in the cache; rows of those that are gone by now go to `lost`."""
        if not stored:
            return
        rows, keys = zip(*stored, strict=True)
        stored.clear()
        lost = set(range(len(rows)))
        for positions, features in self.cache.pooled(keys):
            lost.difference_update(positions.tolist())
            self._place([rows[i] for i in positions], features)
        self.lost.extend(rows[i] for i in lost)

    def _place(self, rows, features):
        self.table.put(np.asarray(rows, dtype=np.intp), features)
        self.bar.update(len(rows))
