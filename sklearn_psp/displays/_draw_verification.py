"""Drawing error rates of pairs with matplotlib."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = ["draw_det", "draw_histogram", "draw_roc", "percent"]

_GENUINE, _IMPOSTOR = "#13713f", "#b3261e"  # as right and wrong results are framed
_THRESHOLD = "#1f1f1f"
# What a DET curve is labelled with: steps of about the same width by normal deviates.
_TICKS = np.array([1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99])
_HALF, _NEARLY_ALL = 0.5, 0.99  # upper ends of the axes of a DET curve, for useful scores and for others


def percent(rate):
    """Write a rate with three digits that count."""
    return np.format_float_positional(float(f"{100 * rate:.3g}"), trim="-") + "%"


def draw_roc(ax, far, frr, smallest, mark, drawing):
    """Draw the true acceptance rate over the false acceptance rate.

    Parameters
    ----------
    ax : Axes
        What to draw into.
    far, frr : ndarray of shape (n_thresholds,)
        Rates by rising threshold.
    smallest : float or None
        Where a logarithmic axis begins; None draws a linear one.
    mark : tuple of (threshold, far, frr) or None
        The threshold to mark.
    drawing : dict
        Arguments for the line.

    Returns
    -------
    Line2D
        The curve.
    """
    before = ax.get_xlim() if ax.has_data() else None
    far, frr = _corners(far, frr)
    if smallest is not None:
        ax.set_xscale("log")
        far = np.maximum(far, smallest)
    # A FAR between two points allows what the lower one allows: the step comes after the line.
    (line,) = ax.plot(far[::-1], 1 - frr[::-1], drawstyle="steps-post", **drawing)
    start = -0.01 if smallest is None else smallest
    ax.set_xlim(start if before is None else min(start, before[0]), 1.01 if smallest is None else 1)
    ax.set_ylim(-0.01, 1.01)
    if mark is not None:
        _draw_mark(ax, line, mark, max(mark[1], smallest or 0), 1 - mark[2])
    ax.set(xlabel="False acceptance rate (FAR)", ylabel="True acceptance rate (TAR)")
    ax.legend(loc="lower right")
    return line


def draw_det(ax, far, frr, smallest, mark, drawing):
    """Draw the false rejection rate over the false acceptance rate by normal deviates.

    Parameters
    ----------
    ax : Axes
        What to draw into; its coordinates are rates.
    far, frr : ndarray of shape (n_thresholds,)
        Rates by rising threshold.
    smallest : tuple of float
        Where the axes of FAR and of FRR begin.
    mark : tuple of (threshold, far, frr) or None
        The threshold to mark.
    drawing : dict
        Arguments for the line.

    Returns
    -------
    Line2D
        The curve.
    """
    before = (ax.get_xlim(), ax.get_ylim()) if ax.has_data() else None
    # More than half of the pairs is of no interest, except where the curve hardly comes below that.
    end = _HALF if np.max(np.minimum(far, frr)) < 0.8 * _HALF else _NEARLY_ALL
    corners = _corners(far, frr)
    inside = [np.clip(rates, low, 1 - low) for rates, low in zip(corners, smallest, strict=True)]
    ax.set_xscale("function", functions=(_deviates, ndtr))
    ax.set_yscale("function", functions=(_deviates, ndtr))
    (line,) = ax.plot(inside[0][::-1], inside[1][::-1], drawstyle="steps-post", **drawing)
    for i, (axis, low) in enumerate(zip((ax.xaxis, ax.yaxis), smallest, strict=True)):
        low = min(low, 0.1)
        limits = (low, end) if before is None else (min(low, before[i][0]), max(end, before[i][1]))
        axis.axes.set(**{"xlim" if i == 0 else "ylim": limits})
        ticks = _TICKS[(limits[0] <= _TICKS) & (limits[1] >= _TICKS)]
        axis.set_ticks(ticks, [percent(tick) for tick in ticks])
    if mark is not None:
        _draw_mark(ax, line, mark, *(np.clip(rate, low, 1 - low) for rate, low in zip(mark[1:], smallest, strict=True)))
    ax.set(xlabel="False acceptance rate (FAR)", ylabel="False rejection rate (FRR)")
    ax.grid(True, color="0.9")
    ax.set_axisbelow(True)
    ax.legend(loc="best")
    return line


def draw_histogram(ax, genuine, impostor, mark, name, bins, **drawing):
    """Draw how the scores of genuine and of impostor pairs are distributed.

    Parameters
    ----------
    ax : Axes
        What to draw into.
    genuine, impostor : ndarray
        Their scores.
    mark : tuple of (threshold, far, frr) or None
        The threshold to mark.
    name : str or None
        What the scores are called.
    bins : int
        Number of bins.
    **drawing : dict
        Arguments for both histograms.
    """
    both = np.concatenate([genuine, impostor]).astype(np.float64)
    edges = np.histogram_bin_edges(both, bins)
    highest = ax.get_ylim()[1] if ax.has_data() else 0
    densities = []
    for scores, kind, color in ((genuine, "genuine", _GENUINE), (impostor, "impostor", _IMPOSTOR)):
        # There are mostly far more impostor pairs; counts would hide the others.
        density, _ = np.histogram(scores, edges, density=True)
        densities.append(density.max())
        label = f"{kind} ({len(scores):,} pairs)"
        ax.stairs(density, edges, **{"fill": True, "alpha": 0.5, "color": color, "label": label, **drawing})
    if mark is not None:
        ax.axvline(mark[0], color=_THRESHOLD, linestyle="--", linewidth=1.2, label=_describe(mark))
    ax.set(xlabel="Score" if name is None else f"Score ({name})", ylabel="Density")
    ax.set_ylim(0, max(highest, 1.35 * max(densities)))  # room for the legend above
    ax.legend(loc="upper left")


def _corners(far, frr):
    """Leave out the points within a straight step: of millions of impostor pairs few points are corners."""
    keep = np.ones(len(far), dtype=bool)
    for rates in (far, frr):
        still = np.diff(rates) == 0
        keep[1:-1] &= ~(still[:-1] & still[1:])
    return far[keep], frr[keep]


def _draw_mark(ax, line, mark, x, y):
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    ax.plot(
        [x],
        [y],
        marker="o",
        markersize=7,
        linestyle="none",
        color=line.get_color(),
        label=_describe(mark),
        # Whole on the border of the axes, but not beyond it.
        clip_on=not (left <= x <= right and bottom <= y <= top),
    )
    ax.set(xlim=(left, right), ylim=(bottom, top))


def _describe(mark):
    threshold, far, frr = mark
    return f"threshold {threshold:.3g}: FAR {percent(far)}, FRR {percent(frr)}"


def _deviates(rates):
    """Normal deviates; what is outside of (0, 1), such as margins, is put on its border."""
    return ndtri(np.clip(rates, 1e-9, 1 - 1e-9))
