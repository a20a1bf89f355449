"""Search with a fitted search of any form: a retriever, a Pipeline that ends in one, a parameter search over them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sklearn_psp._retriever._estimator import NearestImageRetriever
from sklearn_psp._retriever._inputs import raise_failures
from sklearn_psp.utils._descriptions import warn_of_failures
from sklearn_psp.utils._pipeline import open_search
from sklearn_psp.utils._validation import own_index

__all__ = ["retrieve"]


def retrieve(search: Any, queries: Any, n_neighbors: int | None = None, where: Any = None) -> pd.DataFrame:
    """Find the nearest images with a fitted search, whatever its form.

    Parameters
    ----------
    search : estimator
        A fitted `Pipeline` that ends in a `NearestImageRetriever`, such a retriever (with or without featurizer), or a
        fitted search over parameters, such as `GridSearchCV`, of either.
    queries : array-like or None
        The queries, in the form the first step takes. None: each image of the gallery in turn, which is then not
        among its own results.
    n_neighbors : int, default=None
        How many; None takes the parameter of the retriever. Where fewer exist, all are returned.
    where : array-like, callable or None, default=None
        Which images may be results, as for `NearestImageRetriever.retrieve`.

    Returns
    -------
    results : DataFrame
        As from `NearestImageRetriever.retrieve`. The column `query` holds the index of `queries`, if that is a Series
        or a one-column DataFrame.

    Raises
    ------
    TypeError
        If the search does not end in a retriever.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_psp import NearestImageRetriever, retrieve
    >>> search = make_pipeline(StandardScaler(), NearestImageRetriever(n_neighbors=1))
    >>> search = search.fit([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]], ["cat", "dog", "owl"])
    >>> retrieve(search, [[1.0, 8.0]])[["query", "rank", "id", "label"]]
       query  rank  id label
    0      0     1   1   dog
    """
    retriever, X, failures = open_search(search, queries)
    if not isinstance(retriever, NearestImageRetriever):
        raise TypeError(
            "search must be a NearestImageRetriever, a Pipeline that ends in one, or a fitted search over either; "
            f"{type(search).__name__} ends in {type(retriever).__name__}"
        )
    if len(failures) and retriever.on_invalid == "raise":
        raise_failures(failures)
    found = retriever.retrieve(X, n_neighbors, where)
    warn_of_failures(failures, "images cannot be searched for and have no results")
    names = None if X is queries else own_index(queries)
    if names is None or (retriever.featurizer is not None and own_index(X) is not None):
        return found  # the retriever has named the queries itself
    # It numbered the descriptors it was given; their images have names.
    return found.assign(query=names[found["query"].to_numpy()])
