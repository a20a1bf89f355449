"""Encoded images and Pillow's as RGB, or the reason why not; no decoder's warning escapes or decides anything."""

from __future__ import annotations

import io
import threading
from typing import Any, cast

import numpy as np
import torch
import torchvision.io  # noqa: F401  (loads the operators of torch.ops.image)
from PIL import Image, ImageFile, UnidentifiedImageError

from sklearn_psp._images._pixels import ImageRefusedError, compose_on_white, rgb_from_array
from sklearn_psp.utils._warnings import quiet_thread

__all__ = [
    "decode_jpeg",
    "exif_orientation",
    "rgb_from_bytes",
    "rgb_from_image",
    "rgb_from_pillow",
    "turn",
]

_JPEG_MAGIC = b"\xff\xd8\xff"
_RGB = 3  # torchvision.io.ImageReadMode.RGB
_ORIENTATION = 0x0112  # the EXIF tag
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}

# The same unloaded image may stand in X twice, and Pillow's load() is not safe against itself.
_LOADING = threading.Lock()

_jpeg_operator: Any
try:
    # The operator, not torchvision.io.decode_jpeg: since 0.29 that warns on every call that it will be removed.
    _jpeg_operator = torch.ops.image.decode_jpeg
except (AttributeError, RuntimeError):
    _jpeg_operator = None


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
        with quiet_thread(), Image.open(io.BytesIO(data)) as image:
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
        with quiet_thread():
            if isinstance(image, ImageFile.ImageFile):  # others were made in memory: no small file became a huge image
                _check_size(image)
            with _LOADING:
                image.load()
            return _turned_rgb(image)
    except ImageRefusedError:
        raise
    except Exception as error:
        raise ImageRefusedError(_reason(error, image.format, None)) from error


def decode_jpeg(data: bytes) -> np.ndarray | None:
    """A grey or RGB JPEG as RGB by torchvision, without Pillow's detours; its EXIF turn is not applied.

    Measured with the resize from 500 x 375 to 224, one thread: 1277 images a CPU-second against Pillow's 686. The
    pixels equal Pillow's bit for bit (700 of 700 photographs, `tests/_images/test_images_decode.py`), so that Pillow
    can stand in wherever this decoder gives up: for a truncated file, an unusual one, or where torchvision has no
    decoder.

    Parameters
    ----------
    data : bytes-like
        The file.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8, or None
        None where Pillow should try, which also knows the reason if there is no image.
    """
    if _jpeg_operator is None:
        return None
    try:
        # bytearray: torch warns about read-only memory
        tensor = _jpeg_operator(torch.frombuffer(bytearray(data), dtype=torch.uint8), _RGB)
    except RuntimeError:
        return None
    return tensor.permute(1, 2, 0).numpy()


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


def rgb_from_pillow(image: Image.Image) -> np.ndarray:
    """A loaded image as RGB, alpha and transparent colours composed on white; the EXIF turn is not applied.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode. "I" must hold 16-bit levels, "F" values in [0, 1].

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB.

    Raises
    ------
    ImageRefusedError
        If the values of mode "I" or "F" leave their range.
    """
    if image.mode.startswith("I;16") or image.mode == "F":
        return rgb_from_array(np.asarray(image))
    if image.mode == "I":
        return rgb_from_array(_sixteen_bits(np.asarray(image)))
    if image.mode == "LAB":
        return np.asarray(_lab_to_rgb(image))
    image = image.convert(_PREMULTIPLIED[image.mode]) if image.mode in _PREMULTIPLIED else image
    if image.has_transparency_data:
        return compose_on_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _sixteen_bits(array: np.ndarray) -> np.ndarray:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ImageRefusedError(
            f"32-bit levels must lie in the 16-bit range 0 to 65,535, this image holds {low:,} to {high:,}; rescale it"
        )
    return array.astype(np.uint16)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    # Image.convert knows no way out of LAB; ImageCms is imported here because Pillow may be built without it
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return cast(Image.Image, ImageCms.profileToProfile(image, *profiles, outputMode="RGB"))  # None only in place


def exif_orientation(image: Image.Image) -> int:
    """The EXIF (or XMP) orientation from 1 to 8; 1, which is no turn, where there is none or it cannot be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing against the image, and its parser may raise anything
        return 1


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3)
        As stored.
    orientation : int
        From 1 to 8; anything else is no turn.

    Returns
    -------
    ndarray of shape (h, w, 3), or (w, h, 3) for 5 to 8
        As it should be seen; a view.
    """
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
