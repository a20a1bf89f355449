"""VerificationDisplay: how well scores tell pairs of the same person from pairs of two people."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from sklearn_psp.displays._draw_verification import draw_det, draw_histogram, draw_roc, percent
from sklearn_psp.metrics import equal_error_rate, error_rates, far_frr, threshold_at
from sklearn_psp.utils._compat import Interval, StrOptions, validate_params
from sklearn_psp.utils._flags import check_pairs
from sklearn_psp.utils._optional import import_optional_dependency
from sklearn_psp.utils._pipeline import split_search

__all__ = ["VerificationDisplay"]

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
        How alike the two of a pair are; higher is more alike. For distances pass `-distances`.
    threshold : float or None, default=None
        The threshold to mark; a pair is accepted if its score is at or above it. None marks none.
    name : str or None, default=None
        What the scores are called in the legend.

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
        What was drawn into. Only once drawn.
    figure_ : matplotlib.figure.Figure
        What holds the axes. Only once drawn.
    line_ : matplotlib.lines.Line2D or None
        The curve; None for histograms. Only once drawn.

    See Also
    --------
    sklearn_psp.metrics.error_rates : The rates that are drawn.
    sklearn.metrics.DetCurveDisplay : The DET curve of any binary classifier.

    Notes
    -----
    Curves are steps: they pass through the rates that thresholds reach, and connect them by the worse of both. They
    end where the number of pairs does, at half of one false decision.

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

    def __init__(self, y_true, scores, *, threshold=None, name=None):
        same, scores, _ = check_pairs(y_true, scores)
        self.y_true, self.scores, self.threshold, self.name = same, scores, threshold, name
        self.far, self.frr, self.thresholds = error_rates(same, scores)
        self.equal_error_rate = equal_error_rate(same, scores)

    @validate_params(_DRAWING, prefer_skip_nested_validation=True)
    def plot(self, ax=None, *, kind="roc", name=None, log_far=True, bins=50, **kwargs):
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
            What the scores are called in the legend. None takes the `name` of the display.
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
            mark = (self.threshold, *far_frr(self.y_true, self.scores, self.threshold))
        if kind == "histogram":
            draw_histogram(ax, self.scores[self.y_true], self.scores[~self.y_true], mark, name, bins, **kwargs)
            self.line_ = None
        else:
            n_genuine = int(self.y_true.sum())
            # A curve cannot go to 0 on these axes: no pair stands below half of one.
            smallest = 0.5 / (len(self.y_true) - n_genuine), 0.5 / n_genuine
            eer = f"EER {percent(self.equal_error_rate)}"
            drawing = {"label": eer if name is None else f"{name} ({eer})", **kwargs}
            if kind == "det":
                self.line_ = draw_det(ax, self.far, self.frr, smallest, mark, drawing)
            else:
                self.line_ = draw_roc(ax, self.far, self.frr, smallest[0] if log_far else None, mark, drawing)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls, estimator, pairs, y, *, kind="roc", threshold="fitted", name=None, ax=None, log_far=True, bins=50, **kwargs
    ):
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
            What to draw, as for `plot`.
        threshold : "fitted", float, "accuracy", "eer", tuple ("far", rate) or None, default="fitted"
            The threshold to mark: that of the estimator, or as for `from_predictions`.
        name : str or None, default=None
            What the scores are called in the legend; None: the name of the estimator's class.
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
        cls, y_true, scores, *, kind="roc", threshold=None, name=None, ax=None, log_far=True, bins=50, **kwargs
    ):
        """Draw scores of pairs.

        Parameters
        ----------
        y_true : array-like of shape (n_pairs,), bool or 0 and 1
            1 for a genuine pair (the same person), 0 for an impostor pair.
        scores : array-like of shape (n_pairs,), float
            How alike the two of a pair are; higher is more alike. For distances pass `-distances`.
        kind : {"roc", "det", "histogram"}, default="roc"
            What to draw, as for `plot`.
        threshold : float, "accuracy", "eer", tuple ("far", rate) or None, default=None
            The threshold to mark with its rates, or the target it is to reach on these pairs, as for
            `sklearn_psp.metrics.threshold_at`. None marks none.
        name : str or None, default=None
            What the scores are called in the legend.
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
        if threshold is not None and not isinstance(threshold, Real):
            threshold = threshold_at(y_true, scores, threshold)
        display = cls(y_true, scores, threshold=threshold, name=name)
        return display.plot(ax, kind=kind, log_far=log_far, bins=bins, **kwargs)
