"""PartWeightsDisplay: the weights of an image's parts, level by level."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._featurizer import PSPNetFeaturizer
from sklearn_psp._images import read_image, resize_image, thumbnail
from sklearn_psp._retriever import NearestImageRetriever
from sklearn_psp.displays._draw_part_weights import draw_weights
from sklearn_psp.utils._compat import Interval, validate_params
from sklearn_psp.utils._pipeline import split_search
from sklearn_psp.utils._validation import check_image_size

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure

__all__ = ["PartWeightsDisplay"]

_COLUMNS = ("level", "n_rows", "n_columns", "top", "bottom", "left", "right")
# Pixels of the longer side; panels are drawn at no more than half of it, for sharp screens.
_MOST_PIXELS = 512
_DRAWING = {
    "cell_size": [Interval(Real, 0, None, closed="neither")],
    "include_values": ["boolean"],
    "values_format": [str],
    "colorbar": ["boolean"],
}


class PartWeightsDisplay:
    r"""The weights of an image's parts, one panel for each level of the pyramid.

    The weights are the :math:`w_i` of :math:`F(x) = \sum_i w_i f_i(x)`, see `PSPNetFeaturizer`. It is recommended to
    make a display with `from_estimator`, which also draws it.

    Parameters
    ----------
    parts : DataFrame of shape (n_parts, n_columns)
        The parts, such as `PSPNetFeaturizer.parts_` or some of its rows: `level`, `n_rows` and `n_columns` of its grid,
        and the box `top`, `bottom`, `left`, `right` as shares of the image, between 0 and 1.
    part_weights : array-like of shape (n_parts,)
        Their weights, not negative, in the order of `parts`.
    image : str, path-like, bytes, PIL.Image.Image, array, tensor or None, default=None
        The image to draw below, as the network sees it. None draws blank grids.
    image_size : int, tuple of two ints or None, default=None
        (height, width) of the blank grids, of which only the proportion matters. None: squares.

    Attributes
    ----------
    parts : pandas.DataFrame of shape (n_parts, n_columns)
        The parts.
    part_weights : ndarray of shape (n_parts,), float64
        Their weights.
    image : ndarray of shape (height, width, 3), uint8, RGB, or None
        The image, of at most 512 pixels a side.
    image_size : tuple of two ints
        (height, width) that the panels have the proportion of.
    axes_ : ndarray of shape (n_levels,), object
        The axes of the levels, in the order of `parts`; 0 to 1 from left to right and from top to bottom, as the boxes.
        Only once drawn.
    figure_ : matplotlib.figure.Figure or matplotlib.figure.SubFigure
        The figure that holds the axes. Only once drawn.

    Raises
    ------
    ImageReadError
        If the image cannot be read.
    TypeError
        If `parts` is no DataFrame.
    ValueError
        If `parts` is empty or lacks a column, or there is not one finite weight of at least 0 for each part.

    See Also
    --------
    PSPNetFeaturizer : Has the weights, given or learned.

    Notes
    -----
    One scale of colours is used for all levels, with 1, the weight of every part that `part_weights="uniform"` gives,
    in its middle. It reaches as far below 1 as above, but not below 0: where a weight is above 2, the half above 1 is
    the coarser one. The image is drawn in grey, so that all colours are weights. The numbers are left out of levels
    whose cells are too small for them.

    With `normalize=True` descriptors depend on the ratios of weights only: weights that were given are easier to
    compare with uniform ones once divided by their mean, as learned ones are.

    Examples
    --------
    >>> from sklearn_psp import PSPNetFeaturizer
    >>> from sklearn_psp.displays import PartWeightsDisplay
    >>> weights = [2.0, 1.0, 1.0, 0.5, 0.5]
    >>> featurizer = PSPNetFeaturizer(bin_sizes=(1, 2), part_weights=weights, center=False).fit()
    >>> display = PartWeightsDisplay.from_estimator(featurizer)
    >>> [ax.get_title() for ax in display.axes_]
    ['level 0: 1 × 1', 'level 1: 2 × 2']
    >>> PartWeightsDisplay(featurizer.parts_, featurizer.part_weights_ / featurizer.part_weights_.mean()).part_weights
    array([2. , 1. , 1. , 0.5, 0.5])
    """

    axes_: np.ndarray
    figure_: Figure | SubFigure

    def __init__(
        self,
        parts: pd.DataFrame,
        part_weights: npt.ArrayLike,
        image: Any = None,
        image_size: int | tuple[int, int] | None = None,
    ):
        self.parts = _check_parts(parts)
        self.part_weights = _check_weights(part_weights, len(parts))
        self.image = None if image is None else thumbnail(read_image(image), _MOST_PIXELS)
        if image_size is not None:
            self.image_size = check_image_size(image_size)
        else:
            self.image_size = (1, 1) if self.image is None else self.image.shape[:2]

    @validate_params(_DRAWING, prefer_skip_nested_validation=True)
    def plot(
        self,
        *,
        ax: Any = None,
        figure: Figure | SubFigure | None = None,
        cell_size: float = 2.0,
        cmap: str | Colormap = "RdBu_r",
        include_values: bool = True,
        values_format: str = ".2f",
        colorbar: bool = True,
    ) -> PartWeightsDisplay:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, array-like of shape (n_levels,) of them, or None, default=None
            The axes to draw into, one for each level. None makes them.
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to make axes in. None makes a new one with `matplotlib.pyplot`.
        cell_size : float, default=2.0, inches
            Side of a panel in a new figure, or of the square of its area.
        cmap : str or matplotlib.colors.Colormap, default="RdBu_r"
            The colours, best a diverging map: its middle is the weight 1.
        include_values : bool, default=True
            Whether to write the weights into cells with room for them.
        values_format : str, default=".2f"
            Their format, as for `format`.
        colorbar : bool, default=True
            Whether to draw the colour bar.

        Returns
        -------
        self : PartWeightsDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ValueError
            If there is not one of `ax` for each level, or both `ax` and `figure` are given.
        """
        self.figure_, self.axes_ = draw_weights(
            self.parts,
            self.part_weights,
            self.image,
            self.image_size,
            figure=figure,
            axes=_check_axes(ax, figure, self.parts["level"].nunique()),
            cell_size=cell_size,
            cmap=cmap,
            include_values=include_values,
            values_format=values_format,
            colorbar=colorbar,
        )
        return self

    @classmethod
    @validate_params(_DRAWING, prefer_skip_nested_validation=True)
    def from_estimator(
        cls,
        estimator: Any,
        image: Any = None,
        *,
        ax: Any = None,
        figure: Figure | SubFigure | None = None,
        cell_size: float = 2.0,
        cmap: str | Colormap = "RdBu_r",
        include_values: bool = True,
        values_format: str = ".2f",
        colorbar: bool = True,
    ) -> PartWeightsDisplay:
        """Draw the weights of a fitted featurizer on an image.

        Parameters
        ----------
        estimator : estimator
            A fitted `PSPNetFeaturizer`, a `Pipeline` with one among its steps, a `NearestImageRetriever` that was
            given one, or a fitted search over parameters, such as `GridSearchCV`, of any of these.
        image : str, path-like, bytes, PIL.Image.Image, array, tensor or None, default=None
            One image. It is brought to the size of the network's images as the featurizer does it (`image_size`,
            `resize`). None draws blank grids of that shape.
        ax : matplotlib.axes.Axes, array-like of shape (n_levels,) of them, or None, default=None
            The axes to draw into, as for `plot`.
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to make axes in, as for `plot`.
        cell_size : float, default=2.0, inches
            Side of a panel in a new figure, or of the square of its area.
        cmap : str or matplotlib.colors.Colormap, default="RdBu_r"
            The colours, best a diverging map: its middle is the weight 1.
        include_values : bool, default=True
            Whether to write the weights into cells with room for them.
        values_format : str, default=".2f"
            Their format, as for `format`.
        colorbar : bool, default=True
            Whether to draw the colour bar.

        Returns
        -------
        display : PartWeightsDisplay
            The display, drawn.

        Raises
        ------
        ImageReadError
            If the image cannot be read.
        MissingDependencyError
            If matplotlib is not installed.
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If there is no `PSPNetFeaturizer` in the estimator.
        ValueError
            If there is not one of `ax` for each level, or both `ax` and `figure` are given.

        Examples
        --------
        >>> from sklearn.datasets import load_sample_images
        >>> from sklearn_psp import PSPNetFeaturizer
        >>> from sklearn_psp.displays import PartWeightsDisplay
        >>> featurizer = PSPNetFeaturizer(bin_sizes=(1, (3, 1)), part_weights=[1, 2, 1, 0], center=False).fit()
        >>> display = PartWeightsDisplay.from_estimator(featurizer, load_sample_images().images[0])
        >>> display.image.shape
        (224, 224, 3)
        """
        featurizer = _featurizer_of(estimator)
        image_size = featurizer.image_size_
        if image is not None:
            image = resize_image(read_image(image), image_size, featurizer.resize)
        display = cls(featurizer.parts_, featurizer.part_weights_, image, image_size)
        return display.plot(
            ax=ax,
            figure=figure,
            cell_size=cell_size,
            cmap=cmap,
            include_values=include_values,
            values_format=values_format,
            colorbar=colorbar,
        )


def _featurizer_of(estimator: Any) -> PSPNetFeaturizer:
    """Find the fitted featurizer."""
    featurizer = _find(estimator)
    if featurizer is None:
        raise TypeError(
            "estimator must be a PSPNetFeaturizer, a Pipeline with one among its steps, a NearestImageRetriever with "
            f"featurizer=, or a fitted search over these; there is none in {type(estimator).__name__}"
        )
    check_is_fitted(featurizer)
    return featurizer


def _find(estimator: Any) -> PSPNetFeaturizer | None:
    """Return the first featurizer in an estimator, or None."""
    if isinstance(estimator, PSPNetFeaturizer):
        return estimator
    if isinstance(estimator, FrozenEstimator):
        return _find(estimator.estimator)
    if hasattr(estimator, "best_estimator_"):
        return _find(estimator.best_estimator_)
    if isinstance(estimator, Pipeline):
        return next((found for _, step in estimator.steps if (found := _find(step)) is not None), None)
    if isinstance(estimator, NearestImageRetriever):
        if estimator.featurizer is None:
            return None
        check_is_fitted(estimator)
        return _find(estimator.featurizer_)
    split_search(estimator, None)  # says so of a search that has not been fitted
    return None


def _check_parts(parts: Any) -> pd.DataFrame:
    if not isinstance(parts, pd.DataFrame):
        raise TypeError(f"parts must be a DataFrame such as PSPNetFeaturizer.parts_, got {type(parts).__name__}")
    missing = [name for name in _COLUMNS if name not in parts]
    if missing:
        raise ValueError(f"parts must be a table such as PSPNetFeaturizer.parts_, but has no column {missing[0]!r}")
    if not len(parts):
        raise ValueError("parts has no rows: there is nothing to show")
    return parts


def _check_weights(part_weights: npt.ArrayLike, n_parts: int) -> np.ndarray:
    weights = np.array(part_weights, dtype=np.float64)
    if weights.shape != (n_parts,):
        raise ValueError(f"part_weights has shape {weights.shape}, but parts has {n_parts} rows: one weight each")
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise ValueError(
            f"part_weights must be finite and not negative, but part_weights[{wrong[0]}] is {weights[wrong[0]]}"
        )
    return weights


def _check_axes(ax: Any, figure: Figure | SubFigure | None, n_levels: int) -> np.ndarray | None:
    if ax is None:
        return None
    if figure is not None:
        raise ValueError("pass either ax=, to draw into, or figure=, to make axes in, but not both")
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(axes) != n_levels:
        raise ValueError(f"ax must hold one of the axes for each of the {n_levels} levels, got {len(axes)}")
    return axes
