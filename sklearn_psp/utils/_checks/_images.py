"""The tiny images that the checks are run on."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["TinyImages", "encode_png", "tiny_images"]

_SHAPE = (40, 48, 3)


@dataclass(frozen=True)
class TinyImages:
    """The same images in several forms.

    Attributes
    ----------
    folder : Path
        Where the files are, until the check ends.
    array : ndarray of shape (n, 40, 48, 3), uint8
        RGB.
    paths : list of str
        PNG files.
    encoded : list of bytes
        The contents of the files.
    """

    folder: Path
    array: np.ndarray
    paths: list[str]
    encoded: list[bytes]


@contextmanager
def tiny_images(n_images: int = 6, seed: int = 0) -> Iterator[TinyImages]:
    """Make images of coloured blocks with some noise, and a folder of PNG files that is removed at the end.

    Parameters
    ----------
    n_images : int, default=6
        How many.
    seed : int, default=0
        Of the pixels.

    Yields
    ------
    TinyImages
        The images.
    """
    random = np.random.default_rng(seed)
    height, width, channels = _SHAPE
    # Blocks survive any resize, so that the images stay apart; noise alone would average out to grey.
    blocks = random.integers(20, 236, (n_images, height // 8, width // 8, channels))
    array = blocks.repeat(8, axis=1).repeat(8, axis=2) + random.integers(-20, 20, (n_images, *_SHAPE))
    array = array.astype(np.uint8)
    encoded = [encode_png(image) for image in array]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i}.png" for i in range(n_images)]
        for path, content in zip(paths, encoded, strict=True):
            path.write_bytes(content)
        yield TinyImages(folder, array, [str(path) for path in paths], encoded)


def encode_png(image: np.ndarray, *, orientation: int = 1) -> bytes:
    """Return an image as the content of a PNG file, which loses nothing, with the EXIF orientation given."""
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()
