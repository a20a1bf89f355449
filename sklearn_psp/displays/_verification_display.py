"""VerificationDisplay: the scores of genuine and impostor pairs as a ROC curve, a DET curve or histograms."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from sklearn_psp.displays._draw import RIGHT, WRONG
from sklearn_psp.metrics import equal_error_rate, error_rates, far_frr, threshold_at
from sklearn_psp.utils._compat import Interval, StrOptions, validate_params
from sklearn_psp.utils._flags import check_pairs
from sklearn_psp.utils._libraries import import_optional_dependency
from sklearn_psp.utils._pipeline import split_search

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

__all__ = ["VerificationDisplay"]

_GENUINE, _IMPOSTOR = RIGHT, WRONG  # in the colours of right and wrong results
_THRESHOLD = "#1f1f1f"
# Labels of a DET curve: steps of about the same width by normal deviates.
_TICKS = np.array([1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99])
_HALF, _NEARLY_ALL = 0.5, 0.99  # upper ends of the axes of a DET curve, for useful scores and for others


class _Mark(NamedTuple):
    """The threshold to mark, with its rates."""

    threshold: float
    far: float
    frr: float

    def __str__(self) -> str:
        return f"threshold {self.threshold:.3g}: FAR {percent(self.far)}, FRR {percent(self.frr)}"


_DRAWING = {
    "kind": [StrOptions({"roc", "det", "histogram"})],
    "name": [str, None],
    "log_far": ["boolean"],
    "bins": [Interval(Integral, 1, None, closed="left")],
}


class VerificationDisplay:
    """Scores of pairs as a ROC curve, a DET curve or histograms.

    It is recommended to make one with `from_estimator` or `from_predictions`, which also draw it.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        Similarity of the two of each pair; higher is more alike. For distances pass `-distances`.
    threshold : float or None, default=None
        The threshold to mark; a pair is accepted if its score is at or above it. None marks none.
    name : str or None, default=None
        Name of the scores in the legend.

    Attributes
    ----------
    far : ndarray of shape (n_thresholds,), float64
        False acceptance rates, as of `error_rates`.
    frr : ndarray of shape (n_thresholds,), float64
        False rejection rates.
    thresholds : ndarray of shape (n_thresholds,), floating
        Their thresholds.
    equal_error_rate : float
        Where both rates are equal.
    ax_ : matplotlib.axes.Axes
        The axes that hold the drawing. Only once drawn.
    figure_ : matplotlib.figure.Figure
        The figure of the axes. Only once drawn.
    line_ : matplotlib.lines.Line2D or None
        The curve; None for histograms. Only once drawn.

    See Also
    --------
    sklearn_psp.metrics.error_rates : The rates that are drawn.
    sklearn.metrics.RocCurveDisplay : The ROC curve of any binary classifier.
    sklearn.metrics.DetCurveDisplay : The DET curve of any binary classifier.

    Notes
    -----
    Curves are steps: they pass through the rates that thresholds reach, and connect them by the worse of both. They
    end where the number of pairs does, at half of one false decision. Unlike those of scikit-learn, all axes are in
    rates, on a logarithmic scale or one of normal deviates, so that anything else can be drawn into them.

    Examples
    --------
    >>> from sklearn_psp.displays import VerificationDisplay
    >>> y_true, scores = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.8, 0.9]
    >>> display = VerificationDisplay.from_predictions(y_true, scores, kind="det", threshold="eer", name="cosine")
    >>> round(display.equal_error_rate, 3), round(display.threshold, 3)
    (0.333, 0.55)
    >>> display.line_.get_label()
    'cosine (EER 33.3%)'
    """

    ax_: Axes
    figure_: Figure | SubFigure
    line_: Line2D | None

    def __init__(
        self,
        y_true: npt.ArrayLike,
        scores: npt.ArrayLike,
        *,
        threshold: float | None = None,
        name: str | None = None,
    ):
        same, scores, _ = check_pairs(y_true, scores)
        self.y_true, self.scores, self.threshold, self.name = same, scores, threshold, name
        self.far, self.frr, self.thresholds = error_rates(same, scores)
        self.equal_error_rate = equal_error_rate(same, scores)

    @validate_params(_DRAWING, prefer_skip_nested_validation=True)
    def plot(
        self,
        ax: Axes | None = None,
        *,
        kind: str = "roc",
        name: str | None = None,
        log_far: bool = True,
        bins: int = 50,
        **kwargs: Any,
    ) -> VerificationDisplay:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            The axes to draw into; several curves of one kind fit into the same. None makes a new figure.
        kind : {"roc", "det", "histogram"}, default="roc"
            "roc" draws the true acceptance rate over the false acceptance rate. "det" draws the false rejection rate
            over the false acceptance rate, both axes by normal deviates, where scores with a normal distribution are a
            straight line. "histogram" draws the densities of the scores of genuine and of impostor pairs.
        name : str or None, default=None
            Name of the scores in the legend. None takes the `name` of the display.
        log_far : bool, default=True
            Whether the axis of the false acceptance rate is logarithmic; for "roc" only.
        bins : int, default=50
            Number of bins, from the lowest to the highest score; for "histogram" only.
        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot` for a curve, to `matplotlib.axes.Axes.stairs` for histograms.

        Returns
        -------
        self : VerificationDisplay
            With `ax_`, `figure_` and `line_`.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        if ax is None:
            pyplot = import_optional_dependency("matplotlib.pyplot", extra="plot", purpose="VerificationDisplay")
            _, ax = pyplot.subplots(layout="constrained")
        name = self.name if name is None else name
        mark = None
        if self.threshold is not None:
            mark = _Mark(self.threshold, *far_frr(self.y_true, self.scores, self.threshold))
        if kind == "histogram":
            _draw_histogram(ax, self.scores[self.y_true], self.scores[~self.y_true], mark, name, bins, kwargs)
            self.line_ = None
        else:
            n_genuine = int(self.y_true.sum())
            # A curve cannot go to 0 on these axes: no pair stands below half of one.
            smallest = 0.5 / (len(self.y_true) - n_genuine), 0.5 / n_genuine
            eer = f"EER {percent(self.equal_error_rate)}"
            drawing = {"label": eer if name is None else f"{name} ({eer})", **kwargs}
            if kind == "det":
                self.line_ = _draw_det(ax, self.far, self.frr, smallest, mark, drawing)
            else:
                self.line_ = _draw_roc(ax, self.far, self.frr, smallest[0] if log_far else None, mark, drawing)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        pairs: Any,
        y: npt.ArrayLike,
        *,
        kind: str = "roc",
        threshold: str | float | tuple[str, float] | None = "fitted",
        name: str | None = None,
        ax: Axes | None = None,
        log_far: bool = True,
        bins: int = 50,
        **kwargs: Any,
    ) -> VerificationDisplay:
        """Compare pairs and draw their scores.

        Parameters
        ----------
        estimator : FaceVerifier
            Fitted; or a fitted search over one, such as `GridSearchCV`.
        pairs : list of pairs, array of shape (n_pairs, 2, ...), or DataFrame with two columns
            Pairs, as the estimator takes them. Those that cannot be compared are left out.
        y : array-like of shape (n_pairs,), bool or 0 and 1
            1 for a genuine pair (the same person), 0 for an impostor pair.
        kind : {"roc", "det", "histogram"}, default="roc"
            The kind of drawing, as for `plot`.
        threshold : "fitted", float, "accuracy", "eer", tuple ("far", rate) or None, default="fitted"
            The threshold to mark: that of the estimator, or as for `from_predictions`.
        name : str or None, default=None
            Name of the scores in the legend; None: the name of the estimator's class.
        ax : matplotlib.axes.Axes or None, default=None
            The axes to draw into. None makes a new figure.
        log_far : bool, default=True
            Whether the axis of the false acceptance rate is logarithmic; for "roc" only.
        bins : int, default=50
            Number of bins; for "histogram" only.
        **kwargs : dict
            Passed on to matplotlib, as for `plot`.

        Returns
        -------
        display : VerificationDisplay
            The display, drawn.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ValueError
            As for `from_predictions`.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_psp import FaceVerifier
        >>> from sklearn_psp.displays import VerificationDisplay
        >>> pairs = np.array([[[1.0, 0.1], [1.0, 0.0]], [[0.0, 1.0], [0.1, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
        >>> verifier = FaceVerifier(featurizer=None, random_state=0).fit(pairs, [1, 1, 0])
        >>> display = VerificationDisplay.from_estimator(verifier, pairs, [1, 1, 0], kind="histogram")
        >>> display.threshold == verifier.threshold_
        True
        """
        verifier, pairs = split_search(estimator, pairs)
        scores = verifier.score_samples(pairs)
        kept = ~np.isnan(scores)
        return cls.from_predictions(
            np.asarray(y)[kept],
            scores[kept],
            kind=kind,
            threshold=verifier.threshold_ if isinstance(threshold, str) and threshold == "fitted" else threshold,
            name=type(verifier).__name__ if name is None else name,
            ax=ax,
            log_far=log_far,
            bins=bins,
            **kwargs,
        )

    @classmethod
    @validate_params(
        {**_DRAWING, "threshold": [Real, str, tuple, list, None]},
        prefer_skip_nested_validation=True,
    )
    def from_predictions(
        cls,
        y_true: npt.ArrayLike,
        scores: npt.ArrayLike,
        *,
        kind: str = "roc",
        threshold: str | float | tuple[str, float] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        log_far: bool = True,
        bins: int = 50,
        **kwargs: Any,
    ) -> VerificationDisplay:
        """Draw scores of pairs.

        Parameters
        ----------
        y_true : array-like of shape (n_pairs,), bool or 0 and 1
            1 for a genuine pair (the same person), 0 for an impostor pair.
        scores : array-like of shape (n_pairs,), float
            Similarity of the two of each pair; higher is more alike. For distances pass `-distances`.
        kind : {"roc", "det", "histogram"}, default="roc"
            The kind of drawing, as for `plot`.
        threshold : float, "accuracy", "eer", tuple ("far", rate) or None, default=None
            The threshold to mark with its rates, or the target it is to reach on these pairs, as for
            `sklearn_psp.metrics.threshold_at`. None marks none.
        name : str or None, default=None
            Name of the scores in the legend.
        ax : matplotlib.axes.Axes or None, default=None
            The axes to draw into. None makes a new figure.
        log_far : bool, default=True
            Whether the axis of the false acceptance rate is logarithmic; for "roc" only.
        bins : int, default=50
            Number of bins; for "histogram" only.
        **kwargs : dict
            Passed on to matplotlib, as for `plot`.

        Returns
        -------
        display : VerificationDisplay
            The display, drawn.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ValueError
            If there is no pair of one kind, the lengths differ, a score is not a finite number, or the target of the
            threshold is unknown.

        Warns
        -----
        FewPairsWarning
            If there are too few impostor pairs for the target of the threshold.

        Examples
        --------
        >>> from sklearn_psp.displays import VerificationDisplay
        >>> y_true, scores = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.8, 0.9]
        >>> display = VerificationDisplay.from_predictions(y_true, scores, kind="histogram", threshold=0.55)
        >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
        ['genuine (3 pairs)', 'impostor (3 pairs)', 'threshold 0.55: FAR 33.3%, FRR 33.3%']
        """
        if isinstance(threshold, str | tuple | list):
            threshold = threshold_at(y_true, scores, threshold)
        display = cls(y_true, scores, threshold=threshold, name=name)
        return display.plot(ax, kind=kind, log_far=log_far, bins=bins, **kwargs)


def percent(rate: float) -> str:
    """Write a rate as percents with three significant digits."""
    return np.format_float_positional(float(f"{100 * rate:.3g}"), trim="-") + "%"


def _draw_roc(
    ax: Axes, far: np.ndarray, frr: np.ndarray, smallest: float | None, mark: _Mark | None, drawing: dict[str, Any]
) -> Line2D:
    """Draw the true acceptance rate over the false acceptance rate.

    `smallest` is where a logarithmic axis begins; None draws a linear one.
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
        _draw_mark(ax, line, mark, max(mark.far, smallest or 0), 1 - mark.frr)
    ax.set(xlabel="False acceptance rate (FAR)", ylabel="True acceptance rate (TAR)")
    ax.legend(loc="lower right")
    return line


def _draw_det(
    ax: Axes,
    far: np.ndarray,
    frr: np.ndarray,
    smallest: tuple[float, float],
    mark: _Mark | None,
    drawing: dict[str, Any],
) -> Line2D:
    """Draw the false rejection rate over the false acceptance rate by normal deviates, from `smallest` of each on."""
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
        ax.set(**{"xlim" if i == 0 else "ylim": limits})
        ticks = _TICKS[(limits[0] <= _TICKS) & (limits[1] >= _TICKS)]
        axis.set_ticks(ticks, [percent(tick) for tick in ticks])
    if mark is not None:
        x, y = (np.clip(rate, low, 1 - low) for rate, low in zip((mark.far, mark.frr), smallest, strict=True))
        _draw_mark(ax, line, mark, x, y)
    ax.set(xlabel="False acceptance rate (FAR)", ylabel="False rejection rate (FRR)")
    ax.grid(True, color="0.9")
    ax.set_axisbelow(True)
    ax.legend(loc="best")
    return line


def _draw_histogram(
    ax: Axes,
    genuine: np.ndarray,
    impostor: np.ndarray,
    mark: _Mark | None,
    name: str | None,
    bins: int,
    drawing: dict[str, Any],
) -> None:
    """Draw the densities of the scores of genuine and of impostor pairs over the same bins."""
    both = np.concatenate([genuine, impostor]).astype(np.float64)
    edges = np.histogram_bin_edges(both, bins)
    highest = ax.get_ylim()[1] if ax.has_data() else 0
    for scores, kind, color in ((genuine, "genuine", _GENUINE), (impostor, "impostor", _IMPOSTOR)):
        # There are mostly far more impostor pairs; counts would hide the others.
        density, _ = np.histogram(scores, edges, density=True)
        highest = max(highest, 1.35 * density.max())  # room for the legend above
        label = f"{kind} ({len(scores):,} pairs)"
        ax.stairs(density, edges, **{"fill": True, "alpha": 0.5, "color": color, "label": label, **drawing})
    if mark is not None:
        ax.axvline(mark.threshold, color=_THRESHOLD, linestyle="--", linewidth=1.2, label=str(mark))
    ax.set(xlabel="Score" if name is None else f"Score ({name})", ylabel="Density")
    ax.set_ylim(0, highest)
    ax.legend(loc="upper left")


def _draw_mark(ax: Axes, line: Line2D, mark: _Mark, x: float, y: float) -> None:
    """Mark the threshold on its curve."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    # Whole on the border of the axes, but not beyond it.
    clip = not (left <= x <= right and bottom <= y <= top)
    style: dict[str, Any] = {"marker": "o", "markersize": 7, "linestyle": "none", "color": line.get_color()}
    ax.plot([x], [y], label=str(mark), clip_on=clip, **style)
    ax.set(xlim=(left, right), ylim=(bottom, top))


def _corners(far: np.ndarray, frr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the points within a straight step: of millions of impostor pairs few points are corners."""
    keep = np.ones(len(far), dtype=bool)
    for rates in (far, frr):
        still = np.diff(rates) == 0
        keep[1:-1] &= ~(still[:-1] & still[1:])
    return far[keep], frr[keep]


def _deviates(rates: np.ndarray) -> np.ndarray:
    """Normal deviates; what is outside of (0, 1), such as margins, is put on its border."""
    return ndtri(np.clip(rates, 1e-9, 1 - 1e-9))
