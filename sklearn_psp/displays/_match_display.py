"""MatchDisplay: pairs of faces beside the decision on each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sklearn_psp._images import describe_source
from sklearn_psp.displays._draw import CAPTION, FONT_SIZE, GAP, RIGHT, WRONG, exact_grid, frame, image_box
from sklearn_psp.displays._shown import choose
from sklearn_psp.utils._compat import Interval, StrOptions, validate_params
from sklearn_psp.utils._flags import as_flags
from sklearn_psp.utils._pairs import as_pairs
from sklearn_psp.utils._pipeline import split_search

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["MatchDisplay", "ShownMatch"]

_TEXT_WIDTH = 1.9  # inches, beside a pair


# Compared by identity: images may be arrays.
@dataclass(frozen=True, eq=False)
class ShownMatch:
    """Two images, and whether they show the same person.

    Parameters
    ----------
    images : sequence of two of str, path-like, bytes, PIL.Image.Image, ndarray or None
        The images.
    names : sequence of two str
        Their names.
    same : bool or None
        The decision whether they show the same person; None if they could not be compared.
    score : float
        Their similarity.
    probability : float
        Probability that they show the same person.
    right : bool or None, default=None
        Whether the decision is right; None where that is not known.

    See Also
    --------
    MatchDisplay : Draws pairs.

    Examples
    --------
    >>> from sklearn_psp.displays import ShownMatch
    >>> ShownMatch(["a.jpg", "b.jpg"], ["a", "b"], same=True, score=0.97, probability=0.99).same
    True
    """

    images: Sequence[Any] = field(repr=False)
    names: Sequence[str]
    same: bool | None
    score: float
    probability: float
    right: bool | None = None


class MatchDisplay:
    """Pairs of faces, one row a pair: the images, the score, and the decision.

    It is recommended to make one with `from_estimator`, which also draws it.

    Parameters
    ----------
    matches : sequence of ShownMatch
        The pairs, from top to bottom.
    threshold : float
        The score from which on a pair is accepted.

    Attributes
    ----------
    matches : tuple of ShownMatch
        The pairs, from top to bottom.
    threshold : float
        The threshold.
    ax_ : ndarray of shape (n_pairs, 3), object
        The axes: both images and the text. Only once drawn.
    figure_ : matplotlib.figure.Figure or matplotlib.figure.SubFigure
        The figure that holds the axes. Only once drawn.

    See Also
    --------
    IdentificationDisplay : Draws images with the names of the people in them.
    VerificationDisplay : Draws error rates.

    Examples
    --------
    >>> from skimage.data import astronaut, cat
    >>> from sklearn_psp.displays import MatchDisplay, ShownMatch
    >>> match = ShownMatch([astronaut(), cat()], ["her", "it"], same=False, score=0.71, probability=0.0, right=True)
    >>> MatchDisplay([match], threshold=0.92).plot().ax_.shape
    (1, 3)
    """

    ax_: np.ndarray
    figure_: Figure | SubFigure

    def __init__(self, matches: Sequence[ShownMatch], threshold: float):
        self.matches, self.threshold = tuple(matches), threshold

    @validate_params({"cell_size": [Interval(Real, 0, None, closed="neither")]}, prefer_skip_nested_validation=True)
    def plot(self, *, figure: Figure | SubFigure | None = None, cell_size: float = 1.4) -> MatchDisplay:
        """Draw the pairs.

        Parameters
        ----------
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to draw into. None makes a new one with `matplotlib.pyplot`.
        cell_size : float, default=1.4, inches
            Side of an image's box in a new figure.

        Returns
        -------
        self : MatchDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        widths = [None, GAP, None, GAP, _TEXT_WIDTH]
        heights = [None, CAPTION] * max(len(self.matches), 1)
        self.figure_, grid, (cell_width, _) = exact_grid(
            figure, widths, heights, (cell_size, cell_size), owner="MatchDisplay"
        )
        self.ax_ = np.empty((len(self.matches), 3), dtype=object)
        for row, match in enumerate(self.matches):
            for side in range(2):
                ax = self.ax_[row, side] = self.figure_.add_subplot(grid[2 * row, 2 * side])
                image_box(ax, match.images[side], match.names[side], [match.names[side]], cell_width)
                ax.set_anchor("EW"[side])  # beside each other in a figure whose cells are no squares
                if match.right is not None:
                    frame(ax, match.right)
            ax = self.ax_[row, 2] = self.figure_.add_subplot(grid[2 * row, 4])
            ax.set_axis_off()
            _write_decision(ax, match, self.threshold)
        return self

    @classmethod
    @validate_params(
        {
            "n_pairs": [Interval(Integral, 1, None, closed="left")],
            "select": [StrOptions({"first", "random", "worst"})],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls,
        estimator: Any,
        pairs: Any,
        y: npt.ArrayLike | None = None,
        *,
        n_pairs: int = 5,
        select: str = "first",
        random_state: int | np.random.RandomState | None = None,
        figure: Figure | SubFigure | None = None,
    ) -> MatchDisplay:
        """Compare pairs and draw them.

        Parameters
        ----------
        estimator : FaceVerifier
            Fitted, with a featurizer; or a fitted search over one, such as `GridSearchCV`.
        pairs : list of pairs, array of shape (n_pairs, 2, ...), or DataFrame with two columns
            Pairs of images, as the estimator takes them.
        y : array-like of shape (n_pairs,), bool or 0 and 1, default=None
            1 for a pair of the same person; with it, right decisions are green and wrong ones red.
        n_pairs : int, default=5
            Number of pairs to show.
        select : {"first", "random", "worst"}, default="first"
            Which pairs to show. "worst" are those on the wrong side of the threshold, the farthest first, and then
            those nearest to it; it needs y.
        random_state : int, RandomState instance or None, default=None
            Seed of "random".
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to draw into. None makes a new one.

        Returns
        -------
        display : MatchDisplay
            The display, drawn.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ValueError
            If `select="worst"` and there is no y, or y does not fit the pairs.
        """
        verifier, pairs = split_search(estimator, pairs)
        same = None if y is None else as_flags(y, "y", "1 for a pair of the same person")
        understood = as_pairs(pairs)
        if same is not None and len(same) != understood.n_pairs:
            raise ValueError(f"y must hold one label for each of the {understood.n_pairs} pairs; got {len(same)}")
        if select == "worst":
            if same is None:
                raise ValueError('select="worst" needs y, which tells what would be right')
            margins = np.where(same, 1, -1) * verifier.decision_function(pairs)
            shown = np.argsort(margins, kind="stable")[:n_pairs]  # NaN comes last
        else:
            shown = choose(understood.n_pairs, n_pairs, select, random_state)
        sides = [
            [understood.items[place] for place in places[shown]] for places in (understood.first, understood.second)
        ]
        table = verifier.verify(*sides)
        matches = []
        for i, row in enumerate(table.itertuples()):
            images = [side[i] for side in sides]
            decided = None if pd.isna(row.same) else bool(row.same)
            matches.append(
                ShownMatch(
                    images,
                    [os.path.basename(describe_source(image)) for image in images],
                    decided,
                    row.score,
                    row.probability,
                    None if same is None or decided is None else bool(decided == same[shown[i]]),
                )
            )
        return cls(matches, verifier.threshold_).plot(figure=figure)


def _write_decision(ax: Axes, match: ShownMatch, threshold: float) -> None:
    """Write the decision on a pair beside it."""
    style: dict[str, Any] = {"transform": ax.transAxes, "ha": "left", "va": "center", "parse_math": False}
    if match.same is None:
        ax.text(0.05, 0.5, "not compared", fontsize=9, **style)
        return
    ax.text(0.05, 0.72, "same person" if match.same else "two people", fontsize=10, weight="bold", **style)
    sign = "≥" if match.same else "<"
    ax.text(0.05, 0.5, f"score {match.score:.3f} {sign} {threshold:.3f}", fontsize=FONT_SIZE, **style)
    ax.text(0.05, 0.34, f"probability {match.probability:.3f}", fontsize=FONT_SIZE, **style)
    if match.right is not None:
        color = RIGHT if match.right else WRONG
        ax.text(0.05, 0.16, "right" if match.right else "wrong", fontsize=FONT_SIZE, color=color, **style)
