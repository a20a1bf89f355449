"""NearestImageRetriever: find the nearest images of a gallery."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._retriever._base import BaseRetriever
from sklearn_psp._retriever._inputs import check_labels, check_n_neighbors
from sklearn_psp._retriever._radius import check_radius
from sklearn_psp._retriever._results import class_shares, neighbor_graph, predicted, result_table
from sklearn_psp.metrics import average_precision
from sklearn_psp.utils._compat import HasMethods, Interval, StrOptions
from sklearn_psp.utils._means import mean_over_queries
from sklearn_psp.utils._validation import own_index

__all__ = ["NearestImageRetriever"]


class NearestImageRetriever(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseRetriever):
    """Find the nearest images of a gallery, and vote, draw graphs and score with them.

    The gallery is given as descriptors, usually by a `PSPNetFeaturizer` before it in a `Pipeline`, or as images
    together with a `featurizer`. It is searched exactly or with PyNNDescent [1]_. Images can be added and removed at
    any time, results filtered and re-ranked.

    Parameters
    ----------
    n_neighbors : int, default=10
        How many images to find for each query.
    radius : float, default=1.0
        Largest distance for `radius_neighbors`, in the metric.
    featurizer : transformer or None, default=None
        Turns images into descriptors of shape (n_samples, n_features). It is cloned and fitted by `fit`, and then
        every X is what it takes. None: every X holds descriptors.
    algorithm : {"auto", "exact", "pynndescent"} or str, default="auto"
        "exact" compares each query with the whole gallery by blocked matrix products, in bounded memory, and never
        misses. "pynndescent" walks a neighbourhood graph: much faster per query in a large gallery, but building it
        costs time (20 to 100 seconds of compilation alone in a fresh process) and a few neighbours are missed. A
        gallery of fewer than 4 times the degree of the graph in distinct vectors is searched exactly even so. "auto"
        takes "exact" as long as images times features are at most 2^25 (65,536 images of 512 features), and
        "pynndescent" above: a query then takes a few milliseconds at most, and it is tens of thousands of queries
        before a graph has paid for its building (`benchmarks/search.py` prints both). Any other str is the name of an
        engine that was added with `register_engine`, or the place of one, "package.module:Name".
    metric : {"cosine", "euclidean"}, default="cosine"
        "cosine" is 1 - cos(a, b), in [0, 2]; "euclidean" is the length of a - b. Both rank alike on unit vectors. They
        are computed from differences of the vectors, so that identical ones are at a distance of exactly 0 (for
        "cosine" once both are scaled to unit length).
    target_recall : float in (0, 1] or None, default=0.95
        Share of the `n_neighbors` nearest that "pynndescent" is to find. At fit some vectors are held out and searched
        exactly, and `epsilon`, `search_tree_leaf_budget` and, if need be, the degree of the graph are set so that the
        target holds; `recall_` is what was measured. None takes the engine's parameters as they are.
    reranker : str, re-ranker or None, default=None
        Puts the first results into a better order by the neighbours within the gallery. A name stands for a re-ranker
        with its defaults: those of `sklearn_psp.reranking.make_reranker`, those added with `register_reranker`, or
        "package.module:Name". Distances are then those of the re-ranker. All verbs use it except `radius_neighbors`
        and `find_duplicates`.
    weights : {"distance", "uniform"}, default="distance"
        How neighbours vote in `predict` and `predict_proba`: by 1 / distance, or all alike.
    mode : {"distance", "connectivity"}, default="distance"
        What the graph of `transform` and `kneighbors_graph` holds: distances, or ones.
    on_invalid : {"raise", "skip"}, default="raise"
        Rows of NaN or infinity, and for "cosine" of zeros, cannot be compared. "raise" names them, and of an image that
        the featurizer could not use the reason. "skip" leaves them out of the gallery (positions and ids keep their
        places, `skipped_` lists them; each takes the memory of a vector) and gives such a query no results; one
        ImageReadWarning lists the images that could not be used.
    engine_params : dict or None, default=None
        Parameters of the engine. For all in memory `working_memory` (64), MiB of temporary arrays of exact search. For
        "pynndescent" `epsilon` (set by `target_recall`), above 0: more finds more and takes longer; `n_neighbors` (30,
        or more if `target_recall` needs it), the degree of the graph; `search_tree_leaf_budget` (16, or more), leaves
        of the search tree that a walk starts from: few are not enough where images form many separate clusters; and
        `n_trees`, `leaf_size`, `n_iters`, `delta`, `max_candidates`, `diversify_prob`, `pruning_degree_multiplier`,
        `max_rptree_depth`, `low_memory` as in `pynndescent.NNDescent`.
    n_jobs : int or None, default=None
        Threads that build the graph of "pynndescent", as joblib counts them; more than there are cores are not used.
        Exact search uses the threads BLAS is set to, and changes no setting.
    random_state : int, RandomState instance or None, default=None
        Seed of "pynndescent". The same seed and the same number of threads repeat exactly. Exact search is not random.

    Attributes
    ----------
    n_samples_fit_ : int
        Number of images in the gallery, skipped ones included.
    ids_ : ndarray of shape (n_samples_fit_,)
        Id of each image, in the order they came. A *position*, as `kneighbors` returns it, is a place in this array;
        removing an image moves those after it.
    labels_ : ndarray of shape (n_samples_fit_,) or None
        Label of each image.
    classes_ : ndarray of shape (n_classes,)
        Sorted values of all labels given so far. Only if there are labels.
    metadata_ : DataFrame or None
        The metadata, numbered by position.
    sources_ : ndarray of shape (n_samples_fit_,), object, or None
        With `featurizer` the paths of the images, None for those without; None if no image has one.
    skipped_ : ndarray of shape (n_skipped,), intp
        Positions of the images left out by `on_invalid="skip"`.
    algorithm_ : str
        The engine in use, such as "exact" or "pynndescent".
    recall_ : float
        Share of the `n_neighbors` nearest that were found for held-out vectors when the index was built; 1.0 for an
        engine that misses nothing, where nothing is measured.
    recall_sample_size_ : int
        How many vectors were held out for `recall_`; 0 where nothing was measured.
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
    register_engine : Add an engine.
    sklearn.neighbors.NearestNeighbors : Neighbours in more metrics, without images, ids and labels.

    Notes
    -----
    It is not tagged a classifier. `GridSearchCV` therefore cuts folds in order, which leaves no relevant image in
    the gallery if y is sorted: pass `cv=StratifiedKFold(5, shuffle=True)`.

    Any number of threads may search at once, also while one other adds or removes: each call sees the gallery as it was
    when it began. Only one thread at a time may add or remove.

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
    >>> gallery.partial_fit([[0.1, 0.9]], ["owl"], ids=["d"]).remove(["b"]).retrieve([[0.0, 2.0]], 1)["id"].tolist()
    ['d']
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="left")],
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "algorithm": [str],
        "metric": [StrOptions({"cosine", "euclidean"})],
        "target_recall": [Interval(Real, 0, 1, closed="right"), None],
        "reranker": [str, HasMethods(["fit", "rerank"]), None],
        "weights": [StrOptions({"distance", "uniform"})],
        "mode": [StrOptions({"distance", "connectivity"})],
        "on_invalid": [StrOptions({"raise", "skip"})],
        "engine_params": [dict, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_neighbors: int = 10,
        *,
        radius: float = 1.0,
        featurizer: Any = None,
        algorithm: str = "auto",
        metric: str = "cosine",
        target_recall: float | None = 0.95,
        reranker: Any = None,
        weights: str = "distance",
        mode: str = "distance",
        on_invalid: str = "raise",
        engine_params: dict[str, Any] | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.featurizer = featurizer
        self.algorithm = algorithm
        self.metric = metric
        self.target_recall = target_recall
        self.reranker = reranker
        self.weights = weights
        self.mode = mode
        self.on_invalid = on_invalid
        self.engine_params = engine_params
        self.n_jobs = n_jobs
        self.random_state = random_state

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Find the nearest images of each query.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images, default=None
            The queries. None: each image of the gallery in turn, which is then not its own neighbour.
        n_neighbors : int, default=None
            How many; None takes the parameter of the constructor.
        return_distance : bool, default=True
            Whether to return distances.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), float32
            Distances, ascending. Only if `return_distance`. NaN for a query that `on_invalid="skip"` skips.
        positions : ndarray of shape (n_queries, n_neighbors), intp
            Positions in `ids_`; ties go to the smaller one. -1 for a query that is skipped.

        Raises
        ------
        ValueError
            If there are fewer images to be found than n_neighbors.
        """
        check_is_fitted(self)
        k = check_n_neighbors(n_neighbors, self.n_neighbors)
        distances, positions = self._search(self._gallery, X, k)
        return (distances, positions) if return_distance else positions

    def kneighbors_graph(self, X: Any = None, n_neighbors: int | None = None, mode: str | None = None) -> csr_matrix:
        """Make the sparse graph from queries to their nearest images.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images, default=None
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
        k, gallery = check_n_neighbors(n_neighbors, self.n_neighbors), self._gallery
        distances, positions = self._search(gallery, X, k)
        return neighbor_graph(distances, positions, gallery.n_images, mode)

    def transform(self, X: Any) -> csr_matrix:
        """Make the sparse graph from queries to their nearest images, as `KNeighborsTransformer` does.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images
            The queries.

        Returns
        -------
        graph : csr_matrix of shape (n_queries, n_samples_fit_), float32
            The graph. With mode "distance" each query has n_neighbors + 1 edges, because an image of the gallery is
            its own nearest.
        """
        check_is_fitted(self)
        gallery = self._gallery
        return self._graph(gallery, self._queries(X, gallery))

    def fit_transform(self, X: Any, y: Any = None, ids: Any = None, metadata: pd.DataFrame | None = None) -> csr_matrix:
        """Build the gallery and return its graph.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As for `fit`. Images are read once.
        y, ids : array-like of shape (n_samples,), default=None
            As for `fit`.
        metadata : DataFrame of n_samples rows, default=None
            As for `fit`.

        Returns
        -------
        graph : csr_matrix of shape (n_samples, n_samples), float32
            As from `transform`.
        """
        self.fit(X, y, ids=ids, metadata=metadata)
        gallery = self._gallery
        return self._graph(gallery, gallery.own_queries())

    def _graph(self, gallery, rows):
        k = self.n_neighbors + (self.mode == "distance")
        distances, positions = gallery.search(rows, k, reranker=self.reranker)
        return neighbor_graph(distances, positions, gallery.n_images, self.mode)

    def retrieve(self, X: Any = None, n_neighbors: int | None = None, where: Any = None) -> pd.DataFrame:
        """Find the nearest images of each query, as a table.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images, default=None
            The queries. None: each image of the gallery in turn, which is then not among its own results.
        n_neighbors : int, default=None
            How many; None takes the parameter of the constructor. Where fewer exist, all are returned.
        where : array-like of shape (n_samples_fit_,), bool, or list of ids, or callable, default=None
            Which images may be results: a mask by position, their ids, or a function that is given `metadata_` and
            returns a mask. Narrow choices are searched exactly.

        Returns
        -------
        results : DataFrame
            One row a result, best first for each query: `query` (its place in X, or its index if images are given
            as a Series or a one-column DataFrame, or its id for X=None), `rank` from 1, `id`, `distance`, `label` if
            y was given, and the columns of the metadata. A query skipped by `on_invalid="skip"` has no row.

        Raises
        ------
        UnknownIdError
            If `where` names an id that no image has.
        """
        check_is_fitted(self)
        gallery, own = self._gallery, X is None
        k = check_n_neighbors(n_neighbors, self.n_neighbors)
        rows = self._queries(X, gallery)
        names = gallery.of_positions(gallery.ids.column) if own else None if self.featurizer is None else own_index(X)
        subset = gallery.filtered(where)
        found = gallery.search(rows, k, own=own, subset=subset, fewer=True, reranker=self.reranker)
        return result_table(np.arange(rows.n_rows) if names is None else names, *found, gallery)

    def radius_neighbors(self, X: Any = None, radius: float | None = None, return_distance: bool = True) -> Any:
        """Find all images within a radius of each query, exactly, whatever the engine.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images, default=None
            The queries. None: each image of the gallery in turn, which is then not among its own results.
        radius : float, default=None
            Largest distance, inclusive, in the metric; None takes the parameter of the constructor.
        return_distance : bool, default=True
            Whether to return distances.

        Returns
        -------
        distances : ndarray of shape (n_queries,), object
            For each query an array of distances, float32, ascending. Only if `return_distance`.
        positions : ndarray of shape (n_queries,), object
            For each query an array of positions in `ids_`, intp. Empty for a query that is skipped.
        """
        check_is_fitted(self)
        radius, gallery = check_radius(radius, self.radius), self._gallery
        distances, positions = gallery.within(self._queries(X, gallery), radius, own=X is None)
        return (distances, positions) if return_distance else positions

    def predict(self, X: Any = None) -> np.ndarray:
        """Predict the label of each query by the vote of its nearest images.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images, default=None
            The queries. None: each image of the gallery in turn, which does not vote for itself.

        Returns
        -------
        labels : ndarray of shape (n_queries,)
            The class with most votes; the first in `classes_` of those with equally many.

        Raises
        ------
        ValueError
            If y was not given to `fit`, or a query has no neighbour that votes (it was skipped): no label is made up.
        """
        return predicted(*self._votes(X))

    def predict_proba(self, X: Any = None) -> np.ndarray:
        """Share of the votes of the nearest images that each class has.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images, default=None
            The queries. None: each image of the gallery in turn, which does not vote for itself.

        Returns
        -------
        shares : ndarray of shape (n_queries, n_classes), float64
            Shares in the order of `classes_`, adding up to 1; NaN for a query without a neighbour that votes.

        Raises
        ------
        ValueError
            If y was not given to `fit`.
        """
        return self._votes(X)[0]

    def score(self, X: Any = None, y: Any = None, sample_weight: npt.ArrayLike | None = None) -> float:
        """Mean average precision of the full exact ranking.

        Every image of the gallery is ranked, never only `n_neighbors`, and exactly, whatever the engine. Memory is
        bounded by `working_memory`.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images, default=None
            The queries. None: leave-one-out, each image of the gallery against all others.
        y : array-like of shape (n_queries,), default=None
            Labels of the queries; only with X.
        sample_weight : array-like of shape (n_queries,), default=None
            Weights of the queries.

        Returns
        -------
        score : float
            The score in [0, 1]. Queries without a relevant image in the gallery, and queries skipped by
            `on_invalid="skip"`, are left out.

        Raises
        ------
        ValueError
            If no query is left, which is what plain `KFold` on sorted labels leads to: use
            `StratifiedKFold(shuffle=True)`.
        """
        gallery = self._labelled("score needs")
        if (X is None) != (y is None):
            raise ValueError("score needs X and y, or neither of them for leave-one-out on the gallery's own labels")
        rows = self._queries(X, gallery)
        codes = gallery.of_positions(gallery.labels.codes)
        wanted = codes if X is None else gallery.labels.encode(check_labels(y, rows.n_rows))
        # Labels that are missing or unknown to the gallery must not match its own missing ones.
        wanted = np.where(wanted < 0, -2, wanted)
        precision = np.full(rows.n_rows, np.nan)
        for block, ranked in gallery.rankings(rows, own=X is None, reranker=self.reranker):
            precision[block] = average_precision(wanted[block, None] == codes[ranked])
        return mean_over_queries(precision, ~np.isnan(precision), sample_weight)

    def ranked_labels(self, X: Any = None, k: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Rank the labels of the gallery for each query, exactly and a block of queries at a time.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images, default=None
            The queries. None: each image of the gallery in turn, which is left out of its own ranking.
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
        gallery = self._labelled("ranked_labels needs")
        k = check_n_neighbors(k, None)
        rows = self._queries(X, gallery)  # here, not in the generator: errors belong to the call
        labels = gallery.of_positions(gallery.labels.column)
        ranked = gallery.rankings(rows, own=X is None, k=k, reranker=self.reranker)
        return ((block, labels[positions]) for block, positions in ranked)

    def _search(self, gallery, X, k):
        return gallery.search(self._queries(X, gallery), k, own=X is None, reranker=self.reranker)

    def _votes(self, X):
        """Return the share of the votes that each class has, for each query, and the classes."""
        gallery = self._labelled("predict and predict_proba need")
        distances, positions = self._search(gallery, X, self.n_neighbors)
        classes = gallery.labels.classes
        return class_shares(distances, gallery.codes_at(positions), len(classes), self.weights), classes

    def _labelled(self, what):
        """Return the gallery, which must have labels."""
        check_is_fitted(self)
        gallery = self._gallery
        if gallery.labels is None:
            raise ValueError(f"{what} labels: call fit(X, y)")
        return gallery

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
