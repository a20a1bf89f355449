"""From whatever one image or X may be to batches of uint8 RGB: sources -> decode -> layout -> resize -> batches."""

from __future__ import annotations

from sklearn_psp._images._containers import as_images, is_labelled_stream, labelled_batches
from sklearn_psp._images._images import Images, ImageStream, SomeImages
from sklearn_psp._images._read import raise_missing, read_batches, read_image
from sklearn_psp._images._resize import resize_image
from sklearn_psp._images._types import ImageBatch, ReadFailure, failures_frame

__all__ = [
    "ImageBatch",
    "ImageStream",
    "Images",
    "ReadFailure",
    "SomeImages",
    "as_images",
    "failures_frame",
    "is_labelled_stream",
    "labelled_batches",
    "raise_missing",
    "read_batches",
    "read_image",
    "resize_image",
]
