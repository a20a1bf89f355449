"""What is found in one image, which of it is taken, and the table of all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

__all__ = ["N_POINTS", "SELECTIONS", "Face", "Found", "choose", "faces_frame"]

N_POINTS = 5
SELECTIONS = ("largest", "confident", "all", "error")
_BOX = ["left", "top", "right", "bottom"]
_POINTS = [f"point{i}_{axis}" for i in range(N_POINTS) for axis in "xy"]


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
    """What became of one image.

    Parameters
    ----------
    faces : sequence of Face
        All that the detector found.
    selected : sequence of int
        Positions in `faces` of those that are taken; of each there is a chip.
    chips : sequence of ndarray of shape (size, size, 3), uint8
        Empty where none were asked for.
    refusal : str or None
        Why none is taken; None where some are.
    remedy : str or None
        What to do about the refusal.
    unread : bool
        Whether the refusal is that the image cannot be read.
    """

    faces: Sequence[Face] = ()
    selected: Sequence[int] = ()
    chips: Sequence[np.ndarray] = ()
    refusal: str | None = None
    remedy: str | None = None
    unread: bool = False


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
