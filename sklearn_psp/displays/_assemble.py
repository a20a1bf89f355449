"""From a table of results to what is shown of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sklearn_psp.displays._data import ShownQuery, ShownResult
from sklearn_psp.metrics import average_precision, relevance_from_labels

__all__ = ["choose", "hits", "in_order", "shown_queries", "worst"]


def in_order(results, n_neighbors):
    """Check a table of results, and cut each query to the first few.

    Parameters
    ----------
    results : DataFrame
        As `retrieve` returns it.
    n_neighbors : int or None
        How many results to keep of each query; None keeps all.

    Returns
    -------
    results : DataFrame
        The rows that are kept, numbered; queries in the order they came, each with its best first.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        If it lacks a column.
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


def hits(results, query_of, labels):
    """Say which results are right.

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


def choose(n_available, n_queries, select, random_state):
    """Choose queries by place: the first, or any, in order."""
    if select == "first" or n_queries >= n_available:
        return np.arange(min(n_queries, n_available))
    return np.sort(check_random_state(random_state).choice(n_available, n_queries, replace=False))


def worst(query_of, right, n_available, n_queries):
    """Choose the queries that found least.

    Parameters
    ----------
    query_of : ndarray of shape (n_results,), intp
        Place of each result's query; the results of one query stand in order.
    right : ndarray of shape (n_results,), object
        Which results are right.
    n_available : int
        Number of queries.
    n_queries : int
        How many to choose.

    Returns
    -------
    chosen : ndarray of shape (min(n_queries, n_available),), intp
        Lowest average precision first, then the fewest right ones. Queries of which nothing is known come last.
    """
    rank = pd.Series(query_of).groupby(query_of).cumcount().to_numpy()
    relevance = np.zeros((n_available, rank.max(initial=0) + 1), dtype=bool)
    relevance[query_of, rank] = right == True  # noqa: E712 - element by element; None is neither
    known = np.zeros(n_available, dtype=bool)
    known[query_of[right != None]] = True  # noqa: E711
    precision = np.nan_to_num(average_precision(relevance))  # nothing right: 0
    precision[~known] = np.inf
    return np.lexsort((relevance.sum(axis=1), precision))[:n_queries]


def shown_queries(results, query_of, right, chosen, labels, caption, query_image, gallery_image):
    """Put together what is shown.

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
    caption, query_image : callable
        From the place of a query to what it is called, and to a small image.
    gallery_image : callable
        From the id of a result to a small image.

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
            ShownResult(gallery_image(ids[row]), ids[row], distances[row], _label(found[row]), right[row])
            for row in rows
        ]
        label = None if labels is None else _label(labels[query])
        shown.append(ShownQuery(query_image(query), caption(query), images, label))
    return tuple(shown)


def _label(label):
    """None for any missing label, and a plain value for a NumPy one."""
    return None if pd.isna(label) else label.item() if isinstance(label, np.generic) else label
