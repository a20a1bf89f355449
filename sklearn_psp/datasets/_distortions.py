"""make_distorted_copies: crops, flips, rotations and re-compressed copies of images, to search with."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.utils import Bunch, check_consistent_length, check_random_state

__all__ = ["DISTORTIONS", "make_distorted_copies"]


def make_distorted_copies(
    filenames: Sequence[Any], target: npt.ArrayLike, *, random_state: int | np.random.RandomState | None = 0
) -> Bunch:
    """Make seven distorted copies of every image.

    The copies are queries whose right answer is known: the image they were made from. The kinds are

    - `"crop"` : a quarter of the area, anywhere;
    - `"close-up"` : a sixteenth of the area, anywhere;
    - `"mirrored"` : left and right exchanged;
    - `"upside down"` : turned by 180 degrees;
    - `"quarter turn"` : turned by 90 degrees, either way;
    - `"rotated"` : turned by 10 to 35 degrees, either way, without the empty corners;
    - `"re-compressed"` : a quarter of the height and width, as JPEG of quality 10.

    Parameters
    ----------
    filenames : list of n_images paths
        The images; bytes, PIL images and arrays work as well.
    target : array-like of shape (n_images,)
        The class of each image.
    random_state : int, RandomState instance or None, default=0
        Seed of places and angles.

    Returns
    -------
    copies : Bunch
        The copies of each image stand together, in the order of the kinds above. With the attributes

        - `images` : list of bytes, JPEG files, of quality 90 except for the re-compressed;
        - `target` : ndarray of shape (7 * n_images,), the class of the image they were made from;
        - `kind` : ndarray of shape (7 * n_images,), str, the distortion;
        - `source` : list of the entry of `filenames` they were made from.

    Raises
    ------
    ImageReadError
        If an image cannot be read.
    ValueError
        If there are not as many classes as images.

    See Also
    --------
    load_photographs : Images to make copies of.

    Examples
    --------
    >>> from sklearn_psp.datasets import load_photographs, make_distorted_copies
    >>> photographs = load_photographs()
    >>> copies = make_distorted_copies(photographs.filenames[:2], photographs.target[:2])
    >>> len(copies.images)
    14
    >>> copies.kind[:2].tolist(), copies.target[:2].tolist()
    (['crop', 'close-up'], [0, 0])
    """
    # Reading images loads torch, which finding them (load_photographs) must not.
    from sklearn_psp._images import read_image

    sources = list(filenames)
    classes = np.asarray(target)
    check_consistent_length(sources, classes)
    generator = check_random_state(random_state)
    images: list[bytes] = []
    for source in sources:
        image = Image.fromarray(read_image(source))
        images.extend(distort(image, generator) for distort in DISTORTIONS.values())
    return Bunch(
        images=images,
        target=np.repeat(classes, len(DISTORTIONS)),
        kind=np.tile(list(DISTORTIONS), len(sources)),
        source=[source for source in sources for _ in DISTORTIONS],
    )


def _window(image: Image.Image, share: float, random_state: np.random.RandomState) -> Image.Image:
    """Cut out a window with this share of the area and the image's proportions."""
    width, height = (max(1, round(side * math.sqrt(share))) for side in image.size)
    left = random_state.randint(image.width - width + 1)
    top = random_state.randint(image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def _rotated(image: Image.Image, random_state: np.random.RandomState) -> Image.Image:
    degrees = random_state.uniform(10, 35) * random_state.choice([-1, 1])
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    width, height = _inner_size(image.width, image.height, math.radians(abs(degrees)))
    left, top = (turned.width - width) // 2, (turned.height - height) // 2
    return turned.crop((left, top, left + width, top + height))


def _inner_size(width: int, height: int, angle: float) -> tuple[int, int]:
    """Size the largest upright rectangle of the same proportions inside a rectangle turned by `angle`, in radians.

    Its corners, turned back, must lie inside: s (w cos + h sin) <= w and s (w sin + h cos) <= h.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    share = min(width / (width * cos + height * sin), height / (width * sin + height * cos))
    # Interpolation blends the outermost pixels with the empty corners.
    return max(1, math.floor(width * share) - 2), max(1, math.floor(height * share) - 2)


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _quarter_turn(image: Image.Image, random_state: np.random.RandomState) -> Image.Image:
    return image.transpose(random_state.choice([Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270]))


DISTORTIONS: dict[str, Callable[[Image.Image, np.random.RandomState], bytes]] = {
    "crop": lambda image, random_state: _jpeg(_window(image, 1 / 4, random_state)),
    "close-up": lambda image, random_state: _jpeg(_window(image, 1 / 16, random_state)),
    "mirrored": lambda image, random_state: _jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "upside down": lambda image, random_state: _jpeg(image.transpose(Image.Transpose.ROTATE_180)),
    "quarter turn": lambda image, random_state: _jpeg(_quarter_turn(image, random_state)),
    "rotated": lambda image, random_state: _jpeg(_rotated(image, random_state)),
    "re-compressed": lambda image, random_state: _jpeg(image.reduce(4), quality=10),
}
