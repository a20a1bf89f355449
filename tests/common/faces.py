"""The astronaut's face, marked by hand, and a detector that knows where it is."""

from __future__ import annotations

import numpy as np

BOX = (175, 76, 265, 166)
# Marked by hand in the photograph.
EYES_NOSE_MOUTH = [(203.0, 100.7), (246.7, 103.1), (223.5, 126.2), (203.3, 139.6), (243.5, 140.7)]


class MarkedFace:
    """A detector of images of 256 x 256: the astronaut's face, as an image of MTCNN's or RetinaFace's."""

    def __call__(self, image):
        """Find the face, as long as it is bright."""
        assert image.dtype == np.uint8
        assert image.flags.writeable
        return [(BOX, EYES_NOSE_MOUTH, 0.9)] if image.mean() > 40 else []
