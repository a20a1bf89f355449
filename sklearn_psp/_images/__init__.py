"""Images from whatever holds them to batches of uint8 RGB: containers, sources, decoding, one size, reading ahead."""

from __future__ import annotations

from sklearn_psp._images._containers import as_images, is_labelled_stream, labelled_batches
from sklearn_psp._images._pixels import ImageRefusedError, resize_image
from sklearn_psp._images._read import (
    ImageBatch,
    map_images,
    raise_missing,
    read_batches,
    read_image,
    resolve_n_threads,
    thumbnail,
)
from sklearn_psp._images._sources import (
    Images,
    ImageStream,
    SomeImages,
    array_key,
    describe_source,
    is_one_image,
    is_path,
    quote_source,
)

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
    "quote_source",
    "raise_missing",
    "read_batches",
    "read_image",
    "resize_image",
    "resolve_n_threads",
    "thumbnail",
]
