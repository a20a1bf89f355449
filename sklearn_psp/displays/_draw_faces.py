"""Drawing pairs of faces with what was decided, and images with the people in them, with matplotlib."""

from __future__ import annotations

import numpy as np

from sklearn_psp.displays._draw import _CAPTION, _GAP, _MARGIN, _RIGHT, _WRONG, _draw_box, shorten
from sklearn_psp.utils._optional import import_optional_dependency

__all__ = ["draw_faces", "draw_matches"]

_TEXT_WIDTH = 1.9  # inches, beside a pair
_NAMED, _UNKNOWN = "#13713f", "#8a4b00"
_MOST_COLUMNS = 3


def draw_matches(matches, threshold, figure, cell_size):
    """Draw one row for each pair: the two images, and what was decided.

    Parameters
    ----------
    matches : sequence of ShownMatch
        The pairs.
    threshold : float
        The score from which on a pair is accepted.
    figure : Figure, SubFigure or None
        What to draw into; None makes a new figure.
    cell_size : float, inches
        Side of an image's box in a new figure.

    Returns
    -------
    figure : Figure or SubFigure
        What was drawn into.
    axes : ndarray of shape (n_pairs, 3), object
        The axes of both images and of the text.
    """
    n_rows = len(matches)
    widths = [cell_size, _GAP, cell_size, _GAP, _TEXT_WIDTH]
    figure, grid = _grid(figure, [cell_size, _CAPTION] * n_rows, widths, "MatchDisplay")
    axes = np.empty((n_rows, 3), dtype=object)
    n_characters = max(int(cell_size / 0.062), 4)
    for row, match in enumerate(matches):
        for side in range(2):
            ax = axes[row, side] = figure.add_subplot(grid[2 * row, 2 * side])
            _draw_box(ax, match.images[side], match.names[side], [match.names[side]], n_characters)
            if match.right is not None:
                for spine in ax.spines.values():
                    spine.set(color=_RIGHT if match.right else _WRONG, linewidth=2.5 if match.right else 1.5)
        ax = axes[row, 2] = figure.add_subplot(grid[2 * row, 4])
        ax.set_axis_off()
        _write(ax, match, threshold)
    return figure, axes


def _write(ax, match, threshold):
    style = {"transform": ax.transAxes, "ha": "left", "va": "center", "parse_math": False}
    if match.same is None:
        ax.text(0.05, 0.5, "not compared", fontsize=9, **style)
        return
    ax.text(0.05, 0.72, "same person" if match.same else "two people", fontsize=10, weight="bold", **style)
    sign = "≥" if match.same else "<"
    ax.text(0.05, 0.5, f"score {match.score:.3f} {sign} {threshold:.3f}", fontsize=8, **style)
    ax.text(0.05, 0.34, f"probability {match.probability:.3f}", fontsize=8, **style)
    if match.right is not None:
        color = _RIGHT if match.right else _WRONG
        ax.text(0.05, 0.16, "right" if match.right else "wrong", fontsize=8, color=color, **style)


def draw_faces(images, faces, figure, cell_size):
    """Draw images with a box and a name for each face.

    Parameters
    ----------
    images : sequence of (str, ndarray or None)
        Names and images at full size.
    faces : sequence of DataFrame
        The faces of each, as of `FaceIdentifier.identify`, with a column `known`.
    figure : Figure, SubFigure or None
        What to draw into; None makes a new figure.
    cell_size : float, inches
        Width of an image in a new figure.

    Returns
    -------
    figure : Figure or SubFigure
        What was drawn into.
    axes : ndarray of shape (n_images,), object
        The axes.
    """
    n_columns = min(len(images), _MOST_COLUMNS)
    n_rows = -(-len(images) // max(n_columns, 1))
    widths = [width for _ in range(n_columns) for width in (cell_size, _GAP)][:-1]
    figure, grid = _grid(figure, [cell_size, _CAPTION] * n_rows, widths, "IdentificationDisplay")
    axes = np.empty(len(images), dtype=object)
    n_characters = max(int(cell_size / 0.062), 4)
    for i, ((name, image), found) in enumerate(zip(images, faces, strict=True)):
        row, column = divmod(i, n_columns)
        ax = axes[i] = figure.add_subplot(grid[2 * row, 2 * column])
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(shorten(name, n_characters), fontsize=8, labelpad=3, parse_math=False)
        if image is None:
            ax.set_box_aspect(1)
            continue
        ax.imshow(image, interpolation="antialiased")
        boxed = found[found["name"].notna()]
        for face in boxed.itertuples():
            _draw_face(ax, face, image.shape[:2])
        if boxed.empty:
            ax.text(0.5, 0.04, "no face", transform=ax.transAxes, ha="center", fontsize=8, bbox=_label_box(_UNKNOWN))
    return figure, axes


def _draw_face(ax, face, shape):
    from matplotlib.patches import Rectangle

    color = _NAMED if face.known else _UNKNOWN
    left, top = face.left, face.top
    if np.isnan(left):  # no aligner found it: the whole image is the face
        left, top, right, bottom = -0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5
    else:
        right, bottom = face.right, face.bottom
    style = {"fill": False, "edgecolor": color, "linewidth": 1.8, "linestyle": "-" if face.known else "--"}
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, **style))
    ax.annotate(
        f"{face.name} {face.score:.2f}",
        (max(left, 0), max(top, 0)),
        xytext=(1, 2),
        textcoords="offset points",
        va="bottom" if top > 0.12 * shape[0] else "top",
        fontsize=8,
        color="white",
        bbox=_label_box(color),
        parse_math=False,
        annotation_clip=True,
    )


def _label_box(color):
    return {"boxstyle": "square,pad=0.15", "facecolor": color, "edgecolor": "none", "alpha": 0.85}


def _grid(figure, heights, widths, owner):
    """Return a figure and a grid of exact sizes in it."""
    width, height = sum(widths) + 2 * _MARGIN, sum(heights) + 2 * _MARGIN
    if figure is None:
        pyplot = import_optional_dependency("matplotlib.pyplot", extra="plot", purpose=owner)
        # The places are computed; a layout engine of the user's settings would move them.
        figure = pyplot.figure(figsize=(width, height), layout="none")
    grid = figure.add_gridspec(
        max(len(heights), 1),
        max(len(widths), 1),
        width_ratios=widths or [1],
        height_ratios=heights or [1],
        left=_MARGIN / width,
        right=1 - _MARGIN / width,
        bottom=_MARGIN / height,
        top=1 - _MARGIN / height,
        wspace=0,
        hspace=0,
    )
    return figure, grid
