"""Images of one size: stretched, cropped or padded, with antialiasing."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import interpolate

__all__ = ["RESIZE_MODES", "resize_image"]

RESIZE_MODES = ("stretch", "crop", "pad")


def resize_image(image: np.ndarray, image_size: tuple[int, int], resize: str = "stretch") -> np.ndarray:
    """Bring an image to a size, bilinear with antialiasing.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), uint8 or float32
        RGB on the scale 0 to 255.
    image_size : tuple of int (height, width)
        The size asked for, in pixels.
    resize : {"stretch", "crop", "pad"}, default="stretch"
        "stretch" ignores the aspect ratio. "crop" scales until the image covers the size and keeps the centre. "pad"
        scales until the image fits into the size and centres it on white.

    Returns
    -------
    ndarray of shape (height, width, 3) and the dtype of `image`
        `image` itself when it already has the size.
    """
    height, width = image_size
    if image.shape[:2] == (height, width):
        return image
    if resize == "stretch":
        return _interpolate(image, height, width)
    scales = height / image.shape[0], width / image.shape[1]
    if resize == "crop":
        scale = max(scales)
        image = _trim(_trim(image, 0, height / scale), 1, width / scale)
        scaled = _interpolate(
            image, max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale))
        )
        top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
        return np.ascontiguousarray(scaled[top : top + height, left : left + width])
    if resize == "pad":
        scale = min(scales)
        scaled = _interpolate(
            image,
            min(height, max(1, round(image.shape[0] * scale))),
            min(width, max(1, round(image.shape[1] * scale))),
        )
        padded = np.full((height, width, 3), 255, dtype=image.dtype)
        top, left = (height - scaled.shape[0]) // 2, (width - scaled.shape[1]) // 2
        padded[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
        return padded
    raise ValueError(f"resize={resize!r} is unknown: it must be one of {', '.join(map(repr, RESIZE_MODES))}")


def _interpolate(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The kernel that torchvision's antialiased resize calls, without its import (0.2 s) and its dispatch."""
    # torch takes neither negative strides nor, without a warning, read-only memory
    tensor = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
    scaled = interpolate(tensor, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return np.ascontiguousarray(scaled[0].permute(1, 2, 0).numpy())


def _trim(image: np.ndarray, axis: int, needed: float) -> np.ndarray:
    """Cut most of what a centre crop throws away, where an image is more than 16 times too long.

    A strip of 1 x 80,000,000 pixels must not first be scaled up to 224 x 17,920,000,000. Ordinary images are left
    alone: cutting them first would move the centre by a fraction of a pixel.
    """
    length = image.shape[axis]
    keep = 16 * math.ceil(needed)
    keep += (length - keep) % 2  # the centre stays where it was
    if length <= keep:
        return image
    start = (length - keep) // 2
    return image[start : start + keep] if axis == 0 else image[:, start : start + keep]
