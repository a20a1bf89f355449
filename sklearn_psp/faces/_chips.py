"""Faces found in one image, the choice among them, their table, and the geometry of a face chip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

__all__ = [
    "N_POINTS",
    "SELECTIONS",
    "Chip",
    "Face",
    "Found",
    "alignment",
    "choose",
    "exchanged",
    "faces_frame",
    "similarity",
    "warp",
]

N_POINTS = 5
SELECTIONS = ("largest", "confident", "all", "error")
_BOX = ["left", "top", "right", "bottom"]
_POINTS = [f"point{i}_{axis}" for i in range(N_POINTS) for axis in "xy"]
# Left eye, right eye, nose, left and right corner of the mouth as shares of a chip without padding. Eyes: the middles
# of the corners that dlib aligns its five points to. Nose and mouth: points 30, 48 and 54 of the mean face beside them,
# in dlib's `get_face_chip_details` (dlib/image_transforms/interpolation.h, Boost licence).
_MEAN_FACE = np.array(
    [
        [0.22733006172505, 0.2213958465045],
        [0.7528139680048, 0.22123279628455],
        [0.490127, 0.515625],
        [0.254149, 0.780233],
        [0.726104, 0.780233],
    ]
)
# dlib's five points are four corners of eyes and the nose.
_WEIGHTS = np.array([2.0, 2.0, 1.0, 0.0, 0.0])
_LEFT_FOR_RIGHT = [1, 0, 2, 4, 3]


class Chip(NamedTuple):
    """Form of a chip: its side in pixels, and the margin around the face as a share of the face."""

    size: int
    padding: float


class Face(NamedTuple):
    """A face in an image.

    Parameters
    ----------
    box : tuple of four floats (left, top, right, bottom)
        In pixels; dlib's boxes may reach out of the image.
    points : ndarray of shape (5, 2), float64
        x and y in pixels; NaN where there are none.
    confidence : float
        Of the detector, on its own scale; NaN where it has none.
    """

    box: tuple[float, float, float, float]
    points: np.ndarray
    confidence: float


@dataclass(frozen=True)
class Found:
    """Result of the search of one image.

    Parameters
    ----------
    faces : sequence of Face
        All faces that the detector found.
    selected : sequence of int
        Positions in `faces` of those that are taken; of each there is a chip.
    chips : sequence of ndarray of shape (size, size, 3), uint8
        Empty where none were asked for.
    refusal : str or None
        Why none is taken; None where some are.
    remedy : str or None
        How to avoid the refusal.
    """

    faces: Sequence[Face] = ()
    selected: Sequence[int] = ()
    chips: Sequence[np.ndarray] = ()
    refusal: str | None = None
    remedy: str | None = None


def choose(faces: Sequence[Face], select: str) -> list[int]:
    """Choose among the faces of one image.

    Parameters
    ----------
    faces : sequence of Face
        The faces; of equal ones the first is taken.
    select : {"largest", "confident", "all", "error"}
        "error" chooses none where there are several.

    Returns
    -------
    list of int
        Positions.
    """
    if select == "all":
        return list(range(len(faces)))
    if not faces or (select == "error" and len(faces) > 1):
        return []
    if select == "confident":
        return [int(np.argmax(np.nan_to_num([face.confidence for face in faces], nan=-np.inf)))]
    return [int(np.argmax([(right - left) * (bottom - top) for (left, top, right, bottom), _, _ in faces]))]


def faces_frame(rows: Iterable[tuple[int, str, Face, int]]) -> pd.DataFrame:
    """Tabulate faces.

    Parameters
    ----------
    rows : iterable of (int, str, Face, int)
        Position of the image in X, its source, a face in it, and the row of its chip or -1.

    Returns
    -------
    DataFrame
        The columns that `FaceAligner.detect` promises.
    """
    rows = list(rows)
    frame = pd.DataFrame({"image": np.array([image for image, *_ in rows], dtype=np.int64)})
    frame["source"] = np.array([source for _, source, *_ in rows], dtype=object)
    frame[_BOX] = np.array([face.box for _, _, face, _ in rows], dtype=np.float64).reshape(-1, len(_BOX))
    frame["confidence"] = np.array([face.confidence for _, _, face, _ in rows], dtype=np.float64)
    chips = np.array([chip for *_, chip in rows], dtype=np.int64)
    frame["selected"] = chips >= 0
    frame["chip"] = chips
    points = np.array([face.points for _, _, face, _ in rows], dtype=np.float64)
    frame[_POINTS] = points.reshape(-1, len(_POINTS))
    return frame


def alignment(points: np.ndarray, size: int, padding: float) -> tuple[complex, complex]:
    """Return where the pixels of a chip lie in the image.

    The mouth has no say, because it moves with the expression and because dlib aligns eyes and nose alone; on a smiling
    face it takes the chip 9 pixels of 150 from dlib's, and without it that is 3 (`tests/faces/test_faces_chips.py`).

    Parameters
    ----------
    points : ndarray of shape (5, 2)
        x and y in pixels of the image: left eye, right eye, nose, left and right corner of the mouth.
    size : int
        Side of the chip in pixels.
    padding : float
        Margin on each side, as a share of the face.

    Returns
    -------
    a, b : complex
        Pixel z of the chip is pixel a z + b of the image.
    """
    a, b, _ = similarity((padding + _MEAN_FACE) / (2 * padding + 1) * size, points, _WEIGHTS)
    # dlib takes the middle of the square of points for that of the pixels, which is half a pixel away, and loses a
    # pixel of the image on the way between them (`chip_details`, `centered_drect`, `get_mapping_to_chip`).
    if size == 1:
        return a, b
    middle = a * (0.5 + 0.5j) * size + b
    a *= (size - 1 / abs(a)) / (size - 1)
    return a, middle - a * (0.5 + 0.5j) * (size - 1)


def similarity(start: np.ndarray, end: np.ndarray, weights: np.ndarray | None = None) -> tuple[complex, complex, float]:
    r"""Turn, scale and shift points onto others with the least weighted sum of squares.

    With points as complex numbers :math:`z_i` and :math:`w_i`, and :math:`u_i` for their weights, it is
    :math:`z \mapsto a z + b`, where :math:`a = \sum u_i \overline{(z_i - \bar z)} (w_i - \bar w) / \sum u_i |z_i -
    \bar z|^2` and :math:`b = \bar w - a \bar z`: Umeyama, "Least-squares estimation of transformation parameters
    between two point patterns", PAMI 1991, in the plane and without mirroring.

    Parameters
    ----------
    start, end : ndarray of shape (n_points, 2)
        x and y; those of `start` are not all the same.
    weights : ndarray of shape (n_points,) or None, default=None
        None: all alike.

    Returns
    -------
    a, b : complex
        The transform.
    residual : float
        The weighted sum of squares that is left.
    """
    z, w = (np.asarray(points, dtype=np.float64) @ (1, 1j) for points in (start, end))
    z_mean, w_mean = np.average(z, weights=weights), np.average(w, weights=weights)
    share = np.ones(len(z)) if weights is None else weights
    a = np.vdot(z - z_mean, share * (w - w_mean)) / (share @ np.abs(z - z_mean) ** 2)
    residual = share @ np.abs(w - w_mean - a * (z - z_mean)) ** 2
    return complex(a), complex(w_mean - a * z_mean), float(residual)


def exchanged(points: np.ndarray) -> bool:
    """Tell whether five points fit a face much better with left and right exchanged.

    Parameters
    ----------
    points : ndarray of shape (5, 2)
        In the order of `alignment`.

    Returns
    -------
    bool
        Never for a profile, whose eyes may stand in any order but close to each other.
    """
    as_given, the_other_way = (similarity(_MEAN_FACE, p)[2] for p in (points, points[_LEFT_FOR_RIGHT]))
    return the_other_way < as_given / 2


def warp(image: np.ndarray, a: complex, b: complex, size: int) -> np.ndarray:
    """Cut a chip out of an image, bilinear, after shrinking where the chip is the smaller; black outside.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), uint8
        RGB.
    a, b : complex
        Pixel z of the chip is pixel a z + b of the image, both counted at their centres.
    size : int
        Side of the chip in pixels.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8
        The chip.
    """
    height, width = image.shape[:2]
    # From here on coordinates are Pillow's, counted at corners of pixels.
    b = b + (1 - a) * (0.5 + 0.5j)
    corners = a * size * np.array([0, 1, 1j, 1 + 1j]) + b
    margin = abs(a) + 2
    left, top = (max(0, int(np.floor(side.min() - margin))) for side in (corners.real, corners.imag))
    right = min(width, int(np.ceil(corners.real.max() + margin)))
    bottom = min(height, int(np.ceil(corners.imag.max() + margin)))
    if left >= right or top >= bottom:
        return np.zeros((size, size, 3), dtype=np.uint8)
    part = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
    by_x = by_y = 1.0
    if abs(a) > 1:
        shrunk = [max(1, round(length / abs(a))) for length in part.size]
        by_x, by_y = (length / new for length, new in zip(part.size, shrunk, strict=True))
        part = part.resize(shrunk, Image.Resampling.BILINEAR)  # antialiased, other than transform
    matrix = (
        *(a.real / by_x, -a.imag / by_x, (b.real - left) / by_x),
        *(a.imag / by_y, a.real / by_y, (b.imag - top) / by_y),
    )
    chip = part.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.array(chip)
