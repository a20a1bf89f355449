"""The part of a search that is shown: its queries and results, chosen and marked, with their images found by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import check_random_state

from sklearn_psp._images import Images, as_images, thumbnail
from sklearn_psp.exceptions import ImageInputError
from sklearn_psp.metrics import average_precision, relevance_from_labels

__all__ = [
    "ImageLookup",
    "ShownQuery",
    "ShownResult",
    "check_results",
    "choose",
    "choose_worst",
    "mark_right",
    "query_lookup",
    "show_queries",
]


# Compared by identity: images may be arrays.
@dataclass(frozen=True, eq=False)
class ShownResult:
    """One of the images found for a query.

    Parameters
    ----------
    image : str, path-like, bytes, PIL.Image.Image, ndarray or None
        The image. None if there is none to be shown.
    id : object
        Its id, or a name that says more.
    distance : float
        Its distance to the query.
    label : object, default=None
        Its label; None if it has none.
    right : bool or None, default=None
        Whether it has the label of the query; None where that is not known.

    See Also
    --------
    ShownQuery : The query it was found for.

    Examples
    --------
    >>> from sklearn_psp.displays import ShownResult
    >>> ShownResult("cat.jpg", id=7, distance=0.25, label="cat", right=True).right
    True
    """

    image: Any = field(repr=False)
    id: Any
    distance: float
    label: Any = None
    right: bool | None = None


@dataclass(frozen=True, eq=False)
class ShownQuery:
    """One query with the images found for it.

    Parameters
    ----------
    image : str, path-like, bytes, PIL.Image.Image, ndarray or None
        The image. None if there is none to be shown.
    caption : str
        Its name.
    results : sequence of ShownResult
        Its results, nearest first.
    label : object, default=None
        Its true label; None if that is not known.

    See Also
    --------
    RetrievalDisplay : Draws queries beside their results.

    Examples
    --------
    >>> from sklearn_psp.displays import ShownQuery, ShownResult
    >>> ShownQuery("cat.jpg", "a cat", [ShownResult("dog.jpg", id=3, distance=0.5)])
    ShownQuery(caption='a cat', results=[ShownResult(id=3, distance=0.5, label=None, right=None)], label=None)
    """

    image: Any = field(repr=False)
    caption: str
    results: Sequence[ShownResult]
    label: Any = None


def check_results(results: pd.DataFrame, n_neighbors: int | None) -> pd.DataFrame:
    """Check a table of results, and keep the first few of each query.

    Parameters
    ----------
    results : DataFrame
        As `retrieve` returns it.
    n_neighbors : int or None
        Number of results to keep of each query; None keeps all.

    Returns
    -------
    results : DataFrame
        The rows that are kept, numbered; queries in the order of the table, each with its best result first.

    Raises
    ------
    TypeError
        If `results` is no DataFrame.
    ValueError
        If `results` lacks a column.
    """
    if not isinstance(results, pd.DataFrame):
        raise TypeError(f"results must be the DataFrame that retrieve returns, got {type(results).__name__}")
    missing = [name for name in ("query", "id", "distance") if name not in results]
    if missing:
        raise ValueError(f"results must be the table that retrieve returns, but has no column {', '.join(missing)}")
    if "rank" in results:
        results = results.iloc[np.lexsort((results["rank"], pd.factorize(results["query"])[0]))]
    if n_neighbors is not None:
        results = results[results.groupby("query", sort=False).cumcount() < n_neighbors]
    return results.reset_index(drop=True)


def mark_right(results: pd.DataFrame, query_of: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Mark the results that have the label of their query.

    Parameters
    ----------
    results : DataFrame
        With the column `label`, or without labels.
    query_of : ndarray of shape (n_results,), intp
        Place of each result's query in `labels`.
    labels : ndarray of shape (n_queries,) or None
        The true labels.

    Returns
    -------
    right : ndarray of shape (n_results,), object
        True, False, or None where a label is missing.
    """
    right = np.full(len(results), None, dtype=object)
    if labels is None or "label" not in results or not len(results):
        return right
    wanted, found = labels[query_of], results["label"].to_numpy()
    known = ~(pd.isna(wanted) | pd.isna(found))
    right[known] = relevance_from_labels(wanted, found[:, None])[known, 0].tolist()
    return right


def choose(n_available: int, n_shown: int, select: str, random_state: Any) -> np.ndarray:
    """Choose what to show by place, in order: the first, or for `select="random"` any."""
    if select == "first" or n_shown >= n_available:
        return np.arange(min(n_shown, n_available))
    return np.sort(check_random_state(random_state).choice(n_available, n_shown, replace=False))


def choose_worst(query_of: np.ndarray, right: np.ndarray, n_available: int, n_shown: int) -> np.ndarray:
    """Choose the queries that found least.

    Parameters
    ----------
    query_of : ndarray of shape (n_results,), intp
        Place of each result's query; the results of one query stand in order.
    right : ndarray of shape (n_results,), object
        Which results are right, as from `mark_right`.
    n_available : int
        Number of queries.
    n_shown : int
        Number of queries to choose.

    Returns
    -------
    chosen : ndarray of shape (min(n_shown, n_available),), intp
        Lowest average precision first, then the fewest right results. Queries of which nothing is known come last.

    Raises
    ------
    ValueError
        If nothing is known of any query.
    """
    if not any(mark is not None for mark in right):
        raise ValueError(
            "select='worst' needs labels on both sides, but no query and result have one each: fit the gallery with y"
        )
    rank = pd.Series(query_of).groupby(query_of).cumcount().to_numpy()
    relevance = np.zeros((n_available, rank.max(initial=0) + 1), dtype=bool)
    relevance[query_of, rank] = right == True  # noqa: E712 - element by element; None is neither
    known = np.zeros(n_available, dtype=bool)
    known[query_of[right != None]] = True  # noqa: E711
    precision = np.nan_to_num(average_precision(relevance))  # nothing right: 0
    precision[~known] = np.inf
    return np.lexsort((relevance.sum(axis=1), precision))[:n_shown]


def show_queries(
    results: pd.DataFrame,
    query_of: np.ndarray,
    right: np.ndarray,
    chosen: np.ndarray,
    labels: np.ndarray | None,
    names: Sequence[Any] | np.ndarray,
    captions: Sequence[Any] | np.ndarray,
    queries: ImageLookup,
    gallery: ImageLookup,
) -> tuple[ShownQuery, ...]:
    """Put queries, results and their images together.

    Parameters
    ----------
    results : DataFrame
        The results, best first for each query.
    query_of : ndarray of shape (n_results,), intp
        Place of each result's query.
    right : ndarray of shape (n_results,), object
        Which results are right.
    chosen : ndarray of intp
        Places of the queries to show.
    labels : ndarray or None
        True labels of the queries.
    names : sequence
        Names of the queries in `queries`, by place.
    captions : sequence
        Names of the queries as the user knows them, by place.
    queries, gallery : ImageLookup
        Images of the queries by name, and of the gallery by id.

    Returns
    -------
    queries : tuple of ShownQuery
        In the order of `chosen`.
    """
    ids, distances = results["id"].tolist(), results["distance"].tolist()
    found = results["label"].tolist() if "label" in results else [None] * len(results)
    shown = []
    for query in chosen:
        rows = np.flatnonzero(query_of == query)
        images = [
            ShownResult(gallery.small(ids[row]), ids[row], distances[row], _label(found[row]), right[row])
            for row in rows
        ]
        label = None if labels is None else _label(labels[query])
        name = names[query]
        shown.append(ShownQuery(queries.small(name), _caption(captions[query], queries.source(name)), images, label))
    return tuple(shown)


def _caption(name: Any, source: Any) -> str:
    """Name a query by its index; by its file where that says more than a number."""
    is_path = isinstance(source, str | os.PathLike)
    if is_path and (isinstance(name, Integral) or name == source):
        return os.path.basename(source)
    return f"query {name}" if isinstance(name, Integral) else str(name)


def _label(label: Any) -> Any:
    """None for any missing label, and a plain value for a NumPy one."""
    return None if pd.isna(label) else label.item() if isinstance(label, np.generic) else label


class ImageLookup:
    """Images by name, each made small once and only when asked for.

    Parameters
    ----------
    images : array-like, mapping, Series or None
        The images: a mapping or a Series (or one-column DataFrame) by name; anything else in the order of `names`.
        None for no images but those that names are themselves, as paths of files.
    names : array-like or None
        The names of images given in order; None numbers them.
    parameter : str
        What `images` is called in error messages.

    Attributes
    ----------
    names : Index
        The names.

    Raises
    ------
    ImageInputError
        If `images` holds no images, or cannot be read in any order.
    ValueError
        If the number of images is not the number of names, or a name is there twice.
    """

    def __init__(self, images: Any, names: npt.ArrayLike | pd.Index | None = None, *, parameter: str):
        self._small: dict[Any, np.ndarray | None] = {}
        self._images: Images | None = None
        if images is None:
            self.names = pd.Index([], dtype=object)
            return
        if isinstance(images, Mapping):
            names, images = list(images.keys()), list(images.values())
        elif isinstance(images, pd.Series) or (isinstance(images, pd.DataFrame) and images.shape[1] == 1):
            names = images.index
        try:
            self._images = as_images(images)
        except ImageInputError as error:
            if parameter == "X":
                raise
            # The reader knows a collection of images by the name X only.
            raise ImageInputError(f"{parameter} must hold images, with {parameter} as X: {error}") from error
        n_images = self._images.n_images
        if n_images is None:
            raise ImageInputError(f"{parameter} is an iterable that can be read only once: pass a list of images")
        self.names = pd.Index(np.arange(n_images) if names is None else names, tupleize_cols=False)
        if len(self.names) != n_images:
            raise ValueError(
                f"{parameter} must hold one image for each of the {len(self.names)}, got {n_images}; or pass a "
                "dict or a Series that gives the image of each id"
            )
        if not self.names.is_unique:
            twice = self.names[self.names.duplicated()].tolist()[0]
            raise ValueError(f"the index of {parameter} must be unique, but holds {twice!r} more than once")

    def source(self, name: Any) -> Any:
        """Return the image as it was given, or the path of a file that the name is; None if there is neither."""
        try:
            at = self.names.get_loc(name)
        except (KeyError, TypeError):  # unknown, or nothing that could be a name
            at = None
        image = None if at is None or self._images is None else self._images.get(at)
        if image is None and isinstance(name, str | os.PathLike) and os.path.isfile(name):
            return name
        return image

    def small(self, name: Any) -> np.ndarray | None:
        """Return the image made small; None if there is none, or it cannot be read."""
        if name not in self._small:
            self._small[name] = thumbnail(self.source(name))
        return self._small[name]

    def refuse_unknown(self, shown: Sequence[ShownQuery], images: Any) -> None:
        """Say what is missing where no result has an image, not even one that cannot be read.

        Parameters
        ----------
        shown : sequence of ShownQuery
            The queries shown; the ids of their results are names here.
        images : array-like, mapping, Series or None
            The user's `gallery_images`.

        Raises
        ------
        ImageInputError
            If there are results, and an image for none of them.
        """
        ids = [result.id for query in shown for result in query.results]
        if not ids or any(self.source(name) is not None for name in ids):
            return
        if images is None:
            raise ImageInputError(
                f"the images of the gallery are not known, and ids such as {ids[0]!r} are no paths of files: pass "
                "gallery_images=, the images in the order of the gallery, or a dict or Series that gives the image of "
                "each id"
            )
        raise ImageInputError(
            f"gallery_images has an image for none of the ids shown, such as {ids[0]!r}: pass a dict or a Series that "
            "gives the image of each id, or an array-like by position"
        )


def query_lookup(X: Any, query_images: Any) -> ImageLookup:
    """Find the images of queries, by place.

    Parameters
    ----------
    X : array-like
        The queries.
    query_images : array-like or None
        Their images; None: X holds them.

    Returns
    -------
    ImageLookup
        Its names are places in X.

    Raises
    ------
    ImageInputError
        If there are no images.
    ValueError
        If there is not one image for each row of X.
    """
    images, parameter = (X, "X") if query_images is None else (query_images, "query_images")
    if isinstance(images, pd.Series | pd.DataFrame):
        images = images.reset_index(drop=True)
    try:
        queries = ImageLookup(images, parameter=parameter)
    except ImageInputError as error:
        if query_images is not None:
            raise
        raise ImageInputError(
            f"X holds no images to show; pass those of the queries as query_images=, in the order of X. ({error})"
        ) from error
    if query_images is not None and hasattr(X, "__getitem__"):
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        if len(queries.names) != n_rows:
            raise ValueError(
                f"query_images must hold one image for each of the {n_rows} rows of X, got {len(queries.names)}"
            )
    return queries
