"""One image given as numbers: a NumPy array or a torch tensor."""

from __future__ import annotations

import sys

import numpy as np

from sklearn_psp._images._types import ImageRefusedError

__all__ = [
    "CHANNELS",
    "compose_on_white",
    "is_array_like",
    "is_tensor",
    "rgb_from_array",
    "rgb_from_tensor",
    "to_numpy",
]

CHANNELS = (1, 3, 4)


def is_tensor(X: object) -> bool:
    """Whether X is a torch tensor, without importing torch for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(X, torch.Tensor)


def is_array_like(X: object) -> bool:
    """Whether X is an array of any library (NumPy, torch, TensorFlow, JAX ...): it can say its shape and convert."""
    return hasattr(X, "shape") and hasattr(X, "dtype") and (is_tensor(X) or hasattr(X, "__array__"))


def to_numpy(tensor) -> np.ndarray:
    """A tensor as an array, in its own layout; bfloat16, which NumPy does not know, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


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
