"""NearestImageRetriever: find the nearest pictures of a gallery."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._indexes import build_index
from sklearn_psp._retriever._gallery import GalleryMixin
from sklearn_psp._retriever._inputs import (
    check_ids,
    check_labels,
    check_metadata,
    check_n_neighbors,
    own_index,
    prepare_rows,
    source_names,
)
from sklearn_psp._retriever._results import neighbor_graph, result_table, vote
from sklearn_psp.metrics import average_precision
from sklearn_psp.metrics._hits import mean_over_queries
from sklearn_psp.metrics._relevance import as_label_array
from sklearn_psp.utils._compat import HasMethods, Interval, StrOptions, _fit_context

__all__ = ["NearestImageRetriever"]


class NearestImageRetriever(GalleryMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Find the nearest pictures of a gallery, and vote, draw graphs and score with them.

    The gallery is given as descriptors, usually by a `PSPNetFeaturizer` before it in a `Pipeline`, or as pictures
    together with a `featurizer`. It is searched exactly or with PyNNDescent [1]_.

    Parameters
    ----------
    n_neighbors : int, default=10
        How many pictures to find for each query.
    featurizer : transformer or None, default=None
        Turns pictures into descriptors of shape (n_samples, n_features). It is cloned and fitted by `fit`, and then
        every X is what it takes. None: every X holds descriptors.
    algorithm : {"auto", "exact", "pynndescent"}, default="auto"
        "exact" compares each query with the whole gallery by blocked matrix products, in bounded memory, and never
        misses. "pynndescent" walks a neighbourhood graph: much faster per query in a large gallery, but building it
        costs time (20 to 100 seconds of compilation alone in a fresh process) and a few neighbours are missed. A
        gallery of fewer than 4 times the degree of the graph in distinct vectors is searched exactly even so. "auto"
        takes "exact" up to 50,000 pictures and "pynndescent" above: at 20,000 and 100,000 pictures of 512 features
        exact search was measured to be cheaper end to end for fewer than 15,000 to 30,000 queries, and an exact query
        on 50,000 takes about 3 milliseconds.
    metric : {"cosine", "euclidean"}, default="cosine"
        "cosine" is 1 - cos(a, b), in [0, 2]; "euclidean" is the length of a - b. Both rank alike on unit vectors. They
        are computed from differences of the vectors, so that identical ones are at a distance of exactly 0 (for
        "cosine" once both are scaled to unit length).
    weights : {"distance", "uniform"}, default="distance"
        How neighbours vote in `predict` and `predict_proba`: by 1 / distance, or all alike.
    mode : {"distance", "connectivity"}, default="distance"
        What the graph of `transform` and `kneighbors_graph` holds: distances, or ones.
    on_invalid : {"raise", "skip"}, default="raise"
        Rows of NaN or infinity, and for "cosine" of zeros, cannot be compared. "raise" names them. "skip" leaves them
        out of the gallery (positions and ids keep their places, `skipped_` lists them) and gives such a query no
        results.
    engine_params : dict or None, default=None
        Parameters of the engine. For both `working_memory` (64), MiB of temporary arrays of exact search. For
        "pynndescent" `epsilon` (0.2), above 0: more finds more and takes longer; `n_neighbors` (30), the degree of
        the graph; `search_tree_leaf_budget` (16), leaves of the search tree that a walk starts from: one is not
        enough where pictures form well separated clusters; and `n_trees`, `leaf_size`, `n_iters`, `delta`,
        `max_candidates`, `diversify_prob`, `pruning_degree_multiplier`, `max_rptree_depth`, `low_memory` as in
        `pynndescent.NNDescent`.
    n_jobs : int or None, default=None
        Threads that build the graph of "pynndescent", as joblib counts them; more than there are cores are not used.
        Exact search uses the threads BLAS is set to, and changes no setting.
    random_state : int, RandomState instance or None, default=None
        Seed of "pynndescent". The same seed and the same number of threads repeat exactly. Exact search is not random.

    Attributes
    ----------
    n_samples_fit_ : int
        Number of pictures given to `fit`, skipped ones included.
    ids_ : ndarray of shape (n_samples_fit_,)
        Id of each picture.
    labels_ : ndarray of shape (n_samples_fit_,) or None
        The y given to `fit`.
    classes_ : ndarray of shape (n_classes,)
        Sorted values of y. Only if y was given.
    metadata_ : DataFrame or None
        The metadata given to `fit`, numbered by position.
    skipped_ : ndarray of shape (n_skipped,), intp
        Positions of the pictures left out by `on_invalid="skip"`.
    algorithm_ : {"exact", "pynndescent"}
        The engine in use.
    effective_metric_ : {"cosine", "euclidean"}
        The metric the gallery was built with.
    featurizer_ : transformer
        The fitted clone of `featurizer`. Only if there is one.
    n_features_in_ : int
        Number of features seen during `fit`. Only without `featurizer`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during `fit`. Only without `featurizer`, and if X has string names.

    See Also
    --------
    retrieve : Search with a whole Pipeline.
    sklearn.neighbors.NearestNeighbors : Neighbours in more metrics, without pictures, ids and labels.

    Notes
    -----
    It is not tagged a classifier. `GridSearchCV` therefore cuts folds in order, which leaves no relevant picture in
    the gallery if y is sorted: pass `cv=StratifiedKFold(5, shuffle=True)`.

    References
    ----------
    .. [1] W. Dong, M. Charikar and K. Li, "Efficient k-nearest neighbor graph construction for generic similarity
       measures", WWW 2011.

    Examples
    --------
    >>> from sklearn_psp import NearestImageRetriever
    >>> descriptors = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
    >>> gallery = NearestImageRetriever(n_neighbors=2).fit(descriptors, ["cat", "dog", "dog"], ids=["a", "b", "c"])
    >>> gallery.retrieve([[0.0, 2.0]])
       query  rank id  distance label
    0      0     1  b       0.0   dog
    1      0     2  c       0.2   dog
    >>> gallery.predict([[0.5, 0.5]])
    array(['dog'], dtype=object)
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "algorithm": [StrOptions({"auto", "exact", "pynndescent"})],
        "metric": [StrOptions({"cosine", "euclidean"})],
        "weights": [StrOptions({"distance", "uniform"})],
        "mode": [StrOptions({"distance", "connectivity"})],
        "on_invalid": [StrOptions({"raise", "skip"})],
        "engine_params": [dict, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_neighbors=10,
        *,
        featurizer=None,
        algorithm="auto",
        metric="cosine",
        weights="distance",
        mode="distance",
        on_invalid="raise",
        engine_params=None,
        n_jobs=None,
        random_state=None,
    ):
        self.n_neighbors = n_neighbors
        self.featurizer = featurizer
        self.algorithm = algorithm
        self.metric = metric
        self.weights = weights
        self.mode = mode
        self.on_invalid = on_invalid
        self.engine_params = engine_params
        self.n_jobs = n_jobs
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)  # featurizer is an estimator with parameters of its own
    def fit(self, X, y=None, ids=None, metadata=None):
        """Build the gallery.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or pictures
            Descriptors, searched as float32; with `featurizer` whatever that takes.
        y : array-like of shape (n_samples,), default=None
            Labels of any type, for `predict`, `score` and results. A missing one (None, NaN) equals nothing.
        ids : array-like of shape (n_samples,), default=None
            Unique ids, int or str. None: with `featurizer` the index of X, if that is a Series or a one-column
            DataFrame; else positions.
        metadata : DataFrame of n_samples rows, default=None
            One row a picture, in the order of X; its columns appear in the results of `retrieve`.

        Returns
        -------
        self : NearestImageRetriever
            The fitted retriever.

        Raises
        ------
        ValueError
            If a row cannot be searched and `on_invalid="raise"`, if no row can, or if y, ids or metadata do not fit X.
        """
        descriptors = self._fit_descriptors(X, y)
        rows = prepare_rows(descriptors, metric=self.metric, on_invalid=self.on_invalid, owner=type(self).__name__)
        if len(rows.vectors) == 0:
            raise ValueError(f"None of the {rows.n_rows} rows of X can be searched: all are NaN, infinity or zeros")
        if np.may_share_memory(rows.vectors, X if isinstance(X, np.ndarray) else descriptors):
            # A gallery must not change when the caller's array does.
            rows = rows._replace(vectors=rows.vectors.copy())

        n = rows.n_rows
        ids = check_ids(ids, n, default=None if self.featurizer is None else own_index(X))
        metadata = check_metadata(metadata, n, has_labels=y is not None)
        labels, classes, codes = (None, None, None) if y is None else check_labels(y, n)
        self.algorithm_, self._index, self._exact = build_index(
            rows.vectors,
            metric=self.metric,
            algorithm=self.algorithm,
            engine_params=self.engine_params,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        )
        self.ids_, self.metadata_, self.labels_, self._codes = ids, metadata, labels, codes
        if classes is not None:
            self.classes_ = classes
        elif hasattr(self, "classes_"):
            del self.classes_
        self._gallery = rows
        self._sources = None if self.featurizer is None else source_names(X)
        self.skipped_ = rows.skipped
        self.effective_metric_ = self.metric
        self.n_samples_fit_ = self._n_features_out = n
        return self

    def kneighbors(self, X=None, n_neighbors=None, return_distance=True):
        """Find the nearest pictures of each query.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or pictures, default=None
            The queries. None: each picture of the gallery in turn, which is then not its own neighbour.
        n_neighbors : int, default=None
            How many; None takes the parameter of the constructor.
        return_distance : bool, default=True
            Whether to return distances.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), float32
            Distances, ascending. Only if `return_distance`. NaN for a query that `on_invalid="skip"` skips.
        positions : ndarray of shape (n_queries, n_neighbors), intp
            Positions in the X given to `fit`; ties go to the smaller one. -1 for a query that is skipped.

        Raises
        ------
        ValueError
            If there are fewer pictures to be found than n_neighbors.
        """
        check_is_fitted(self)
        k = check_n_neighbors(n_neighbors, self.n_neighbors)
        distances, positions = self._search(self._queries(X), k, own=X is None)
        return (distances, positions) if return_distance else positions

    def kneighbors_graph(self, X=None, n_neighbors=None, mode=None):
        """Make the sparse graph from queries to their nearest pictures.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or pictures, default=None
            The queries. None: the gallery itself, without loops.
        n_neighbors : int, default=None
            Edges of each query; None takes the parameter of the constructor.
        mode : {"distance", "connectivity"}, default=None
            What edges hold; None takes the parameter of the constructor.

        Returns
        -------
        graph : csr_matrix of shape (n_queries, n_samples_fit_), float32
            The graph. A distance of 0 is stored as an explicit 0. The row of a skipped query is empty.
        """
        check_is_fitted(self)
        mode = self.mode if mode is None else mode
        if mode not in ("distance", "connectivity"):
            raise ValueError(f"mode must be 'distance' or 'connectivity'; got {mode!r}")
        distances, positions = self.kneighbors(X, n_neighbors)
        return neighbor_graph(distances, positions, self.n_samples_fit_, mode)

    def transform(self, X):
        """Make the sparse graph from queries to their nearest pictures, as `KNeighborsTransformer` does.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or pictures
            The queries.

        Returns
        -------
        graph : csr_matrix of shape (n_queries, n_samples_fit_), float32
            The graph. With mode "distance" each query has n_neighbors + 1 edges, because a picture of the gallery is
            its own nearest.
        """
        check_is_fitted(self)
        return self._transform_rows(self._queries(X))

    def fit_transform(self, X, y=None, ids=None, metadata=None):
        """Build the gallery and return its graph.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or pictures
            As for `fit`. Pictures are read once.
        y : array-like of shape (n_samples,), default=None
            As for `fit`.
        ids : array-like of shape (n_samples,), default=None
            As for `fit`.
        metadata : DataFrame of n_samples rows, default=None
            As for `fit`.

        Returns
        -------
        graph : csr_matrix of shape (n_samples, n_samples), float32
            As from `transform`.
        """
        return self.fit(X, y, ids=ids, metadata=metadata)._transform_rows(self._gallery)

    def retrieve(self, X=None, n_neighbors=None):
        """Find the nearest pictures of each query, as a table.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or pictures, default=None
            The queries. None: each picture of the gallery in turn, which is then not among its own results.
        n_neighbors : int, default=None
            How many; None takes the parameter of the constructor. Where fewer exist, all are returned.

        Returns
        -------
        results : DataFrame
            One row a result, best first for each query: `query` (its place in X, or its index if pictures are given
            as a Series or a one-column DataFrame, or its id for X=None), `rank` from 1, `id`, `distance`, `label` if
            y was given, and the columns of the metadata. A query skipped by `on_invalid="skip"` has no row.
        """
        check_is_fitted(self)
        return self._retrieve(X, n_neighbors, None if self.featurizer is None else own_index(X))

    def predict(self, X=None):
        """Predict the label of each query by the vote of its nearest pictures.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or pictures, default=None
            The queries. None: each picture of the gallery in turn, which does not vote for itself.

        Returns
        -------
        labels : ndarray of shape (n_queries,)
            The class with most votes; the first in `classes_` of those with equally many.

        Raises
        ------
        ValueError
            If y was not given to `fit`, or a query has no neighbour that votes (it was skipped): no label is made up.
        """
        shares = self.predict_proba(X)
        silent = np.flatnonzero(np.isnan(shares).all(axis=1))
        if len(silent):
            shown = ", ".join(map(str, silent[:10])) + (f" and {len(silent) - 10} more" if len(silent) > 10 else "")
            raise ValueError(
                f"Queries {shown} have no neighbour that votes (invalid rows under on_invalid='skip', or neighbours "
                "without a label), so they have no label. Drop them, or use predict_proba, which gives them NaN"
            )
        return self.classes_[np.argmax(shares, axis=1)]

    def predict_proba(self, X=None):
        """Share of the votes of the nearest pictures that each class has.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or pictures, default=None
            The queries. None: each picture of the gallery in turn, which does not vote for itself.

        Returns
        -------
        shares : ndarray of shape (n_queries, n_classes), float64
            Shares in the order of `classes_`, adding up to 1; NaN for a query without a neighbour that votes.

        Raises
        ------
        ValueError
            If y was not given to `fit`.
        """
        check_is_fitted(self)
        self._check_has_labels("predict and predict_proba")
        distances, positions = self._search(self._queries(X), self.n_neighbors, own=X is None)
        codes = np.where(positions >= 0, self._codes[positions], -1)
        return vote(distances, codes, len(self.classes_), self.weights)

    def score(self, X=None, y=None, sample_weight=None):
        """Mean average precision of the full exact ranking.

        Every picture of the gallery is ranked, never only `n_neighbors`, and exactly, whatever the engine. Memory is
        bounded by `working_memory`.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or pictures, default=None
            The queries. None: leave-one-out, each picture of the gallery against all others.
        y : array-like of shape (n_queries,), default=None
            Labels of the queries; only with X.
        sample_weight : array-like of shape (n_queries,), default=None
            Weights of the queries.

        Returns
        -------
        score : float
            The score in [0, 1]. Queries without a relevant picture in the gallery, and queries skipped by
            `on_invalid="skip"`, are left out.

        Raises
        ------
        ValueError
            If no query is left, which is what plain `KFold` on sorted labels leads to: use
            `StratifiedKFold(shuffle=True)`.
        """
        check_is_fitted(self)
        self._check_has_labels("score")
        if (X is None) != (y is None):
            raise ValueError("score needs X and y, or neither of them for leave-one-out on the gallery's own labels")
        rows = self._queries(X)
        if X is None:
            wanted = self._codes
        else:
            labels = check_labels(y, rows.n_rows)[0]
            wanted = pd.Index(self.classes_).get_indexer(as_label_array(labels))
        # Labels that are missing or unknown to the gallery must not match its own missing ones.
        wanted = np.where(wanted < 0, -2, wanted)
        precision = np.full(rows.n_rows, np.nan)
        for block, ranked in self._rankings(rows, own=X is None):
            precision[block] = average_precision(wanted[block, None] == self._codes[ranked])
        return mean_over_queries(precision, ~np.isnan(precision), sample_weight)

    def ranked_labels(self, X=None, k=None):
        """Rank the labels of the gallery for each query, exactly and a block of queries at a time.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or pictures, default=None
            The queries. None: each picture of the gallery in turn, which is left out of its own ranking.
        k : int, default=None
            Where to cut the rankings; None ranks the whole gallery.

        Returns
        -------
        blocks : iterator of (rows, y_ranked)
            `rows` is a slice of the queries, `y_ranked` an ndarray of shape (n_rows, n_ranked) with the labels, best
            first. Queries skipped by `on_invalid="skip"` come in blocks of their own, with n_ranked = 0.

        Raises
        ------
        ValueError
            If y was not given to `fit`.
        """
        check_is_fitted(self)
        self._check_has_labels("ranked_labels")
        k = check_n_neighbors(k, None)
        rows = self._queries(X)  # here, not in the generator: errors belong to the call
        return ((block, self.labels_[ranked]) for block, ranked in self._rankings(rows, own=X is None, k=k))

    def _transform_rows(self, rows):
        distances, positions = self._search(rows, self.n_neighbors + (self.mode == "distance"))
        return neighbor_graph(distances, positions, self.n_samples_fit_, self.mode)

    def _retrieve(self, X, n_neighbors, names):
        """Make the table of results, with `names` for the queries: their places if None, their ids if X is None."""
        k = check_n_neighbors(n_neighbors, self.n_neighbors)
        rows, own = self._queries(X), X is None
        if names is None:
            names = self.ids_ if own else np.arange(rows.n_rows)
        distances, positions = self._search(rows, min(k, self._index.n_samples - own), own=own)
        return result_table(
            names,
            distances,
            positions,
            ids=self.ids_,
            labels=self.labels_,
            metadata=self.metadata_,
        )

    def _check_has_labels(self, what):
        if self.labels_ is None:
            raise ValueError(f"{what} need{'s' if ' and ' not in what else ''} labels: call fit(X, y)")

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_gallery")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        if self.featurizer is not None:
            tags.input_tags = get_tags(self.featurizer).input_tags
        if self.on_invalid == "skip":
            tags.input_tags.allow_nan = True
        return tags
