"""Features of images: read, skip what is known, run the rest through the network once, place every row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_psp._images import ImageBatch, Images, read_batches
from sklearn_psp._nets import Runner
from sklearn_psp.utils._descriptions import Descriptions, Failure, failures_frame
from sklearn_psp.utils._libraries import progress

__all__ = ["Batcher", "ComputedFeatures", "Feature", "FeatureTable", "extract"]

# Images whose maps are on disk are pooled so many at a time.
_STORED_AT_ONCE = 64

# The row of an image in the table, and the key of its content.
Name = tuple[int, bytes]


@dataclass(frozen=True)
class Feature:
    """One kind of features, and how it is made of local features.

    Attributes
    ----------
    shape : tuple of int
        Shape of the features of one image.
    of_parts : callable
        `of_parts(pooling, parts)` turns local features (n, n_parts, n_channels) into these: tensors into tensors,
        arrays into arrays.
    kept : bool
        Whether those made of known local features are kept in memory too, where they are shorter.
    """

    shape: tuple[int, ...]
    of_parts: Callable[[Any, Any], Any]
    kept: bool = False


class ComputedFeatures:
    """Features straight from the network: nothing is known before, and nothing is kept.

    Parameters
    ----------
    runner : Runner
        Network and pooling.
    feature : Feature
        What is asked for.
    """

    # Whether it may know features of images before they are read, and wants their keys.
    keeps = False

    def __init__(self, runner: Runner, feature: Feature):
        self.runner = runner
        self.feature = feature

    def compute(self, maps: list) -> tuple:
        """Turn the feature maps of a batch, tensors, into what `add` takes."""
        return (self.feature.of_parts(self.runner.pooling, self.runner.local_features(maps)),)

    def add(self, keys: Sequence[bytes], *computed: np.ndarray) -> np.ndarray:
        """Take what was computed for images with these keys, and return their features."""
        (features,) = computed
        return features

    def has(self, key: bytes) -> bool:
        """Whether an image of this content need not run through the network."""
        return False

    def known(self, keys: Sequence[bytes | None], left: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions, features) of what is known; positions of the rest are added to `left`."""
        left.extend(range(len(keys)))
        return iter(())

    def pooled(self, keys: Sequence[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions, features) of the maps that are on disk."""
        return iter(())

    def warn_if_small(self, n_images: int) -> None:
        """Warn where the maps of one call are more than may be kept."""

    def finish(self) -> None:
        """Write what waits, and wait for it."""


def extract(images: Images, source: ComputedFeatures, *, reading: dict[str, Any], verbose: int = 0) -> Descriptions:
    """Compute the features of images.

    Parameters
    ----------
    images : Images
        The images.
    source : ComputedFeatures or CachedFeatures
        What computes features, and may know some.
    reading : dict
        `image_size`, `resize`, `on_error` and `n_jobs` of `read_batches`.
    verbose : int, default=0
        Above 0, progress is shown.

    Returns
    -------
    Descriptions
        Rows of shape (n_images, *source.feature.shape), float32, NaN for images that could not be read; and those
        images.
    """
    with progress(images.n_images, "describing images", "image", verbose) as bar:
        return _Extraction(images, source, reading, bar).run()


class _Extraction:
    """One call: the way of the images is `run` and `_describe`, the rest is bookkeeping."""

    def __init__(self, images: Images, source: ComputedFeatures, reading: dict[str, Any], bar: Any):
        self.images = images
        self.source = source
        self.reading = reading
        self.bar = bar
        self.batch_size = source.runner.plan.batch_size
        self.table = FeatureTable(images.n_images, source.feature.shape)
        self.first: dict[bytes, int] = {}  # the row in which a content was met first
        self.duplicates: dict[int, int] = {}
        self.failures: list[Failure] = []
        self.failed: list[int] = []  # their rows; a failure's own index is its position in X
        self.lost: list[int] = []  # rows that were in the cache when they were read, but not when they were needed
        self.n_read = 0

    def run(self) -> Descriptions:
        """Describe all images."""
        n_images = self.images.n_images
        rows = self._place_known(n_images) if self.source.keeps and n_images is not None else None
        if rows is None or rows:
            # A stream is read once: what the cache has of it cannot be skipped, and read later if it is gone by then.
            self._describe(rows, may_skip=self.source.keeps and n_images is not None)
        if self.lost:
            self._describe(sorted(self.lost), may_skip=False)
        n_rows = self.n_read if n_images is None else n_images
        self.source.warn_if_small(n_rows - len(self.duplicates) - len(self.failures))
        failures = failures_frame(sorted(self.failures, key=lambda failure: failure.index))
        return Descriptions(self.table.finish(n_rows, self.duplicates, self.failed), failures)

    def _place_known(self, n_images: int) -> list[int] | None:
        """Place what can be had without reading, and return the rows that are left; None for all of them."""
        left: list[int] = []
        for rows, features in self.source.known([self.images.known_key(i) for i in range(n_images)], left):
            self._place(rows, features)
        return left if len(left) < n_images else None

    def _describe(self, rows: list[int] | None, *, may_skip: bool) -> None:
        """Read the images of some rows, None for all; skip what is known, run the rest, place."""
        skip = self.source.has if may_skip else None
        batches = read_batches(self.images, rows=rows, batch_size=self.batch_size, skip=skip, **self.reading)
        unknown = self._unknown(batches)
        # Closed at once when the network fails: left to the garbage collector, the reading threads would live on.
        with closing(batches), closing(unknown):
            try:
                for names, computed in self.source.runner.run(unknown, self.source.compute):
                    keys = [key for _, key in names]
                    self._place([row for row, _ in names], self.source.add(keys, *computed))
            finally:  # what was computed before an error is kept
                self.source.finish()

    def _unknown(self, batches: Iterable[ImageBatch]) -> Generator[tuple[list[Name], np.ndarray], None, None]:
        """Yield (names, images) in full batches of what the network has to see; note or place all the rest."""
        batcher, stored = Batcher(self.batch_size), []
        for batch in batches:
            self.n_read = max(self.n_read, batch.rows[-1] + 1)
            self.failures.extend(batch.failures)
            self.bar.update(len(batch.failures))
            stored += [(batch.rows[i], batch.keys[i]) for i in sorted(batch.skipped)]
            fresh = self._first_met(batch)
            if self.source.keeps and self.images.n_images is None:
                fresh = self._place_stored(fresh)
            images = batch.images if len(fresh) == len(batch.rows) else batch.images[list(fresh)]
            yield from self._filled(batcher.add(images, list(fresh.values())))
            if len(stored) >= _STORED_AT_ONCE:
                self._from_cache(stored)
        self._from_cache(stored)
        yield from self._filled(batcher.rest())

    def _first_met(self, batch: ImageBatch) -> dict[int, Name]:
        """Return the names of what was decoded and not met before, by place in the batch; note the duplicates."""
        fresh = {}
        for i, (row, key) in enumerate(zip(batch.rows, batch.keys, strict=True)):
            if i in batch.skipped:
                continue
            if key is None:
                self.failed.append(row)
            elif self.first.setdefault(key, row) == row:
                fresh[i] = row, key
            else:
                self.duplicates[row] = self.first[key]
                self.bar.update(1)
        return fresh

    def _place_stored(self, fresh: dict[int, Name]) -> dict[int, Name]:
        """Place what is in the cache of images that are decoded already, and return the others."""
        if not fresh:  # no threads are started for nothing
            return fresh
        places, names = list(fresh), list(fresh.values())
        for positions, features in self.source.pooled([key for _, key in names]):
            self._place([names[i][0] for i in positions], features)
            for i in positions:
                del fresh[places[i]]
        return fresh

    def _filled(self, batches: Iterable[tuple[np.ndarray, list[Name]]]) -> Iterator[tuple[list[Name], np.ndarray]]:
        for images, names in batches:
            if self.source.keeps and len(images) < self.batch_size:
                # Full batches always: the last bits of an image's maps may depend on how many are beside it.
                padding = np.zeros((self.batch_size - len(images), *images.shape[1:]), images.dtype)
                images = np.concatenate([images, padding])
            yield names, images

    def _from_cache(self, stored: list[tuple[int, Any]]) -> None:
        """Pool maps that are in the cache; rows of those that are gone by now go to `lost`."""
        names = dict(enumerate(stored))
        stored.clear()
        self.lost.extend(row for row, _ in self._place_stored(names).values())

    def _place(self, rows: Sequence[int] | np.ndarray, features: np.ndarray) -> None:
        self.table.put(np.asarray(rows, dtype=np.intp), features)
        self.bar.update(len(rows))


class FeatureTable:
    """Features of images that are finished in any order.

    Parameters
    ----------
    n_rows : int or None
        Number of images; None where it shows only at the end.
    shape : tuple of int
        Shape of the features of one image.
    """

    def __init__(self, n_rows: int | None, shape: tuple[int, ...]):
        self._n_rows = n_rows
        self._shape = shape
        self._blocks: list[tuple[np.ndarray, np.ndarray]] = []
        self._array: np.ndarray | None = None

    def put(self, rows: np.ndarray, features: np.ndarray) -> None:
        """Place the features of some images; an array of all of them, in order, is taken over."""
        if self._n_rows is None:
            self._blocks.append((rows, features))
        elif self._array is None and len(rows) == self._n_rows:
            self._array = features
        else:
            self._allocated(self._n_rows)[rows] = features

    def finish(self, n_rows: int, duplicates: dict[int, int], failed: list[int]) -> np.ndarray:
        """Return all features: copied where content repeats, NaN where there is none."""
        array = self._allocated(n_rows)
        for rows, features in self._blocks:
            array[rows] = features
        if duplicates:
            array[list(duplicates)] = array[list(duplicates.values())]
        array[failed] = np.nan
        return array

    def _allocated(self, n_rows: int) -> np.ndarray:
        if self._array is None:
            self._array = np.empty((n_rows, *self._shape), dtype=np.float32)
        return self._array


class Batcher:
    """Collects images into full batches.

    Parameters
    ----------
    size : int
        Images in a batch.
    """

    def __init__(self, size: int):
        self._size = size
        self._images: list[np.ndarray] = []
        self._names: list[Any] = []

    def add(self, images: np.ndarray, names: list[Any]) -> Iterator[tuple[np.ndarray, list[Any]]]:
        """Take images and their names; yield the batches (images, names) that are full."""
        if not names:
            return
        if not self._names and len(names) == self._size:
            yield images, names  # as it came, without a copy
            return
        self._images.extend(images)
        self._names.extend(names)
        while len(self._names) >= self._size:
            yield self._take(self._size)

    def rest(self) -> Iterator[tuple[np.ndarray, list[Any]]]:
        """Yield what is left, if anything."""
        if self._names:
            yield self._take(len(self._names))

    def _take(self, n: int) -> tuple[np.ndarray, list[Any]]:
        batch = np.stack(self._images[:n]), self._names[:n]
        del self._images[:n], self._names[:n]
        return batch
