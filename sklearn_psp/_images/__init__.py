"""From whatever one picture or X may be to batches of uint8 RGB: sources -> decode -> layout -> resize -> batches."""

from __future__ import annotations

from sklearn_psp._images._containers import as_pictures, is_labelled_stream, labelled_batches
from sklearn_psp._images._pictures import Pictures, PictureStream, SomePictures
from sklearn_psp._images._read import raise_missing, read_batches, read_picture
from sklearn_psp._images._resize import resize_picture
from sklearn_psp._images._types import PictureBatch, ReadFailure, failures_frame

__all__ = [
    "PictureBatch",
    "PictureStream",
    "Pictures",
    "ReadFailure",
    "SomePictures",
    "as_pictures",
    "failures_frame",
    "is_labelled_stream",
    "labelled_batches",
    "raise_missing",
    "read_batches",
    "read_picture",
    "resize_picture",
]
