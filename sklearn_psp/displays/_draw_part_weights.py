"""The drawing of PartWeightsDisplay: cells in the colours of their weights over an image in grey, with a colour bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sklearn_psp.displays._draw import GAP, exact_grid
from sklearn_psp.utils._libraries import import_optional_dependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure

__all__ = ["draw_weights", "weight_limits"]

_LINE, _LINE_AROUND = "#1f2328", "white"
_DARK, _LIGHT = "#000000", "#ffffff"
# Points. A character of the usual sans-serif is about 0.6 as wide as its font is high, a digit a little more.
_TITLE_SIZE, _NUMBER_SIZE, _LEAST_NUMBER_SIZE, _DIGIT = 9, 9, 6, 0.64
# Inches: above panels, the colour bar and its numbers, and the width that a title needs.
_TITLE, _BAR, _BAR_TEXT, _LEAST_COLUMN = 0.3, 0.13, 0.62, 1.0
_MOST_COLUMNS = 4
# Share of the cell's colour; the rest is the image, in grey, for its own colours would be taken for weights.
_OPACITY = 0.62
_DARKEST = 0.3  # grey of black below cells, which else would look unlike their colours in the bar
# Weights that differ from 1 by less are all pale, rather than noise in full colours.
_LEAST_SPREAD = 0.1
# Relative luminance of a ground on which black and white have the same contrast, 4.6 to 1.
_EQUAL_CONTRAST = 0.18


def weight_limits(part_weights: np.ndarray) -> tuple[float, float]:
    """Give limits of a colour scale with 1 in its middle, wide enough for all weights.

    They are as far below 1 as above, but never below 0: where a weight is above 2, both halves are linear, and that
    below 1 is the finer one.

    Parameters
    ----------
    part_weights : ndarray of shape (n_parts,)
        The weights.

    Returns
    -------
    low, high : float
        The limits.
    """
    spread = max(float(np.abs(part_weights - 1).max()), _LEAST_SPREAD)
    return max(1 - spread, 0.0), 1 + spread


def draw_weights(
    parts: pd.DataFrame,
    part_weights: np.ndarray,
    image: np.ndarray | None,
    image_size: tuple[int, int],
    *,
    figure: Figure | SubFigure | None,
    axes: np.ndarray | None,
    cell_size: float,
    cmap: str | Colormap,
    include_values: bool,
    values_format: str,
    colorbar: bool,
) -> tuple[Figure | SubFigure, np.ndarray]:
    """Draw one panel for each level, all with one colour scale.

    Parameters
    ----------
    parts : DataFrame of shape (n_parts, n_columns)
        With `level`, `n_rows`, `n_columns`, and the boxes `top`, `bottom`, `left`, `right` as shares of the image.
    part_weights : ndarray of shape (n_parts,)
        The weights.
    image : ndarray of shape (height, width, 3), uint8, RGB, or None
        The image below the cells.
    image_size : tuple of two numbers
        (height, width) of the panels, in any unit.
    figure : Figure, SubFigure or None
        The figure to draw into, if there are no axes; None makes a new one.
    axes : ndarray of shape (n_levels,), object, or None
        The axes to draw into.
    cell_size : float, inches
        Side of a panel in a new figure; of a square of the same area, if the image is none.
    cmap : str or Colormap
        The colours.
    include_values : bool
        Whether to write the weights where there is room.
    values_format : str
        The format of the weights.
    colorbar : bool
        Whether to draw the colour bar.

    Returns
    -------
    figure : Figure or SubFigure
        The figure that was drawn into.
    axes : ndarray of shape (n_levels,), object
        The axes of the levels.
    """
    collections = import_optional_dependency("matplotlib.collections", extra="plot", purpose="PartWeightsDisplay")
    colors = import_optional_dependency("matplotlib.colors", extra="plot", purpose="PartWeightsDisplay")
    levels = list(parts.groupby("level", sort=False).indices.items())
    bar_axes = None
    if axes is None:
        figure, axes, bar_axes = _place(len(levels), image_size, figure, cell_size, colorbar)
    else:
        figure = axes[0].figure
    low, high = weight_limits(part_weights)
    norm = colors.TwoSlopeNorm(1, low, high)
    below = None if image is None else _grey(image)
    for ax, (level, rows) in zip(axes, levels, strict=True):
        first = parts.iloc[rows[0]]
        ax.set_title(f"level {level}: {first['n_rows']:.0f} × {first['n_columns']:.0f}", fontsize=_TITLE_SIZE, pad=5)
        ax.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0), aspect=image_size[0] / image_size[1])
        if below is not None:
            ax.imshow(below, extent=(0, 1, 1, 0), aspect=ax.get_aspect(), cmap="gray", vmin=0, vmax=1)
        boxes = parts.iloc[rows][["left", "right", "top", "bottom"]].to_numpy(dtype=float)
        cells = collections.PolyCollection(
            [[(left, top), (right, top), (right, bottom), (left, bottom)] for left, right, top, bottom in boxes],
            array=part_weights[rows],
            cmap=cmap,
            norm=norm,
            alpha=1 if below is None else _OPACITY,
            linewidths=0,
        )
        ax.add_collection(cells, autolim=False)
        _draw_lines(ax, boxes, collections)
    if colorbar:
        bar = figure.colorbar(cells, cax=bar_axes, ax=None if bar_axes is not None else axes.tolist())
        _finish_bar(bar, norm)
    if include_values:
        for ax, (_, rows) in zip(axes, levels, strict=True):
            boxes = parts.iloc[rows][["left", "right", "top", "bottom"]].to_numpy(dtype=float)
            _write(ax, boxes, part_weights[rows], below, norm, values_format)
    return figure, axes


def _place(
    n_levels: int, image_size: tuple[int, int], figure: Figure | SubFigure | None, cell_size: float, colorbar: bool
) -> tuple[Figure | SubFigure, np.ndarray, Axes | None]:
    """Make axes of exact sizes: panels in rows of at most four, and the colour bar beside them."""
    n_rows = math.ceil(n_levels / _MOST_COLUMNS)
    n_columns = math.ceil(n_levels / n_rows)
    aspect = math.sqrt(image_size[0] / image_size[1])
    panel = max(cell_size / aspect, _LEAST_COLUMN), cell_size * aspect
    widths = [None, *(size for _ in range(n_columns - 1) for size in (GAP, None))]
    beside = [GAP, _BAR, _BAR_TEXT] if colorbar else []
    figure, grid, _ = exact_grid(figure, [*widths, *beside], [_TITLE, None] * n_rows, panel, owner="PartWeightsDisplay")
    axes = np.empty(n_levels, dtype=object)
    for i in range(n_levels):
        axes[i] = figure.add_subplot(grid[2 * (i // n_columns) + 1, 2 * (i % n_columns)])
    return figure, axes, figure.add_subplot(grid[1:, -2]) if colorbar else None


def _grey(image: np.ndarray) -> np.ndarray:
    """Luminance of an image, between `_DARKEST` and 1."""
    return _DARKEST + (1 - _DARKEST) * (image @ np.array([0.299, 0.587, 0.114])) / 255


def _draw_lines(ax: Axes, boxes: np.ndarray, collections: Any) -> None:
    """Draw the grid, each line once: dark with a light edge, to be seen on any image."""
    lines = set()
    for left, right, top, bottom in boxes.tolist():
        lines |= {((left, top), (right, top)), ((left, bottom), (right, bottom))}
        lines |= {((left, top), (left, bottom)), ((right, top), (right, bottom))}
    for color, width in ((_LINE_AROUND, 2.0), (_LINE, 0.8)):
        ax.add_collection(collections.LineCollection(sorted(lines), colors=color, linewidths=width), autolim=False)


def _finish_bar(bar: Colorbar, norm: Any) -> None:
    """Mark the middle of the colour bar, the weight 1, and label it."""
    ticks = [tick for tick in bar.get_ticks() if norm.vmin <= tick <= norm.vmax and abs(norm(tick) - 0.5) > 0.07]
    ticks = sorted([*ticks, 1.0])
    bar.set_ticks(ticks, labels=[f"{tick:.4g}" for tick in ticks])
    bar.ax.axhline(1, color=_LINE, linewidth=1)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("weight (1 = uniform)", fontsize=8)


def _write(
    ax: Axes, boxes: np.ndarray, part_weights: np.ndarray, below: np.ndarray | None, norm: Any, values_format: str
) -> None:
    """Write the weights into the cells, in one size, if they fit."""
    effects = import_optional_dependency("matplotlib.patheffects", extra="plot", purpose="PartWeightsDisplay")
    texts = [format(weight, values_format) for weight in part_weights.tolist()]
    ax.apply_aspect()
    panel = ax.get_window_extent()
    points = 72 / ax.figure.dpi
    width = 0.85 * (boxes[:, 1] - boxes[:, 0]).min() * panel.width * points
    height = 0.7 * (boxes[:, 3] - boxes[:, 2]).min() * panel.height * points
    size = min(_NUMBER_SIZE, width / (_DIGIT * max(map(len, texts))), height)
    if size < _LEAST_NUMBER_SIZE:
        return
    cells = ax.collections[0]
    fills = cells.get_cmap()(norm(part_weights))[:, :3]
    for text, box, fill in zip(texts, boxes, fills, strict=True):
        left, right, top, bottom = box
        ground = fill if below is None else _OPACITY * fill + (1 - _OPACITY) * _mean_below(below, box)
        color, edge = (_DARK, _LIGHT) if _luminance(ground) > _EQUAL_CONTRAST else (_LIGHT, _DARK)
        label = ax.text((left + right) / 2, (top + bottom) / 2, text, ha="center", va="center", parse_math=False)
        label.set(color=color, fontsize=size, fontweight="bold" if size > 7 else "normal")
        if below is not None:
            # Below the number the image may be as dark, or as light, as the number is.
            label.set_path_effects([effects.withStroke(linewidth=1.6, foreground=edge, alpha=0.6)])


def _mean_below(below: np.ndarray, box: np.ndarray) -> float:
    """Mean grey of the image in the middle of a box, where the number stands."""
    left, right, top, bottom = box
    height, width = below.shape
    rows = slice(int((0.7 * top + 0.3 * bottom) * height), math.ceil((0.3 * top + 0.7 * bottom) * height))
    columns = slice(int((0.9 * left + 0.1 * right) * width), math.ceil((0.1 * left + 0.9 * right) * width))
    return float(below[rows, columns].mean())


def _luminance(color: np.ndarray) -> float:
    """Relative luminance of sRGB, as the Web Content Accessibility Guidelines define it."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))
