"""Drawing queries beside their results with matplotlib."""

from __future__ import annotations

import numpy as np

from sklearn_psp._images import thumbnail
from sklearn_psp.utils._optional import import_optional_dependency

__all__ = ["draw_queries", "shorten"]

_RIGHT, _WRONG = "#13713f", "#b3261e"
_QUIET = "#c9c9c4"  # frame of a result that is neither right nor wrong
_GROUND = "#f0f0ed"  # beside images that are no squares
_ON_GROUND = "#63676c"
_FONT_SIZE = 8  # points
# A character of the usual sans-serif is about half as wide as its font is high.
_CHARACTER = 0.56 * _FONT_SIZE / 72  # inches
# Inches: between images, below them, around all, and what sets the query apart.
_GAP, _CAPTION, _MARGIN, _APART = 0.1, 0.44, 0.12, 0.22
# Marks are drawn, not written: few fonts have them.
_TICK = [(-1.0, 0.05), (-0.3, -0.65), (1.0, 0.75)]


def draw_queries(queries, figure, cell_size):
    """Draw one row of axes for each query.

    Parameters
    ----------
    queries : sequence of ShownQuery
        What to draw.
    figure : Figure, SubFigure or None
        What to draw into; None makes a new figure.
    cell_size : float, inches
        Side of an image's box in a new figure.

    Returns
    -------
    figure : Figure or SubFigure
        What was drawn into.
    axes : ndarray of shape (n_queries, 1 + n_results), object
        The axes; those without an image are invisible.
    """
    n_rows, n_columns = len(queries), 1 + max((len(query.results) for query in queries), default=0)
    gaps = [_APART, *[_GAP] * (n_columns - 2)][: n_columns - 1]
    if figure is None:
        pyplot = import_optional_dependency("matplotlib.pyplot", extra="plot", purpose="RetrievalDisplay")
        width = n_columns * cell_size + sum(gaps) + 2 * _MARGIN
        height = max(n_rows, 1) * (cell_size + _CAPTION) + 2 * _MARGIN
        # The places are computed; a layout engine of the user's settings would move them.
        figure = pyplot.figure(figsize=(width, height), layout="none")
    else:
        width, height = figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi
    axes = np.empty((n_rows, n_columns), dtype=object)
    if not n_rows:
        return figure, axes
    cell_width = max((width - sum(gaps) - 2 * _MARGIN) / n_columns, _GAP)
    cell_height = max((height - 2 * _MARGIN) / n_rows - _CAPTION, _GAP)
    # Every second column and row is a gap, so that all sizes are exact.
    grid = figure.add_gridspec(
        2 * n_rows,
        2 * n_columns - 1,
        width_ratios=[cell_width, *(size for gap in gaps for size in (gap, cell_width))],
        height_ratios=[cell_height, _CAPTION] * n_rows,
        left=_MARGIN / width,
        right=1 - _MARGIN / width,
        bottom=_MARGIN / height,
        top=1 - _MARGIN / height,
        wspace=0,
        hspace=0,
    )
    n_characters = max(int(cell_width / _CHARACTER), 4)
    for i, query in enumerate(queries):
        for j in range(n_columns):
            axes[i, j] = figure.add_subplot(grid[2 * i, 2 * j])
        _draw_query(axes[i, 0], query, n_characters)
        for j, ax in enumerate(axes[i, 1:]):
            if j < len(query.results):
                _draw_result(ax, query.results[j], n_characters)
            else:
                ax.set_visible(False)
    return figure, axes


def shorten(text, n_characters):
    """Cut the middle out of a text: names differ at their ends."""
    text = " ".join(str(text).split())
    if len(text) <= n_characters:
        return text
    n_end = n_characters // 2
    return f"{text[: n_characters - n_end - 1]}…{text[len(text) - n_end :]}"


def _draw_query(ax, query, n_characters):
    lines = [query.caption]
    if query.label is not None and str(query.label) != query.caption:
        lines.append(query.label)
    _draw_box(ax, query.image, query.caption, lines, n_characters, weight="bold")
    for side in ax.spines.values():
        side.set_linewidth(2.5)


def _draw_result(ax, result, n_characters):
    lines = [f"{result.distance:.3f}", result.id if result.label is None else result.label]
    _draw_box(ax, result.image, result.id, lines, n_characters)
    color = {None: _QUIET, True: _RIGHT, False: _WRONG}[result.right]
    for side in ax.spines.values():
        side.set(color=color, linewidth={None: 0.8, True: 2.5, False: 1.5}[result.right])
    if result.right is None:
        return
    place = {"transform": ax.transAxes, "zorder": 5, "linestyle": "none"}
    ax.plot(0.89, 0.89, marker="o", markersize=12, color=color, markeredgecolor="white", markeredgewidth=0.8, **place)
    mark = {"marker": _TICK, "markersize": 6.5} if result.right else {"marker": "x", "markersize": 5.5}
    white = {"markeredgecolor": "white", "markerfacecolor": "none", "markeredgewidth": 1.7}
    ax.plot(0.89, 0.89, label="right" if result.right else "wrong", **mark, **white, **place)


def _draw_box(ax, image, name, lines, n_characters, **font):
    """Draw an image into the middle of a square, whatever its shape, and its caption below."""
    ax.set(xticks=[], yticks=[], facecolor=_GROUND)
    image = thumbnail(image)
    if image is None:
        ax.set_box_aspect(1)
        style = {"ha": "center", "va": "center", "fontsize": _FONT_SIZE, "color": _ON_GROUND, "parse_math": False}
        ax.text(0.5, 0.5, shorten(name, max(n_characters - 2, 4)), transform=ax.transAxes, **style)
    else:
        height, width = image.shape[:2]
        side = max(height, width)
        left, top = (side - width) / 2, (side - height) / 2
        ax.imshow(image, extent=(left, left + width, top + height, top), origin="upper", interpolation="antialiased")
        ax.set(xlim=(0, side), ylim=(side, 0), aspect="equal")
    # As it is: a dollar sign in a name begins no formula.
    caption = "\n".join(shorten(line, n_characters) for line in lines)
    ax.set_xlabel(caption, fontsize=_FONT_SIZE, labelpad=3, parse_math=False, linespacing=1.25, **font)
