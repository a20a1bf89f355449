"""A loaded Pillow image of any mode as RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sklearn_psp._images._arrays import compose_on_white, rgb_from_array
from sklearn_psp._images._types import ImageRefusedError

__all__ = ["exif_orientation", "rgb_from_pillow", "turn"]

_ORIENTATION = 0x0112  # the EXIF tag
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


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

    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )


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
