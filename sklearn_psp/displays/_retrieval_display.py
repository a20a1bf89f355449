"""RetrievalDisplay: queries beside their results."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._retriever import NearestImageRetriever, retrieve
from sklearn_psp.displays._draw import CAPTION, GAP, RIGHT, WRONG, exact_grid, frame, image_box
from sklearn_psp.displays._shown import (
    ImageLookup,
    ShownQuery,
    ShownResult,
    check_results,
    choose,
    choose_worst,
    mark_right,
    query_lookup,
    show_queries,
)
from sklearn_psp.exceptions import ImageInputError
from sklearn_psp.utils._compat import Interval, StrOptions, validate_params
from sklearn_psp.utils._labels import as_label_array
from sklearn_psp.utils._pipeline import split_search

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["RetrievalDisplay"]

_APART = 0.22  # inches, what sets the query apart from its results
# Marks are drawn, not written: few fonts have them.
_TICK = [(-1.0, 0.05), (-0.3, -0.65), (1.0, 0.75)]
_AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
_SELECTION = {
    "n_queries": [_AT_LEAST_ONE],
    "select": [StrOptions({"first", "random", "worst"})],
    "random_state": ["random_state"],
}


class RetrievalDisplay:
    """Queries beside the images found for them, one row a query.

    It is recommended to make one with `from_estimator` or `from_results`, which also draw it.

    Parameters
    ----------
    queries : sequence of ShownQuery
        The queries with their results, from top to bottom.

    Attributes
    ----------
    queries : tuple of ShownQuery
        The queries with their results, from top to bottom; images have at most 256 pixels a side.
    ax_ : ndarray of shape (n_queries, 1 + n_results), object
        The axes: the query, then its results by rank. Only once drawn.
    figure_ : matplotlib.figure.Figure or matplotlib.figure.SubFigure
        The figure that holds the axes. Only once drawn.

    See Also
    --------
    retrieve : The results as a table.

    Notes
    -----
    A result has the frame and the mark of a right one (green, a tick) or a wrong one (red, a cross) where both its
    label and that of the query are known, else neither. An image that cannot be shown is an empty box with its id.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp import NearestImageRetriever
    >>> from sklearn_psp.displays import RetrievalDisplay
    >>> descriptors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> images = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    >>> search = NearestImageRetriever().fit(descriptors, ["cat", "dog", "dog"], ids=["a", "b", "c"])
    >>> display = RetrievalDisplay.from_estimator(search, gallery_images=images, n_neighbors=2)
    >>> display.queries[1].caption, display.queries[1].results[0].id, display.queries[1].results[0].right
    ('b', 'c', True)
    >>> display.ax_.shape
    (3, 3)
    """

    ax_: np.ndarray
    figure_: Figure | SubFigure

    def __init__(self, queries: Sequence[ShownQuery]):
        self.queries = tuple(queries)

    @validate_params({"cell_size": [Interval(Real, 0, None, closed="neither")]}, prefer_skip_nested_validation=True)
    def plot(self, *, figure: Figure | SubFigure | None = None, cell_size: float = 1.4) -> RetrievalDisplay:
        """Draw the queries and their results.

        Parameters
        ----------
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to draw into. None makes a new one with `matplotlib.pyplot`.
        cell_size : float, default=1.4, inches
            Side of an image's box in a new figure.

        Returns
        -------
        self : RetrievalDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        n_columns = 1 + max((len(query.results) for query in self.queries), default=0)
        gaps = [_APART, *[GAP] * (n_columns - 2)][: n_columns - 1]
        widths = [None, *(size for gap in gaps for size in (gap, None))]
        heights = [None, CAPTION] * max(len(self.queries), 1)
        self.figure_, grid, (cell_width, _) = exact_grid(
            figure, widths, heights, (cell_size, cell_size), owner="RetrievalDisplay"
        )
        self.ax_ = np.empty((len(self.queries), n_columns), dtype=object)
        for i, query in enumerate(self.queries):
            for j in range(n_columns):
                # Every second column and row of the grid is a gap.
                self.ax_[i, j] = self.figure_.add_subplot(grid[2 * i, 2 * j])
            _draw_query(self.ax_[i, 0], query, cell_width)
            for j, ax in enumerate(self.ax_[i, 1:]):
                if j < len(query.results):
                    _draw_result(ax, query.results[j], cell_width)
                else:
                    ax.set_visible(False)
        return self

    @classmethod
    @validate_params(
        {"n_neighbors": [_AT_LEAST_ONE], **_SELECTION},
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: npt.ArrayLike | None = None,
        *,
        n_neighbors: int = 5,
        n_queries: int = 5,
        select: str = "first",
        where: npt.ArrayLike | Callable[[pd.DataFrame], Any] | None = None,
        query_images: Any = None,
        gallery_images: Any = None,
        random_state: int | np.random.RandomState | None = None,
        figure: Figure | SubFigure | None = None,
    ) -> RetrievalDisplay:
        """Search, and draw the results.

        Parameters
        ----------
        estimator : estimator
            A fitted `NearestImageRetriever` (with or without featurizer), a `Pipeline` that ends in one, or a fitted
            search over parameters, such as `GridSearchCV`, of either.
        X : array-like, default=None
            The queries, in the form the first step takes. None: the images of the gallery themselves, each of which
            is not among its own results; all of them are searched for, whatever `n_queries` is.
        y : array-like of shape (n_queries,), default=None
            True labels of the queries. None marks nothing as right or wrong, but for X=None takes the gallery's own.
        n_neighbors : int, default=5
            Number of results to show of each query.
        n_queries : int, default=5
            Number of queries to show.
        select : {"first", "random", "worst"}, default="first"
            Which queries to show, if there are more: the first, any, or those of the lowest average precision within
            the results shown, worst first.
        where : array-like, callable or None, default=None
            Which images may be results, as for `NearestImageRetriever.retrieve`.
        query_images : array-like or None, default=None
            Images of the queries, in the order of X. None: X holds them.
        gallery_images : array-like, mapping, Series or None, default=None
            Images of the gallery: an array-like of them by position, or a mapping or Series that gives the image of
            each id. None: the retriever knows them (`sources_`), or the ids are paths.
        random_state : int, RandomState instance or None, default=None
            Seed of `select="random"`.
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to draw into, as for `plot`.

        Returns
        -------
        display : RetrievalDisplay
            The display, drawn.

        Raises
        ------
        ImageInputError
            If the images of the queries or of the gallery are not known.
        TypeError
            If the estimator does not end in a retriever.
        ValueError
            If y or the images do not fit X, or `select="worst"` has no labels.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_psp import NearestImageRetriever
        >>> from sklearn_psp.displays import RetrievalDisplay
        >>> images = np.zeros((2, 8, 8, 3), dtype=np.uint8)
        >>> search = NearestImageRetriever().fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"])
        >>> display = RetrievalDisplay.from_estimator(
        ...     search, [[0.6, 0.8]], ["dog"], query_images=images[:1], gallery_images=images
        ... )
        >>> [result.right for result in display.queries[0].results]
        [True, False]
        """
        retriever = _retriever_of(estimator)
        sources = retriever.sources_ if gallery_images is None else gallery_images
        gallery = ImageLookup(sources, retriever.ids_, parameter="gallery_images")
        if X is None:
            if query_images is not None:
                raise ImageInputError("for X=None the gallery is searched for: pass its images as gallery_images=")
            queries, names = gallery, retriever.ids_
            y = retriever.labels_ if y is None else y
        else:
            queries = query_lookup(X, query_images)
            names = queries.names.to_numpy()
        own_names = X.index if isinstance(X, pd.Series | pd.DataFrame) else names
        labels = _check_labels(y, len(names), select)

        places = np.arange(len(names))
        if X is not None:
            if select != "worst" and hasattr(X, "__getitem__"):
                places = choose(len(names), n_queries, select, random_state)
            X = _take(X, places, len(names))
        results = check_results(retrieve(estimator, X, n_neighbors, where), n_neighbors)
        query_of = pd.Index(names).get_indexer(results["query"]) if X is None else places[results["query"].to_numpy()]
        right = mark_right(results, query_of, labels)
        if select == "worst":
            chosen = choose_worst(query_of, right, len(names), n_queries)
        else:
            chosen = places[choose(len(places), n_queries, select, random_state)]
        shown = show_queries(results, query_of, right, chosen, labels, names, own_names, queries, gallery)
        if X is not None and query_images is None:
            _refuse_descriptors(shown, queries, chosen)
        gallery.refuse_unknown(shown, gallery_images)
        return cls(shown).plot(figure=figure)

    @classmethod
    @validate_params({"n_neighbors": [_AT_LEAST_ONE, None], **_SELECTION}, prefer_skip_nested_validation=True)
    def from_results(
        cls,
        results: pd.DataFrame,
        query_images: Any = None,
        gallery_images: Any = None,
        *,
        y: npt.ArrayLike | None = None,
        n_neighbors: int | None = None,
        n_queries: int = 5,
        select: str = "first",
        random_state: int | np.random.RandomState | None = None,
        figure: Figure | SubFigure | None = None,
    ) -> RetrievalDisplay:
        """Draw the results of `retrieve`.

        Parameters
        ----------
        results : DataFrame
            As `retrieve` returns it, or some of its rows.
        query_images : array-like, mapping, Series or None, default=None
            Images of the queries: an array-like of them by number, or a mapping or Series by what the column `query`
            holds. None: those of `gallery_images`, for a gallery that was searched for its own images.
        gallery_images : array-like, mapping, Series or None, default=None
            Images of the gallery: an array-like of them, if ids are positions, or a mapping or Series that gives the
            image of each id. None: the ids are paths.
        y : array-like of shape (n_queries,), default=None
            True labels, in the order of `query_images`. None marks nothing as right or wrong.
        n_neighbors : int or None, default=None
            Number of results to show of each query; None shows all.
        n_queries : int, default=5
            Number of queries to show.
        select : {"first", "random", "worst"}, default="first"
            Which queries of the table to show, if there are more: the first, any, or those of the lowest average
            precision within the results shown, worst first.
        random_state : int, RandomState instance or None, default=None
            Seed of `select="random"`.
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            The figure to draw into, as for `plot`.

        Returns
        -------
        display : RetrievalDisplay
            The display, drawn.

        Raises
        ------
        ImageInputError
            If the images of the queries or of the gallery are not known.
        TypeError
            If `results` is no DataFrame.
        ValueError
            If `results` is empty or lacks a column, y does not fit, or `select="worst"` has no labels.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_psp import NearestImageRetriever
        >>> from sklearn_psp.displays import RetrievalDisplay
        >>> images = np.zeros((2, 8, 8, 3), dtype=np.uint8)
        >>> search = NearestImageRetriever().fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"])
        >>> display = RetrievalDisplay.from_results(search.retrieve([[0.6, 0.8]], 2), images[:1], images)
        >>> [result.label for result in display.queries[0].results]
        ['dog', 'cat']
        """
        results = check_results(results, n_neighbors)
        if results.empty:
            raise ValueError("results is empty: no query has a result to show")
        gallery = ImageLookup(gallery_images, parameter="gallery_images")
        queries = gallery if query_images is None else ImageLookup(query_images, parameter="query_images")
        known = queries.names if len(queries.names) else pd.Index(results["query"].unique())
        given = _check_labels(y, len(known), select)

        # In the order of the table as it was given: a user may have chosen and sorted its rows.
        query_of, names = pd.factorize(results["query"])
        names = names.tolist()
        labels = None
        if given is not None:
            places = known.get_indexer(names)
            labels = given.astype(object)[places]
            labels[places < 0] = None
        right = mark_right(results, query_of, labels)
        if select == "worst":
            chosen = choose_worst(query_of, right, len(names), n_queries)
        else:
            chosen = choose(len(names), n_queries, select, random_state)
        shown = show_queries(results, query_of, right, chosen, labels, names, names, queries, gallery)
        if all(queries.source(names[place]) is None for place in chosen):
            raise ImageInputError(
                f"query_images has an image for none of the queries shown, such as {names[chosen[0]]!r}: pass a dict "
                "or a Series that gives the image of each value of the column query, or an array-like if these are "
                "positions"
            )
        gallery.refuse_unknown(shown, gallery_images)
        return cls(shown).plot(figure=figure)


def _retriever_of(estimator: Any) -> NearestImageRetriever:
    retriever, _ = split_search(estimator, None)
    if not isinstance(retriever, NearestImageRetriever):
        raise TypeError(
            "estimator must be a NearestImageRetriever, a Pipeline that ends in one, or a fitted search over either; "
            f"{type(estimator).__name__} ends in {type(retriever).__name__}"
        )
    check_is_fitted(retriever)
    return retriever


def _check_labels(y: npt.ArrayLike | None, n_queries: int, select: str) -> np.ndarray | None:
    if y is None:
        if select == "worst":
            raise ValueError("select='worst' needs the true labels of the queries: pass y=")
        return None
    labels = as_label_array(y)
    if labels.shape != (n_queries,):
        raise ValueError(f"y must hold one label for each of the {n_queries} queries; got the shape {labels.shape}")
    return labels


def _take(X: Any, places: np.ndarray, n_rows: int) -> Any:
    """Take some rows of X, numbered anew if it has an index."""
    if isinstance(X, pd.Series | pd.DataFrame):
        return X.iloc[places].reset_index(drop=True)
    if len(places) == n_rows:
        return X
    return X[places] if hasattr(X, "shape") else [X[place] for place in places]


def _refuse_descriptors(shown: Sequence[ShownQuery], queries: ImageLookup, chosen: np.ndarray) -> None:
    """Refuse an X that looked like images, such as a list of rows, but holds none, and say what is missing."""
    if any(query.image is not None for query in shown):
        return
    if not any(isinstance(queries.source(place), str | bytes | os.PathLike) for place in chosen):
        raise ImageInputError(
            "X holds no images to show; pass those of the queries as query_images=, in the order of X"
        )


def _draw_query(ax: Axes, query: ShownQuery, cell_width: float) -> None:
    lines = [query.caption]
    if query.label is not None and str(query.label) != query.caption:
        lines.append(query.label)
    image_box(ax, query.image, query.caption, lines, cell_width, weight="bold")
    for side in ax.spines.values():
        side.set_linewidth(2.5)


def _draw_result(ax: Axes, result: ShownResult, cell_width: float) -> None:
    lines = [f"{result.distance:.3f}", result.id if result.label is None else result.label]
    image_box(ax, result.image, result.id, lines, cell_width)
    frame(ax, result.right)
    if result.right is None:
        return
    color = RIGHT if result.right else WRONG
    place: dict[str, Any] = {"transform": ax.transAxes, "zorder": 5, "linestyle": "none"}
    ax.plot(0.89, 0.89, marker="o", markersize=12, color=color, markeredgecolor="white", markeredgewidth=0.8, **place)
    mark: dict[str, Any] = {"marker": _TICK, "markersize": 6.5} if result.right else {"marker": "x", "markersize": 5.5}
    white: dict[str, Any] = {"markeredgecolor": "white", "markerfacecolor": "none", "markeredgewidth": 1.7}
    ax.plot(0.89, 0.89, label="right" if result.right else "wrong", **mark, **white, **place)
