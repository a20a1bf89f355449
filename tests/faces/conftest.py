"""A real face, and what dlib makes of it. Tests of this folder run on one thread."""

from __future__ import annotations

import dlib
import numpy as np
import pytest
from common.photographs import _SKIMAGE, CHINA, SHARED_DATA
from common.threads import one_thread
from PIL import Image

from sklearn_psp.faces._detectors import _model_file


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="session")
def astronaut():
    """A photograph with one face, as an array (256, 512, 3)."""
    with Image.open(_SKIMAGE / "astronaut.png") as image:
        return np.ascontiguousarray(image.convert("RGB"))[:256]


@pytest.fixture(scope="session")
def china():
    """The path of a photograph without a face."""
    return str(CHINA)


@pytest.fixture(scope="session")
def predictor():
    """dlib's five-point predictor."""
    return dlib.shape_predictor(str(_model_file("shape_predictor_5_face_landmarks.dat")))


@pytest.fixture(scope="session")
def shape(astronaut, predictor):
    """dlib's own detection of the astronaut's face."""
    (box,) = dlib.get_frontal_face_detector()(astronaut, 1)
    return predictor(astronaut, box)


@pytest.fixture
def shared_data():
    """The folder of the sets that are too large to be installed."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED_DATA
