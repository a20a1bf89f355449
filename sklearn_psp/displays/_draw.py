"""Drawing that the displays share: a grid of exact sizes, an image in a square box, its caption and its frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklearn_psp._images import thumbnail
from sklearn_psp.utils._libraries import import_optional_dependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.gridspec import GridSpec

__all__ = [
    "CAPTION",
    "FONT_SIZE",
    "GAP",
    "MARGIN",
    "RIGHT",
    "WRONG",
    "exact_grid",
    "frame",
    "image_box",
    "n_characters",
    "shorten",
    "write_caption",
]

RIGHT, WRONG = "#13713f", "#b3261e"
_QUIET = "#c9c9c4"  # frame of what is neither right nor wrong
_GROUND = "#f0f0ed"  # beside images that are no squares
_ON_GROUND = "#63676c"
FONT_SIZE = 8  # points
# A character of the usual sans-serif is about 0.56 as wide as its font is high.
_CHARACTER = 0.56 * FONT_SIZE / 72  # inches
# Inches: between cells, below them for a caption of two lines, and around all.
GAP, CAPTION, MARGIN = 0.1, 0.44, 0.12


def exact_grid(
    figure: Figure | SubFigure | None,
    widths: Sequence[float | None],
    heights: Sequence[float | None],
    cell_size: tuple[float, float],
    *,
    owner: str,
) -> tuple[Figure | SubFigure, GridSpec, tuple[float, float]]:
    """Make a grid whose columns and rows have exact sizes.

    Parameters
    ----------
    figure : Figure, SubFigure or None
        The figure to draw into; None makes a new one of the size of the grid.
    widths, heights : sequence of float or None, inches
        The columns and the rows: gaps, captions and other fixed sizes, and None for a cell.
    cell_size : tuple of two floats, inches
        (width, height) of a cell in a new figure. In a given one cells share what is left of it.
    owner : str
        The display, for the error where matplotlib is not installed.

    Returns
    -------
    figure : Figure or SubFigure
        The figure to draw into.
    grid : GridSpec
        The grid, with the gaps among its columns and rows.
    cell_size : tuple of two floats, inches
        (width, height) of a cell in this figure.
    """
    sides, cells = [], []
    for i, tracks in enumerate((widths, heights)):
        n_cells = sum(size is None for size in tracks)
        fixed = sum(size for size in tracks if size is not None) + 2 * MARGIN
        if figure is None:
            cells.append(cell_size[i])
            sides.append(n_cells * cell_size[i] + fixed)
        else:
            sides.append((figure.bbox.width, figure.bbox.height)[i] / figure.dpi)
            # In a figure smaller than its gaps axes still need some size: matplotlib refuses 0.
            cells.append(max((sides[i] - fixed) / max(n_cells, 1), GAP))
    if figure is None:
        pyplot = import_optional_dependency("matplotlib.pyplot", extra="plot", purpose=owner)
        # The places are computed; a layout engine of the user's settings would move them.
        figure = pyplot.figure(figsize=sides, layout="none")
    width, height = sides
    grid = figure.add_gridspec(
        len(heights),
        len(widths),
        width_ratios=[cells[0] if size is None else size for size in widths],
        height_ratios=[cells[1] if size is None else size for size in heights],
        left=MARGIN / width,
        right=1 - MARGIN / width,
        bottom=MARGIN / height,
        top=1 - MARGIN / height,
        wspace=0,
        hspace=0,
    )
    return figure, grid, (cells[0], cells[1])


def image_box(
    ax: Axes, image: Any, name: object, caption: Sequence[object], cell_width: float, weight: str = "normal"
) -> None:
    """Draw an image into the middle of a square, whatever its shape, and its caption below.

    Parameters
    ----------
    ax : Axes
        The axes to draw into.
    image : str, path-like, bytes, PIL.Image.Image, ndarray or None
        The image. The square stays empty if there is none, or it cannot be read.
    name : object
        Text for an empty square.
    caption : sequence of object
        Lines below the square.
    cell_width : float, inches
        Width of the square, to which texts are shortened.
    weight : str, default="normal"
        Weight of the caption's font.
    """
    ax.set(xticks=[], yticks=[], facecolor=_GROUND)
    small = thumbnail(image)
    if small is None:
        ax.set_box_aspect(1)
        text = shorten(name, max(n_characters(cell_width) - 2, 4))
        ax.text(
            0.5,
            0.5,
            text,
            transform=ax.transAxes,
            ha="center",
            va="center",
            fontsize=FONT_SIZE,
            color=_ON_GROUND,
            parse_math=False,
        )
    else:
        height, width = small.shape[:2]
        side = max(height, width)
        left, top = (side - width) / 2, (side - height) / 2
        ax.imshow(small, extent=(left, left + width, top + height, top), origin="upper", interpolation="antialiased")
        ax.set(xlim=(0, side), ylim=(side, 0), aspect="equal")
    write_caption(ax, caption, cell_width, weight)


def write_caption(ax: Axes, lines: Sequence[object], cell_width: float, weight: str = "normal") -> None:
    """Write lines below the axes, each shortened to the width of a cell."""
    # As they are: a dollar sign in a name begins no formula.
    text = "\n".join(shorten(line, n_characters(cell_width)) for line in lines)
    ax.set_xlabel(text, fontsize=FONT_SIZE, labelpad=3, parse_math=False, linespacing=1.25, weight=weight)


def frame(ax: Axes, right: bool | None) -> None:
    """Frame axes as right, wrong or neither: by colour, and by width for readers who do not see the colours."""
    color = {None: _QUIET, True: RIGHT, False: WRONG}[right]
    for side in ax.spines.values():
        side.set(color=color, linewidth={None: 0.8, True: 2.5, False: 1.5}[right])


def n_characters(width: float) -> int:
    """Give the number of characters that fit into a width in inches, but at least four."""
    return max(int(width / _CHARACTER), 4)  # a shorter name could not be told from another


def shorten(text: object, n_most: int) -> str:
    """Cut the middle out of a text longer than `n_most` characters: names differ at their ends."""
    text = " ".join(str(text).split())
    if len(text) <= n_most:
        return text
    n_end = n_most // 2
    return f"{text[: n_most - n_end - 1]}…{text[len(text) - n_end :]}"
