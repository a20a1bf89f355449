"""From whatever one image or X may be to batches of uint8 RGB: sources -> decode -> layout -> resize -> batches."""

from __future__ import annotations

from sklearn_psp._images._ahead import resolve_n_threads, work_ahead
from sklearn_psp._images._containers import as_images, is_labelled_stream, labelled_batches
from sklearn_psp._images._content import array_key
from sklearn_psp._images._images import Images, ImageStream, SomeImages
from sklearn_psp._images._quiet import quiet_decoders
from sklearn_psp._images._read import map_images, raise_missing, read_batches, read_image, thumbnail
from sklearn_psp._images._resize import resize_image
from sklearn_psp._images._sources import describe_source, is_one_image, is_path, quote_source
from sklearn_psp._images._types import ImageBatch, ImageRefusedError

__all__ = [
    "ImageBatch",
    "ImageRefusedError",
    "ImageStream",
    "Images",
    "SomeImages",
    "array_key",
    "as_images",
    "describe_source",
    "is_labelled_stream",
    "is_one_image",
    "is_path",
    "labelled_batches",
    "map_images",
    "quiet_decoders",
    "quote_source",
    "raise_missing",
    "read_batches",
    "read_image",
    "resize_image",
    "resolve_n_threads",
    "thumbnail",
    "work_ahead",
]
