"""Pictures as the frozen network describes them: what a head is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sklearn_psp._classifier._labelled import Labelled, without
from sklearn_psp._featurizer import PSPNetFeaturizer
from sklearn_psp._images import PictureStream, ReadFailure, SomePictures, read_batches
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.utils._progress import progress

__all__ = ["Described", "describe"]

# Pictures whose local features are in memory in float32 at a time; they are kept in float16.
_DESCRIBED_AT_ONCE = 1024


@dataclass(frozen=True)
class Described:
    """Pictures as the frozen network describes them.

    Attributes
    ----------
    parts : ndarray of shape (n, n_parts, n_channels), float16, or (n, 1, n_features), float32
        Local features; or the global one in their place, where nothing between the two is trained.
    data : Labelled
        Without the pictures that could not be read.
    left_out : list of int
        Places of those.
    failures : list of ReadFailure
        And why.
    """

    parts: np.ndarray
    data: Labelled
    left_out: list[int] = field(default_factory=list)
    failures: list[ReadFailure] = field(default_factory=list)


def describe(featurizer: PSPNetFeaturizer, data: Labelled, *, joined: bool, verbose: int = 0) -> Described:
    """Run the frozen network once.

    Parameters
    ----------
    featurizer : PSPNetFeaturizer
        As `frozen_featurizer` makes it.
    data : Labelled
        The pictures.
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
    if data.pictures is not None and featurizer.on_error == "raise":
        # Files that do not exist are named at once, not block by block.
        read_batches(data.pictures, batch_size=1, image_size=(1, 1)).close()
    method = "global_features" if joined else "local_features"
    blocks, labels, failures = [], [], []
    n_pictures = None if data.pictures is None else data.pictures.n_pictures
    with progress(n_pictures, "describing pictures", "picture", verbose) as bar:
        for pictures, some_labels in _blocks(data):
            features, failed = featurizer._compute(pictures, method)
            blocks.append(features[:, None] if joined else features.astype(np.float16))
            labels.append(some_labels() if callable(some_labels) else some_labels)
            failures += failed
            bar.update(len(features))
    parts = np.concatenate(blocks)
    data = replace(data, labels=np.concatenate(labels))
    if not failures:
        return Described(parts, data)
    left_out = np.flatnonzero(np.isnan(parts[:, 0, 0]))
    if len(left_out) == len(parts):
        raise ImageReadError("none of the pictures could be read, there is nothing to fit")
    data = without(data, left_out)
    return Described(np.delete(parts, left_out, axis=0), data, left_out.tolist(), failures)


def _blocks(data):
    """Yield (pictures, labels) a block at a time; of a stream there is one, whose labels are known when it was read."""
    if data.pictures is None:
        labels = []

        def opened(_, batch):
            labels.append(batch[1])
            return batch[0]

        yield PictureStream(data.open(), opened), lambda: np.concatenate(labels)
        return
    for start in range(0, data.pictures.n_pictures, _DESCRIBED_AT_ONCE):
        rows = np.arange(start, min(start + _DESCRIBED_AT_ONCE, data.pictures.n_pictures))
        yield SomePictures(data.pictures, rows), data.labels[rows]
