"""Common tools of the checks: tiny images, an estimator of their own, and comparisons of rows and errors."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.base import clone

__all__ = ["TinyImages", "assert_refused", "assert_rows_close", "encode_png", "fresh", "tiny_images"]

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


def fresh(estimator: Any, **params: Any) -> Any:
    """Return an unfitted copy with a fixed seed and, as far as it has them, the parameters given."""
    copy = clone(estimator)
    known = copy.get_params(deep=False)
    params = {"random_state": 0, **params}
    return copy.set_params(**{name: value for name, value in params.items() if name in known})


def assert_rows_close(actual: Any, expected: Any, *, rtol: float, message: str) -> None:
    """Assert that no row is further than `rtol` times its length from the row expected; NaN equals NaN.

    Parameters
    ----------
    actual, expected : array-like of shape (n_images, n_features)
        Descriptors.
    rtol : float
        Largest ||actual - expected|| / ||expected|| of a row.
    message : str
        What was promised.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{message}: the shape is {actual.shape}, expected {expected.shape}"
    assert np.array_equal(np.isnan(actual), np.isnan(expected)), f"{message}: NaN stand in different places"
    actual, expected = np.nan_to_num(actual.astype(np.float64)), np.nan_to_num(expected.astype(np.float64))
    distances = np.linalg.norm(actual - expected, axis=1)
    lengths = np.linalg.norm(expected, axis=1)
    wrong = np.flatnonzero(distances > rtol * lengths)
    if len(wrong):
        row = wrong[0]
        raise AssertionError(
            f"{message}: row {row} is {distances[row]:.3g} away from a row of length {lengths[row]:.3g}, more than "
            f"{rtol:g} of it ({len(wrong)} rows of {len(expected)} are)"
        )


def assert_refused(
    call: Callable[[], Any], what: str, *, errors: tuple = (ValueError, TypeError), any_of: Iterable[str] = ()
) -> Exception:
    """Assert that a call is refused with a message that holds one of some texts.

    Parameters
    ----------
    call : callable
        Takes nothing.
    what : str
        What is to be refused, for the message of the check.
    errors : tuple of exception classes, default=(ValueError, TypeError)
        What may be raised.
    any_of : iterable of str
        The message must hold one of these; letter case does not matter.

    Returns
    -------
    Exception
        What was raised.
    """
    texts = list(any_of)
    try:
        call()
    except errors as error:
        if texts and not any(text.lower() in str(error).lower() for text in texts):
            raise AssertionError(
                f"{what} is refused, but the message holds none of {', '.join(map(repr, texts))}: {error}"
            ) from error
        return error
    except Exception as error:
        raise AssertionError(
            f"{what} must be refused with a ValueError, got {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"{what} must be refused, but was accepted")
