"""Images as the frozen network describes them: what a head is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sklearn_psp._classifier._labelled import Labelled, without
from sklearn_psp._featurizer import PSPNetFeaturizer, model_of
from sklearn_psp._images import ImageStream, SomeImages, read_batches
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.utils._descriptions import Failure
from sklearn_psp.utils._progress import progress

__all__ = ["Described", "describe"]

# Images whose local features are in memory in float32 at a time; they are kept in float16.
_DESCRIBED_AT_ONCE = 1024


@dataclass(frozen=True)
class Described:
    """Images as the frozen network describes them.

    Attributes
    ----------
    parts : ndarray of shape (n, n_parts, n_channels), float16, or (n, 1, n_features), float32
        Local features; or the global one in their place, where nothing between the two is trained.
    data : Labelled
        Without the images that could not be read.
    left_out : list of int
        Places of those.
    failures : list of Failure
        And why.
    """

    parts: np.ndarray
    data: Labelled
    left_out: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def describe(featurizer: PSPNetFeaturizer, data: Labelled, *, joined: bool, verbose: int = 0) -> Described:
    """Run the frozen network once.

    Parameters
    ----------
    featurizer : PSPNetFeaturizer
        As `frozen_featurizer` makes it.
    data : Labelled
        The images.
    joined : bool
        Whether the global feature is enough.
    verbose : int, default=0
        Above 0, a bar is shown.

    Returns
    -------
    Described
        Their features.

    Raises
    ------
    ImageReadError
        If none of them could be read.
    """
    if data.images is not None and featurizer.on_error == "raise":
        # Files that do not exist are named at once, not block by block.
        read_batches(data.images, batch_size=1, image_size=(1, 1)).close()
    model = model_of(featurizer)
    feature = model.global_features if joined else model.local_features
    blocks, labels, failures = [], [], []
    n_images = None if data.images is None else data.images.n_images
    with progress(n_images, "describing images", "image", verbose) as bar:
        for images, some_labels in _blocks(data):
            features, failed = model.extract(images, feature)
            blocks.append(features[:, None] if joined else features.astype(np.float16))
            labels.append(some_labels() if callable(some_labels) else some_labels)
            failures += [Failure(*row) for row in failed.itertuples(index=False)]
            bar.update(len(features))
    parts = np.concatenate(blocks)
    data = replace(data, labels=np.concatenate(labels))
    if not failures:
        return Described(parts, data)
    left_out = np.flatnonzero(np.isnan(parts[:, 0, 0]))
    if len(left_out) == len(parts):
        raise ImageReadError("none of the images could be read, there is nothing to fit")
    data = without(data, left_out)
    return Described(np.delete(parts, left_out, axis=0), data, left_out.tolist(), failures)


def _blocks(data):
    """Yield (images, labels) a block at a time; of a stream there is one, whose labels are known when it was read."""
    if data.images is None:
        labels = []

        def opened(_, batch):
            labels.append(batch[1])
            return batch[0]

        yield ImageStream(data.open(), opened), lambda: np.concatenate(labels)
        return
    for start in range(0, data.images.n_images, _DESCRIBED_AT_ONCE):
        rows = np.arange(start, min(start + _DESCRIBED_AT_ONCE, data.images.n_images))
        yield SomeImages(data.images, rows), data.labels[rows]
