"""The tiny pictures that the checks are run on."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["TinyPictures", "encode_png", "tiny_pictures"]

_SHAPE = (40, 48, 3)


@dataclass(frozen=True)
class TinyPictures:
    """The same pictures in several forms.

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
def tiny_pictures(n_pictures: int = 6, seed: int = 0) -> Iterator[TinyPictures]:
    """Make pictures of coloured blocks with some noise, and a folder of PNG files that is removed at the end.

    Parameters
    ----------
    n_pictures : int, default=6
        How many.
    seed : int, default=0
        Of the pixels.

    Yields
    ------
    TinyPictures
        The pictures.
    """
    random = np.random.default_rng(seed)
    height, width, channels = _SHAPE
    # Blocks survive any resize, so that the pictures stay apart; noise alone would average out to grey.
    blocks = random.integers(20, 236, (n_pictures, height // 8, width // 8, channels))
    array = blocks.repeat(8, axis=1).repeat(8, axis=2) + random.integers(-20, 20, (n_pictures, *_SHAPE))
    array = array.astype(np.uint8)
    encoded = [encode_png(picture) for picture in array]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i}.png" for i in range(n_pictures)]
        for path, content in zip(paths, encoded, strict=True):
            path.write_bytes(content)
        yield TinyPictures(folder, array, [str(path) for path in paths], encoded)


def encode_png(picture: np.ndarray, *, orientation: int = 1) -> bytes:
    """Return a picture as the content of a PNG file, which loses nothing, with the EXIF orientation given."""
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()
