"""What reading images hands on: batches, and the images that could not be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklearn_psp.utils._descriptions import Failure

__all__ = ["ImageBatch", "ImageRefusedError"]


class ImageRefusedError(Exception):
    """One image cannot be read; the message is the reason. Never leaves this package: the reader adds the item."""


@dataclass(frozen=True)
class ImageBatch:
    """Consecutive images, all of one size.

    Parameters
    ----------
    start : int
        Position of the first image.
    images : ndarray of shape (n, height, width, 3), uint8, RGB, C-contiguous
        On the scale 0 to 255; float32 when X is a table of floats or of integers other than uint8. May be a view of
        the user's X: never write to it.
    failures : tuple of Failure
        The images that could not be read, whose rows of `images` hold zeros. Empty unless `on_error="nan"`.
    keys : tuple of (bytes or None)
        What stands for the content of each image; None for one that could not be read.
    skipped : frozenset of int
        Rows of `images` that hold zeros because the reader was told to skip their content.
    """

    start: int
    images: np.ndarray
    failures: tuple[Failure, ...] = ()
    keys: tuple[bytes | None, ...] = ()
    skipped: frozenset[int] = frozenset()
