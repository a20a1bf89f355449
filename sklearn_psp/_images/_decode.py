"""The bytes of a file, or a Pillow image, as RGB - or the reason why not."""

from __future__ import annotations

import io
import threading

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from sklearn_psp._images._colour import exif_orientation, rgb_from_pillow, turn
from sklearn_psp._images._jpeg import decode_jpeg
from sklearn_psp._images._quiet import decoding
from sklearn_psp._images._types import ImageRefusedError

__all__ = ["rgb_from_bytes", "rgb_from_image"]

_JPEG_MAGIC = b"\xff\xd8\xff"

# The same unloaded image may stand in X twice, and Pillow's load() is not safe against itself.
_LOADING = threading.Lock()


def rgb_from_bytes(data: bytes) -> np.ndarray:
    """The first frame of an encoded image, turned as its EXIF says.

    Parameters
    ----------
    data : bytes-like
        A file of any format that Pillow reads; known by its content, never by its name.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB.

    Raises
    ------
    ImageRefusedError
        Whatever the decoder stumbled over, as a reason.
    """
    if len(data) == 0:
        raise ImageRefusedError("it is empty (0 bytes)")
    file_format = "JPEG" if bytes(data[:3]) == _JPEG_MAGIC else None
    try:
        with decoding(), Image.open(io.BytesIO(data)) as image:
            file_format = image.format or file_format
            _check_size(image)
            # Grey and RGB only: CMYK and YCCK come in Adobe's inverted flavour, on which decoders differ.
            if bytes(data[:3]) == _JPEG_MAGIC and image.mode in ("L", "RGB"):
                pixels = decode_jpeg(data)
                if pixels is not None:
                    return turn(pixels, exif_orientation(image))
            image.load()
            return _turned_rgb(image)
    except ImageRefusedError:
        raise
    except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error on a bad file
        raise ImageRefusedError(_reason(error, file_format, len(data))) from error


def rgb_from_image(image: Image.Image) -> np.ndarray:
    """A Pillow image at its current frame, turned as its EXIF says; see `rgb_from_bytes`.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded or not.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB.
    """
    try:
        with decoding():
            if isinstance(image, ImageFile.ImageFile):  # others were made in memory: no small file became a huge image
                _check_size(image)
            with _LOADING:
                image.load()
            return _turned_rgb(image)
    except ImageRefusedError:
        raise
    except Exception as error:
        raise ImageRefusedError(_reason(error, image.format, None)) from error


def _turned_rgb(image: Image.Image) -> np.ndarray:
    if 0 in image.size:
        raise ImageRefusedError(f"the image has no pixels: its size is {image.size}")
    # after load(): PNG keeps its EXIF behind the pixels, and TIFF turns itself and forgets the tag
    return turn(rgb_from_pillow(image), exif_orientation(image))


def _check_size(image: Image.Image) -> None:
    """Hold Pillow's limit, for torchvision too. Pillow itself only warns up to twice the limit."""
    limit = Image.MAX_IMAGE_PIXELS
    width, height = image.size
    if limit is not None and width * height > limit:
        raise ImageRefusedError(_bomb(f"{width:,} x {height:,} pixels"))


def _bomb(found: str) -> str:
    return (
        f"{found} could be a decompression bomb: the limit is PIL.Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS:,}; "
        "make the image smaller, or raise the limit if you trust it"
    )


def _reason(error: Exception, file_format: str | None, n_bytes: int | None) -> str:
    size = "" if n_bytes is None else f" ({n_bytes:,} bytes)"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return _bomb(str(error).partition(" exceeds")[0])
    if isinstance(error, UnidentifiedImageError):
        return f"damaged JPEG{size}" if file_format == "JPEG" else f"not an image of a format that Pillow reads{size}"
    text = f"{error}" or type(error).__name__
    state = "truncated" if "truncated" in text.lower() else "unreadable"
    return f"{state} {file_format or 'image'}{size}: {text}"
