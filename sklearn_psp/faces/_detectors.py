"""One image in, its faces and their chips out: by dlib, by a callable, or as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sklearn_psp.faces._chips import alignment, exchanged, warp
from sklearn_psp.faces._found import N_POINTS, Face, Found, choose
from sklearn_psp.faces._models import borrowed_detector, five_points

__all__ = ["CallableDetector", "Chip", "DlibDetector", "NoDetector", "make_detector"]

_NO_POINTS = np.full((N_POINTS, 2), np.nan)
# Sides of the window that slides over the image, in dlib's `frontal_face_detector.h` and
# `dnn_mmod_face_detection_ex.cpp`; and of the smallest image that the network takes (tried).
_SMALLEST_FACE = {"hog": 80, "cnn": 40}
_SMALLEST_IMAGE = 10


class Chip(NamedTuple):
    """What chips look like: their side in pixels, and the margin around the face as a share of it."""

    size: int
    padding: float


class _Detector:
    """Finds faces.

    Parameters
    ----------
    select : {"largest", "confident", "all", "error"}
        Which faces are taken.
    """

    def __init__(self, select):
        self._select = select

    def find(self, image: np.ndarray) -> list[Face]:
        """Return all faces of an image."""
        raise NotImplementedError

    def cut(self, image: np.ndarray, face: Face, chip: Chip) -> np.ndarray:
        """Return the chip of a face."""
        raise NotImplementedError

    def doubt(self, face: Face) -> str | None:
        """Say why a face has no chip, if it has none."""
        return None

    def nothing_found(self, image: np.ndarray) -> tuple[str, str]:
        """Return the reason and the remedy where there is no face."""
        raise NotImplementedError

    def __call__(self, image: np.ndarray, chip: Chip | None) -> Found:
        """Find the faces of an image and cut out those that are selected, unless `chip` is None."""
        faces = self.find(image)
        selected = choose(faces, self._select)
        if not faces:
            return Found(faces, refusal=(said := self.nothing_found(image))[0], remedy=said[1])
        if not selected:
            return Found(
                faces,
                refusal=f'{len(faces)} faces were found where select="error" allows one',
                remedy='pass select="largest", "confident" or "all", crop the image',
            )
        doubts = [doubt for i in selected if (doubt := self.doubt(faces[i])) is not None]
        if doubts:
            return Found(faces, refusal=doubts[0], remedy="correct the detector")
        return Found(faces, selected, [] if chip is None else [self.cut(image, faces[i], chip) for i in selected])


class DlibDetector(_Detector):
    """dlib's own detectors and five points: outer and inner corner of both eyes, and the nose."""

    def __init__(self, name, select, upsample):
        super().__init__(select)
        self._name = name
        self._upsample = upsample

    def find(self, image):
        predict = five_points()
        faces = []
        for box, confidence in self._boxes(image):
            points = np.array([(point.x, point.y) for point in predict(image, box).parts()], dtype=np.float64)
            faces.append(Face((box.left(), box.top(), box.right(), box.bottom()), points, confidence))
        return faces

    def _boxes(self, image):
        if min(image.shape[:2]) << self._upsample < _SMALLEST_IMAGE:
            return []
        with borrowed_detector(self._name) as detect:
            if self._name == "hog":
                boxes, scores, _ = detect.run(image, self._upsample, 0.0)
                return list(zip(boxes, scores, strict=True))
            return [(found.rect, found.confidence) for found in detect(image, self._upsample)]

    def cut(self, image, face, chip):
        import dlib

        box = dlib.rectangle(*map(int, face.box))
        shape = dlib.full_object_detection(box, [dlib.point(int(x), int(y)) for x, y in face.points])
        return dlib.get_face_chip(image, shape, size=chip.size, padding=chip.padding)

    def nothing_found(self, image):
        height, width = image.shape[:2]
        smallest = _SMALLEST_FACE[self._name] / 2**self._upsample
        other = ', detector="cnn" for turned faces' if self._name == "hog" else ""
        return (
            f"no face was found in its {width:,} x {height:,} pixels by detector={self._name!r} with "
            f"upsample={self._upsample}, which finds faces from about {smallest:.0f} pixels on",
            f"pass upsample={self._upsample + 1} for smaller faces{other}, detector=None if it is a chip already",
        )


class CallableDetector(_Detector):
    """A callable, one call at a time, and a warp by eyes and nose; the mouth only helps to tell left from right."""

    def __init__(self, function: Callable, select):
        super().__init__(select)
        self._function = function
        self._lock = threading.Lock()

    def find(self, image):
        with self._lock:
            found = self._function(image.copy())  # the image may be the user's X
        try:
            return [_checked_face(*face) for face in found]
        except (TypeError, ValueError) as error:
            raise ValueError(
                "detector(image) must return a list of (box, points, confidence): four finite numbers (left, top, "
                f"right, bottom), five finite points (x, y), and a number or None; {error}"
            ) from error

    def doubt(self, face):
        if np.ptp(face.points[:3], axis=0).max() < 1:
            return "the detector's eyes and nose are all in one place"
        if exchanged(face.points):
            return (
                "the detector's points have left and right exchanged: the left eye and the left corner of the mouth "
                "are those on the left of the image where the face is upright"
            )
        return None

    def cut(self, image, face, chip):
        return warp(image, *alignment(face.points, *chip), chip.size)

    def nothing_found(self, image):
        height, width = image.shape[:2]
        return (
            f"no face was found in its {width:,} x {height:,} pixels by the detector that was given",
            "pass detector=None if it is a chip already",
        )


def _checked_face(box: Sequence, points: Any, confidence: float | None) -> Face:
    box, points = np.asarray(box, dtype=np.float64), np.asarray(points, dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError(f"a box is {box.tolist()}")
    if points.shape != (N_POINTS, 2) or not np.isfinite(points).all():
        raise ValueError(f"points have the shape {points.shape} and are {points.tolist()}")
    if box[0] > box[2] or box[1] > box[3]:
        raise ValueError(f"a box ends before it begins: {box.tolist()}")
    return Face(tuple(box.tolist()), points, np.nan if confidence is None else float(confidence))


class NoDetector(_Detector):
    """Images that are chips already."""

    def find(self, image):
        height, width = image.shape[:2]
        return [Face((0, 0, width, height), _NO_POINTS, np.nan)]

    def cut(self, image, face, chip):
        from sklearn_psp._images import resize_image

        return resize_image(image, (chip.size, chip.size))


def make_detector(detector: str | Callable | None, select: str, upsample: int) -> _Detector:
    """Return what finds faces, by the parameters of `FaceAligner`."""
    if detector is None:
        return NoDetector(select)
    if isinstance(detector, str):
        return DlibDetector(detector, select, upsample)
    return CallableDetector(detector, select)
