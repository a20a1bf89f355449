"""Real images: the photographs that scikit-learn and scikit-image bring, and crops of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage
import sklearn
from PIL import Image

CHINA = Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg"
_SKIMAGE = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = [
    CHINA,
    CHINA.with_name("flower.jpg"),
    _SKIMAGE / "astronaut.png",
    _SKIMAGE / "chelsea.png",
    _SKIMAGE / "coffee.png",
    _SKIMAGE / "rocket.jpg",
]
# The sets that are too large to be installed, beside the repository.
SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def crops(n_crops: int = 6, side: int = 96) -> tuple[np.ndarray, list[str]]:
    """Return crops of every photograph and the names of the photographs, one after the other.

    Parameters
    ----------
    n_crops : int, default=6
        Of each photograph; each shows four fifths of its sides.
    side : int, default=96
        Height and width in pixels they are brought to.

    Returns
    -------
    images : ndarray of shape (n, side, side, 3), uint8
        RGB.
    names : list of str
        Labels.
    """
    random = np.random.default_rng(0)
    images, names = [], []
    for path in PHOTOGRAPHS:
        with Image.open(path) as image:
            photograph = image.convert("RGB")
        width, height = (int(0.8 * length) for length in photograph.size)
        for _ in range(n_crops):
            left = int(random.integers(photograph.width - width))
            top = int(random.integers(photograph.height - height))
            crop = photograph.crop((left, top, left + width, top + height)).resize((side, side))
            images.append(np.asarray(crop))
            names.append(path.stem)
    return np.stack(images), names
