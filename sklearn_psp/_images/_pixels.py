"""Images given as numbers: arrays and tensors of NumPy, torch and TensorFlow as RGB, brought to one size."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

__all__ = [
    "CHANNELS",
    "RESIZE_MODES",
    "ImageRefusedError",
    "compose_on_white",
    "is_array_like",
    "is_foreign_tensor",
    "is_tensor",
    "path_or_content",
    "plain",
    "resize_image",
    "rgb_from_array",
    "rgb_from_tensor",
    "to_numpy",
]

CHANNELS = (1, 3, 4)
RESIZE_MODES = ("stretch", "crop", "pad")
# What has no NUL byte for certain: all other formats that Pillow reads have one in their first bytes.
_SIGNATURES = re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8[79]a|RIFF.{4}WEBP|P[1-6]\s", re.DOTALL)


class ImageRefusedError(Exception):
    """One image cannot be read; the message is the reason. Never leaves this package: the reader adds the item."""


def is_tensor(X: Any) -> bool:
    """Whether X is a torch tensor, without importing torch for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(X, torch.Tensor)


def is_array_like(X: Any) -> bool:
    """Whether X is an array of any library (NumPy, torch, TensorFlow, JAX ...): it can say its shape and convert."""
    return hasattr(X, "shape") and hasattr(X, "dtype") and (is_tensor(X) or hasattr(X, "__array__"))


def is_foreign_tensor(X: Any) -> bool:
    """Whether X is a tensor of TensorFlow, eager or ragged."""
    return not is_tensor(X) and hasattr(X, "dtype") and callable(getattr(X, "numpy", None))


def to_numpy(tensor) -> np.ndarray:
    """A tensor as an array, in its own layout; bfloat16, which NumPy does not know, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def plain(X: Any) -> Any:
    """Turn a tensor of TensorFlow, eager or ragged, into what it holds; anything else is returned as it is.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    object
        An array; strings as an object array of paths (str) and encoded images (bytes), see `path_or_content`; a
        scalar string as one of these; the rows of a ragged tensor as a list of arrays.
    """
    if not is_foreign_tensor(X):
        return X
    if hasattr(X, "to_tensor"):  # ragged: rows of different sizes
        return [plain(row.to_tensor() if hasattr(row, "to_tensor") else row) for row in X]
    value = X.numpy()
    if isinstance(value, bytes):
        return path_or_content(value)
    array = np.asarray(value)
    if array.dtype.kind != "O":
        return array
    strings = np.empty(array.shape, dtype=object)
    for position, item in np.ndenumerate(array):
        strings[position] = path_or_content(item) if isinstance(item, bytes) else item
    return strings


def path_or_content(data: bytes) -> str | bytes:
    """Tell a path from an encoded image: TensorFlow has one type of string for both.

    Parameters
    ----------
    data : bytes
        Either.

    Returns
    -------
    str or bytes
        A path, if it is UTF-8 without NUL and does not begin like an image; else `data`.
    """
    if not data or b"\0" in data or _SIGNATURES.match(data):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def rgb_from_tensor(tensor) -> np.ndarray:
    """A tensor of shape (c, h, w) or (h, w) as RGB; see `rgb_from_array`.

    Parameters
    ----------
    tensor : torch.Tensor of shape (h, w) or (1 | 3 | 4, h, w)
        Of the dtypes that `rgb_from_array` takes, or bfloat16.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB.
    """
    shape = tuple(tensor.shape)
    if tensor.ndim == 3 and shape[0] not in CHANNELS:
        remedy = "; pass tensor.permute(2, 0, 1)" if shape[2] in CHANNELS else ""
        raise ImageRefusedError(
            f"a tensor must have the shape (h, w) or (1 | 3 | 4, h, w), this one has {shape}{remedy}"
        )
    array = to_numpy(tensor)
    return rgb_from_array(array.transpose(1, 2, 0) if array.ndim == 3 else array)


def rgb_from_array(array: np.ndarray) -> np.ndarray:
    """An array as RGB: 16 bits rounded to 8, floats times 255, grey repeated, alpha composed on white.

    Parameters
    ----------
    array : ndarray of shape (h, w) or (h, w, 1 | 3 | 4)
        Of uint8, uint16, bool, or floats in [0, 1].

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB; `array` itself where it already is that.

    Raises
    ------
    ImageRefusedError
        If the shape, the dtype or the range is none of these.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim != 3 or array.shape[2] not in CHANNELS:
        remedy = "; pass array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in CHANNELS else ""
        raise ImageRefusedError(
            f"an array must have the shape (h, w) or (h, w, 1 | 3 | 4), this one has {array.shape}{remedy}"
        )
    if array.size == 0:
        raise ImageRefusedError(f"the image has no pixels: its shape is {array.shape}")
    levels = _eight_bits(array)
    if levels.shape[2] == 4:
        return compose_on_white(levels)
    return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """Any dtype as uint8 levels, rounded to the nearest."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "u" and size == 1:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind == "u" and size == 2:
        # 65535 = 257 * 255; 257 is odd, so no value lies half-way between two levels
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind == "f":
        low, high = float(np.min(array)), float(np.max(array))
        if not (low >= 0.0 and high <= 1.0):  # false for NaN too
            found = "NaN" if np.isnan(low) else f"values from {low:.4g} to {high:.4g}"
            raise ImageRefusedError(
                f"floats must lie in [0, 1], this image holds {found}; scale it, or pass uint8 levels from 0 to 255"
            )
        # the product of a float32 and 255 is exact in float64: float32 and float64 of one image round alike
        return np.rint(np.multiply(array, 255.0, dtype=np.float64)).astype(np.uint8)
    raise ImageRefusedError(
        f"dtype {array.dtype} is none of uint8, uint16, bool and float; pass array.astype(np.uint8) if the values are "
        "levels from 0 to 255"
    )


def compose_on_white(rgba: np.ndarray) -> np.ndarray:
    """RGBA laid on white paper, `round((a * colour + (255 - a) * 255) / 255)`.

    Parameters
    ----------
    rgba : ndarray of shape (h, w, 4), uint8
        Not premultiplied.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB.
    """
    alpha = rgba[:, :, 3:].astype(np.uint32)
    total = rgba[:, :, :3] * alpha + (255 - alpha) * 255
    return ((total + 127) // 255).astype(np.uint8)


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
