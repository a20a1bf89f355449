"""IdentificationDisplay: images with a box and a name for each face."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sklearn_psp._images import as_images, read_image
from sklearn_psp.displays._draw import CAPTION, FONT_SIZE, GAP, exact_grid, write_caption
from sklearn_psp.displays._shown import choose
from sklearn_psp.exceptions import ImageInputError, ImageReadError
from sklearn_psp.utils._compat import Interval, StrOptions, validate_params
from sklearn_psp.utils._pipeline import split_search
from sklearn_psp.utils._validation import own_index

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["IdentificationDisplay"]

_KNOWN, _UNKNOWN = "#13713f", "#8a4b00"
_MOST_COLUMNS = 3


class IdentificationDisplay:
    """Images with a box and a name for each face.

    It is recommended to make one with `from_estimator`, which also draws it. People who are enrolled have a solid green
    box, others a broken brown one.

    Parameters
    ----------
    images : iterable of (name, image)
        The name of each image, and the image: a path, bytes, a PIL image or an array.
    faces : DataFrame
        As `FaceIdentifier.identify` returns it for these images, with positions from 0 as `image`.
    unknown_label : object, default="unknown"
        The name of a face that is nobody's of those enrolled.

    Attributes
    ----------
    images : list of (name, image)
        The images with their names.
    faces : DataFrame
        The identified faces.
    ax_ : ndarray of shape (n_images,), object
        The axes. Only once drawn.
    figure_ : matplotlib.figure.Figure or matplotlib.figure.SubFigure
        The figure that holds the axes. Only once drawn.

    See Also
    --------
    FaceIdentifier : Identifies faces.
    MatchDisplay : Draws pairs of faces.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp.displays import IdentificationDisplay
    >>> from sklearn_psp.faces import FaceIdentifier, make_face_featurizer
    >>> from skimage.data import astronaut
    >>> image = astronaut()
    >>> identifier = FaceIdentifier(make_face_featurizer(), threshold=0.95, unknown_label=None)
    >>> identifier = identifier.fit([image], ["Eileen Collins"])
    >>> display = IdentificationDisplay.from_estimator(identifier, [image[:256]])
    >>> display.faces["name"].tolist()
    ['Eileen Collins']
    """

    ax_: np.ndarray
    figure_: Figure | SubFigure

    def __init__(self, images: Iterable[tuple[Any, Any]], faces: pd.DataFrame, *, unknown_label: Any = "unknown"):
        self.images, self.faces, self.unknown_label = list(images), faces, unknown_label

    @validate_params({"cell_size": [Interval(Real, 0, None, closed="neither")]}, prefer_skip_nested_validation=True)
    def plot(self, *, figure: Figure | SubFigure | None = None, cell_size: float = 3.0) -> IdentificationDisplay:
        """Draw the images.

        Parameters
        ----------
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to draw into. None makes a new one with `matplotlib.pyplot`.
        cell_size : float, default=3.0, inches
            Side of an image's box in a new figure.

        Returns
        -------
        self : IdentificationDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        known = self.faces["name"].notna() & (self.faces["name"] != self.unknown_label)
        faces = self.faces.assign(known=known)
        n_columns = max(min(len(self.images), _MOST_COLUMNS), 1)
        n_rows = max(-(-len(self.images) // n_columns), 1)
        widths = [None, *(size for _ in range(n_columns - 1) for size in (GAP, None))]
        self.figure_, grid, (cell_width, _) = exact_grid(
            figure, widths, [None, CAPTION] * n_rows, (cell_size, cell_size), owner="IdentificationDisplay"
        )
        self.ax_ = np.empty(len(self.images), dtype=object)
        for i, (name, image) in enumerate(self.images):
            row, column = divmod(i, n_columns)
            ax = self.ax_[i] = self.figure_.add_subplot(grid[2 * row, 2 * column])
            _draw_image(ax, name, _read(image), faces[faces["image"] == i], cell_width)
        return self

    @classmethod
    @validate_params(
        {
            "n_images": [Interval(Integral, 1, None, closed="left")],
            "select": [StrOptions({"first", "random"})],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_images: int = 6,
        select: str = "first",
        random_state: int | np.random.RandomState | None = None,
        figure: Figure | SubFigure | None = None,
    ) -> IdentificationDisplay:
        """Identify the people in images and draw them.

        Parameters
        ----------
        estimator : FaceIdentifier
            Fitted, with a featurizer; or a fitted search over one, such as `GridSearchCV`.
        X : collection of images
            Images.
        n_images : int, default=6
            Number of images to show.
        select : {"first", "random"}, default="first"
            Which images to show.
        random_state : int, RandomState instance or None, default=None
            Seed of "random".
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to draw into. None makes a new one.

        Returns
        -------
        display : IdentificationDisplay
            The display, drawn.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ImageInputError
            If X is no collection of images that can be looked at twice.
        """
        identifier, X = split_search(estimator, X)
        images, index = as_images(X), own_index(X)
        if images.n_images is None:
            raise ImageInputError("X is an iterable that can be read only once: pass a list of images")
        shown = choose(images.n_images, n_images, select, random_state)
        chosen = [images.get(i) for i in shown]
        names = [os.path.basename(images.describe(i)) for i in shown] if index is None else index[shown].tolist()
        faces = identifier.identify(chosen)
        return cls(zip(names, chosen, strict=True), faces, unknown_label=identifier.unknown_label).plot(figure=figure)


def _read(image: Any) -> np.ndarray | None:
    """Return an image at full size, in whose pixels boxes are given; None if it cannot be read."""
    try:
        return np.asarray(read_image(image))
    except ImageReadError:
        return None


def _draw_image(ax: Axes, name: Any, image: np.ndarray | None, faces: pd.DataFrame, cell_width: float) -> None:
    """Draw an image with a box and a name for each of its faces."""
    ax.set(xticks=[], yticks=[])
    write_caption(ax, [name], cell_width)
    if image is None:
        ax.set_box_aspect(1)
        return
    ax.imshow(image, interpolation="antialiased")
    boxed = faces[faces["name"].notna()]
    for face in boxed.itertuples():
        _draw_face(ax, face, image.shape)
    if boxed.empty:
        ax.text(
            0.5, 0.04, "no face", transform=ax.transAxes, ha="center", fontsize=FONT_SIZE, bbox=_label_box(_UNKNOWN)
        )


def _draw_face(ax: Axes, face: Any, shape: tuple[int, ...]) -> None:
    from matplotlib.patches import Rectangle

    color = _KNOWN if face.known else _UNKNOWN
    left, top, right, bottom = face.left, face.top, face.right, face.bottom
    if np.isnan(left):  # no aligner found it: the whole image is the face
        left, top, right, bottom = -0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5
    line = "-" if face.known else "--"
    box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.8, linestyle=line)
    ax.add_patch(box)
    ax.annotate(
        f"{face.name} {face.score:.2f}",
        (max(left, 0), max(top, 0)),
        xytext=(1, 2),
        textcoords="offset points",
        va="bottom" if top > 0.12 * shape[0] else "top",  # inside the box where there is no room above it
        fontsize=FONT_SIZE,
        color="white",
        bbox=_label_box(color),
        parse_math=False,
        annotation_clip=True,
    )


def _label_box(color: str) -> dict[str, Any]:
    return {"boxstyle": "square,pad=0.15", "facecolor": color, "edgecolor": "none", "alpha": 0.85}
