"""NearestImageRetriever: find the nearest images of a gallery."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._retriever._changes import ChangesMixin
from sklearn_psp._retriever._filters import vector_subset
from sklearn_psp._retriever._inputs import check_n_neighbors, own_index
from sklearn_psp._retriever._results import neighbor_graph, result_table
from sklearn_psp._retriever._search import SearchMixin
from sklearn_psp._retriever._state import StateMixin
from sklearn_psp._retriever._voting import VotingMixin
from sklearn_psp._retriever._within import WithinMixin
from sklearn_psp.reranking import make_reranker
from sklearn_psp.utils._compat import HasMethods, Interval, StrOptions, _fit_context

__all__ = ["NearestImageRetriever"]


class NearestImageRetriever(
    ChangesMixin,
    VotingMixin,
    WithinMixin,
    SearchMixin,
    StateMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
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
    algorithm : {"auto", "exact", "pynndescent"}, default="auto"
        "exact" compares each query with the whole gallery by blocked matrix products, in bounded memory, and never
        misses. "pynndescent" walks a neighbourhood graph: much faster per query in a large gallery, but building it
        costs time (20 to 100 seconds of compilation alone in a fresh process) and a few neighbours are missed. A
        gallery of fewer than 4 times the degree of the graph in distinct vectors is searched exactly even so. "auto"
        takes "exact" as long as images times features are at most 2^25 (65,536 images of 512 features), and
        "pynndescent" above: a query then takes a few milliseconds at most, and it is tens of thousands of queries
        before a graph has paid for its building (`benchmarks/search.py` prints both).
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
        Rows of NaN or infinity, and for "cosine" of zeros, cannot be compared. "raise" names them. "skip" leaves them
        out of the gallery (positions and ids keep their places, `skipped_` lists them) and gives such a query no
        results.
    engine_params : dict or None, default=None
        Parameters of the engine. For both `working_memory` (64), MiB of temporary arrays of exact search. For
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
    algorithm_ : {"exact", "pynndescent"}
        The engine in use.
    recall_ : float
        Share of the `n_neighbors` nearest that were found for held-out vectors when the graph was built; 1.0 for exact
        search, where nothing is measured.
    recall_sample_size_ : int
        How many vectors were held out for `recall_`; 0 for exact search.
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
        "algorithm": [StrOptions({"auto", "exact", "pynndescent"})],
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
        n_neighbors=10,
        *,
        radius=1.0,
        featurizer=None,
        algorithm="auto",
        metric="cosine",
        target_recall=0.95,
        reranker=None,
        weights="distance",
        mode="distance",
        on_invalid="raise",
        engine_params=None,
        n_jobs=None,
        random_state=None,
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

    @_fit_context(prefer_skip_nested_validation=False)  # featurizer is an estimator with parameters of its own
    def fit(self, X, y=None, ids=None, metadata=None):
        """Build the gallery.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            Descriptors, searched as float32; with `featurizer` whatever that takes.
        y : array-like of shape (n_samples,), default=None
            Labels of any type, for `predict`, `score` and results. A missing one (None, NaN) equals nothing.
        ids : array-like of shape (n_samples,), default=None
            Unique ids, int or str. None: with `featurizer` the index of X, if that is a Series or a one-column
            DataFrame; else positions.
        metadata : DataFrame of n_samples rows, default=None
            One row an image, in the order of X; its columns appear in the results of `retrieve`.

        Returns
        -------
        self : NearestImageRetriever
            The fitted retriever.

        Raises
        ------
        ValueError
            If a row cannot be searched and `on_invalid="raise"`, if no row can, or if y, ids or metadata do not fit X.

        Warns
        -----
        RecallWarning
            If `target_recall` is not reached.
        """
        make_reranker(self.reranker)  # an unknown name is refused here, not at the first search
        return self._fit(X, y, ids, metadata)

    def kneighbors(self, X=None, n_neighbors=None, return_distance=True):
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
        gallery = self._gallery
        distances, positions = self._search(gallery, self._queries(X, gallery), k, own=X is None)
        return (distances, positions) if return_distance else positions

    def kneighbors_graph(self, X=None, n_neighbors=None, mode=None):
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
        k = check_n_neighbors(n_neighbors, self.n_neighbors)
        gallery = self._gallery
        distances, positions = self._search(gallery, self._queries(X, gallery), k, own=X is None)
        return neighbor_graph(distances, positions, gallery.n_images, mode)

    def transform(self, X):
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
        return self._transform_rows(gallery, self._queries(X, gallery))

    def fit_transform(self, X, y=None, ids=None, metadata=None):
        """Build the gallery and return its graph.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As for `fit`. Images are read once.
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
        gallery = self.fit(X, y, ids=ids, metadata=metadata)._gallery
        return self._transform_rows(gallery, self._queries(None, gallery))

    def retrieve(self, X=None, n_neighbors=None, where=None):
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
        return self._retrieve(X, n_neighbors, where, None if self.featurizer is None else own_index(X))

    def _transform_rows(self, gallery, rows):
        distances, positions = self._search(gallery, rows, self.n_neighbors + (self.mode == "distance"))
        return neighbor_graph(distances, positions, gallery.n_images, self.mode)

    def _retrieve(self, X, n_neighbors, where, names):
        """Make the table of results, with `names` for the queries: their places if None, their ids if X is None."""
        gallery = self._gallery
        k = check_n_neighbors(n_neighbors, self.n_neighbors)
        rows, own = self._queries(X, gallery), X is None
        if names is None:
            names = gallery.of_positions(gallery.ids.column) if own else np.arange(rows.n_rows)
        subset = vector_subset(where, gallery)
        distances, positions = self._search(gallery, rows, k, own=own, subset=subset, fewer=True)
        return result_table(names, distances, positions, gallery)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        if self.featurizer is not None:
            tags.input_tags = get_tags(self.featurizer).input_tags
        if self.on_invalid == "skip":
            tags.input_tags.allow_nan = True
        return tags
