"""IdentificationDisplay: boxes and names on images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from common.faces import BOX, EYES_NOSE_MOUTH
from common.networks import FAST, TinyNet
from common.photographs import _SKIMAGE
from PIL import Image
from sklearn.pipeline import Pipeline

from sklearn_psp import FaceAligner, FaceIdentifier, PSPNetFeaturizer
from sklearn_psp.displays import IdentificationDisplay
from sklearn_psp.exceptions import ImageInputError


def two_faces(image):
    """Find the astronaut's face, and another beside it, in bright images."""
    shifted = [(x + 120, y) for x, y in EYES_NOSE_MOUTH]
    left, top, right, bottom = BOX
    found = [(BOX, EYES_NOSE_MOUTH, 0.9), ((left + 120, top, right + 120, bottom), shifted, 0.5)]
    return found if image.mean() > 40 else []


@pytest.fixture(scope="module")
def astronaut():
    with Image.open(_SKIMAGE / "astronaut.png") as image:
        return np.ascontiguousarray(image.convert("RGB"))[:256]


@pytest.fixture(scope="module")
def identifier(astronaut):
    network = PSPNetFeaturizer(TinyNet(), **{**FAST, "image_size": 64}, center=False)
    faces = Pipeline([("aligner", FaceAligner(two_faces)), ("psp", network)])
    identifier = FaceIdentifier(faces, threshold=0.999, on_error="nan")
    return identifier.fit([astronaut, astronaut // 2 + 60], ["Eileen", "Eileen"])


def boxes(ax):
    return [tuple(map(round, (*patch.get_xy(), patch.get_width(), patch.get_height()))) for patch in ax.patches]


def test_every_face__has_a_box_and_a_name(identifier, astronaut):
    display = IdentificationDisplay.from_estimator(identifier, [astronaut])
    (ax,) = display.ax_
    assert boxes(ax) == [(175, 76, 90, 90), (295, 76, 90, 90)]
    assert [text.get_text() for text in ax.texts] == ["Eileen 1.00", f"unknown {display.faces['score'][1]:.2f}"]
    assert [patch.get_linestyle() for patch in ax.patches] == ["-", "--"]
    pd.testing.assert_frame_equal(display.faces, identifier.identify([astronaut]))


def test_images_without_a_face_or_content__are_shown_as_such(identifier, astronaut, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not images")
    display = IdentificationDisplay.from_estimator(identifier, [astronaut // 8, str(broken), astronaut, astronaut])
    assert [text.get_text() for text in display.ax_[0].texts] == ["no face"]
    assert not display.ax_[1].images
    assert display.ax_[1].get_xlabel() == "broken.png"
    assert [len(ax.patches) for ax in display.ax_[2:]] == [2, 2]
    # Three beside each other.
    assert display.ax_[3].get_position().y1 < display.ax_[0].get_position().y0


def test_series__gives_its_index_as_names(identifier, astronaut):
    X = pd.Series([astronaut, astronaut], index=["first", "second"])
    display = IdentificationDisplay.from_estimator(identifier, X, n_images=1)
    assert [ax.get_xlabel() for ax in display.ax_] == ["first"]


def test_random__repeats_with_the_seed(identifier, astronaut):
    X = pd.Series([astronaut] * 6, index=list("abcdef"))
    first, second = (
        [
            name
            for name, _ in IdentificationDisplay.from_estimator(
                identifier, X, n_images=2, select="random", random_state=5
            ).images
        ]
        for _ in range(2)
    )
    assert first == second


def test_without_an_aligner__the_whole_image_is_the_face(images):
    from common.transformers import ColourGrid

    identifier = FaceIdentifier(ColourGrid(size=1), threshold=0.5).fit(images[:4], ["red", "red", "blue", "blue"])
    display = IdentificationDisplay.from_estimator(identifier, images[:1])
    assert boxes(display.ax_[0]) == [(0, 0, 8, 8)]
    assert display.ax_[0].texts[0].get_text() == "red 1.00"


def test_generator__is_refused(identifier, astronaut):
    with pytest.raises(ImageInputError, match="read only once"):
        IdentificationDisplay.from_estimator(identifier, iter([[astronaut]]))
