"""Base of the retriever: an estimator that holds a gallery, builds it, changes it and shows it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_array, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_psp._indexes import Index, Settings, build_index, check_algorithm
from sklearn_psp._retriever._gallery import Entries, Gallery
from sklearn_psp._retriever._inputs import (
    Rows,
    check_added,
    check_alike,
    check_ids,
    check_labels,
    check_metadata,
    prepare_rows,
    refuse_images,
    refuse_sparse,
    refuse_unknown,
)
from sklearn_psp._retriever._radius import DUPLICATE_RADIUS, check_radius
from sklearn_psp.reranking import make_reranker
from sklearn_psp.utils._compat import _fit_context
from sklearn_psp.utils._descriptions import (
    Descriptions,
    describe,
    failures_frame,
    fit_describe,
    warn_of_failures,
)
from sklearn_psp.utils._validation import own_index, source_names

__all__ = ["BaseRetriever"]

# All that fit leaves behind, whatever the form of X.
_FEATURES = ("n_features_in_", "feature_names_in_")
_FITTED = ("_gallery", "_numbered", "featurizer_", *_FEATURES)
_NO_FAILURES = failures_frame()


class BaseRetriever(BaseEstimator):
    """Estimator that holds a gallery: it builds it, changes it and shows it; a subclass searches it.

    Parameters and fitted attributes are described at `NearestImageRetriever`. The attributes are views of `_gallery`:
    one assignment puts a new gallery in place of the old. A verb looks it up once, because another thread may put a
    new one there at any time.
    """

    _gallery: Gallery
    _numbered: int | None  # next id of images that are numbered; None where they have ids of their own

    @_fit_context(prefer_skip_nested_validation=False)  # featurizer is an estimator with parameters of its own
    def fit(self, X: Any, y: Any = None, ids: Any = None, metadata: pd.DataFrame | None = None) -> BaseRetriever:
        """Build the gallery. If that fails or is interrupted, everything stays as it was.

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
            If a row cannot be searched and `on_invalid="raise"` (an ImageReadError, if its image could not be used), if
            no row can, if y, ids or metadata do not fit X, or if `algorithm` or `engine_params` are not known.

        Warns
        -----
        RecallWarning
            If `target_recall` is not reached.
        ImageReadWarning
            If images could not be used and `on_invalid="skip"`; the warning's `errors` lists them.
        """
        return self._fit(X, y, ids, metadata)

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self, X: Any, y: Any = None, ids: Any = None, metadata: pd.DataFrame | None = None
    ) -> BaseRetriever:
        """Add images to the gallery; they are found from now on. The first call is `fit`.

        An image with an id that is there already takes the place of the old one, and stands at the end. What is added
        is searched exactly until the index is built anew, see `compact`. The featurizer is not fitted again.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As for `fit`.
        y : array-like of shape (n_samples,), default=None
            Labels; needed if the gallery has labels. None or NaN in y: no label.
        ids : array-like of shape (n_samples,), default=None
            Unique ids. None: with `featurizer` the index of X, if that is a Series or a one-column DataFrame, whose
            values must be new; else, if the images of the gallery are numbered, the next numbers.
        metadata : DataFrame of n_samples rows, default=None
            With the columns of the gallery's metadata; needed if the gallery has metadata.

        Returns
        -------
        self : NearestImageRetriever
            The retriever.

        Raises
        ------
        ValueError
            If X, y, ids or metadata do not fit the gallery. Nothing is added then.
        """
        if not self.__sklearn_is_fitted__():
            return self._fit(X, y, ids, metadata)
        gallery, numbered = self._gallery, self._numbered
        index = None if ids is not None else self._index_of(X)
        first = numbered if ids is None and index is None else None  # the next number, if ids are to go on

        def check(n):
            names = ids if first is None else np.arange(first, first + n)
            return check_added(names, index, n, gallery), *check_alike(gallery, y, metadata, n)

        checked = _check_early(X, check)
        described = self._describe(X, gallery)
        rows = self._prepare(described, gallery.index.metric)
        entries = self._entries(X, rows, checked, check)
        if first is not None:
            numbered = first + rows.n_rows
        elif (gallery.rows_with(entries.ids) < 0).any():
            numbered = None  # some have names of their own now
        gallery = self._kept_up(gallery.added(rows, entries))
        warn_of_failures(described.failures, "images cannot be searched and are left out of the gallery")
        self.__dict__.update(_gallery=gallery, _numbered=numbered)
        return self

    def remove(self, ids: Any) -> BaseRetriever:
        """Remove images from the gallery; they are not found from now on.

        Positions of the images after them move up. The last image may be removed too.

        Parameters
        ----------
        ids : array-like of shape (n,), or a single id
            Which images.

        Returns
        -------
        self : NearestImageRetriever
            The retriever.

        Raises
        ------
        UnknownIdError
            If no image has one of the ids. Nothing is removed then.
        """
        check_is_fitted(self)
        if isinstance(ids, str | bytes) or np.ndim(ids) == 0:
            ids = [ids]
        wanted = pd.Index(ids, tupleize_cols=False)
        rows = self._gallery.rows_with(wanted)
        refuse_unknown(wanted, rows)
        if len(rows):
            self._gallery = self._kept_up(self._gallery.removed(np.unique(rows)))
        return self

    def compact(self) -> BaseRetriever:
        """Build the index anew, without what was removed and with what was added.

        `partial_fit` and `remove` do so themselves, once a graph has grown by a tenth, an exactly searched gallery has
        doubled, or either has lost a fifth of its images, and at least 5,000. It takes as long as `fit` without the
        featurizer; "auto" chooses the engine anew. Results do not change, except for what an engine may miss.

        Returns
        -------
        self : NearestImageRetriever
            The retriever.
        """
        check_is_fitted(self)
        gallery = self._gallery
        if gallery.index.n_samples:
            self._gallery = gallery.compacted(partial(self._build, gallery.index.metric))
        return self

    def find_duplicates(self, radius: float | None = None, *, chains: bool = False) -> pd.DataFrame:
        """Find groups of near-duplicates in the gallery.

        Images within a radius of each other can form chains: a is near b, b near c, and so on to an image that has
        nothing to do with a. `chains=False` avoids this: each group has one image that all others of it lie within
        the radius of: the one with most images, not yet in a group, within its radius (star clustering, Aslam et al.
        2004), and the one to keep. `chains=True` puts together whatever is connected.

        With the engine "pynndescent" pairs are looked for along the graph, which may miss a few.

        Parameters
        ----------
        radius : float, default=None
            Largest distance, inclusive, in the metric. None: 0.05 for "cosine", which in descriptors of the default
            `PSPNetFeaturizer` finds duplicates that were re-encoded, resized or mirrored; has to be given for
            "euclidean".
        chains : bool, default=False
            Whether groups may be chains.

        Returns
        -------
        groups : DataFrame
            One row an image that has a near-duplicate: `group` (from 0, the largest first), `id`, `distance` (to the
            first of its group), `label` if there are labels, and the columns of the metadata. The first of each group
            is at a distance of 0.

        References
        ----------
        J. A. Aslam, E. Pelekhov and D. Rus, "The star clustering algorithm for static and dynamic information
        organization", Journal of Graph Algorithms and Applications 8 (1), 2004.
        """
        check_is_fitted(self)
        gallery = self._gallery
        metric = gallery.index.metric
        if radius is None and metric != "cosine":
            raise ValueError(
                f"find_duplicates needs a radius for metric={metric!r}: only cosine distances have a default"
            )
        return gallery.duplicates(check_radius(radius, DUPLICATE_RADIUS), chains=chains)

    @property
    def n_samples_fit_(self) -> int:
        return self._shown.n_images

    @property
    def _n_features_out(self) -> int:
        return self._shown.n_images

    @property
    def ids_(self) -> np.ndarray:
        return self._shown.of_positions(self._shown.ids.column)

    @property
    def labels_(self) -> npt.ArrayLike | None:
        gallery = self._shown
        return None if gallery.labels is None else gallery.of_positions(gallery.labels.column)

    @property
    def classes_(self) -> np.ndarray:
        labels = self._shown.labels
        if labels is None:
            raise AttributeError("classes_ is there only after fit(X, y)")
        return labels.classes

    @property
    def metadata_(self) -> pd.DataFrame | None:
        gallery = self._shown
        return None if gallery.metadata is None else gallery.of_positions(gallery.metadata)

    @property
    def sources_(self) -> np.ndarray | None:
        gallery = self._shown
        return None if gallery.sources is None else gallery.of_positions(gallery.sources)

    @property
    def skipped_(self) -> np.ndarray:
        return self._shown.skipped

    @property
    def algorithm_(self) -> str:
        return self._shown.algorithm

    @property
    def recall_(self) -> float:
        recall = self._shown.index.recall
        return 1.0 if recall is None else recall.value

    @property
    def recall_sample_size_(self) -> int:
        recall = self._shown.index.recall
        return 0 if recall is None else recall.n_queries

    @property
    def effective_metric_(self) -> str:
        return self._shown.index.metric

    @property
    def _shown(self) -> Gallery:
        gallery = self.__dict__.get("_gallery")
        if gallery is None:
            raise AttributeError(f"this {type(self).__name__} is not fitted")
        return gallery

    def __sklearn_is_fitted__(self) -> bool:
        return "_gallery" in self.__dict__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self.featurizer is not None:
            tags.input_tags = get_tags(self.featurizer).input_tags
        if self.on_invalid == "skip":
            tags.input_tags.allow_nan = True
        return tags

    def _fit(self, X, y, ids, metadata):
        fitted, failures = self._fitted(X, y, ids, metadata)
        warn_of_failures(failures, "images cannot be searched and are left out of the gallery")
        rest = {name: value for name, value in vars(self).items() if name not in _FITTED}
        # In one step: a fit that fails or is interrupted leaves the old gallery with the old featurizer.
        self.__dict__ = rest | fitted
        return self

    def _fitted(self, X, y, ids, metadata) -> tuple[dict[str, Any], pd.DataFrame]:
        """Return all that `fit` leaves behind, and the images that failed; the retriever is not changed."""
        index = self._index_of(X)
        check_algorithm(self.algorithm, self.engine_params)
        if self.reranker is not None:
            make_reranker(self.reranker)  # an unknown name is refused here, not at the first search

        def check(n):
            return (
                check_ids(ids, n, default=index),
                None if y is None else check_labels(y, n),
                check_metadata(metadata, n, has_labels=y is not None),
            )

        checked = _check_early(X, check)
        described, fitted = self._fit_descriptors(X, y)
        rows = self._prepare(described, self.metric)
        if len(rows.vectors) == 0:
            raise ValueError(f"None of the {rows.n_rows} rows of X can be searched: all are NaN, infinity or zeros")
        entries = self._entries(X, rows, checked, check)
        algorithm, engine = self._build(self.metric, *rows.filled())
        fitted["_numbered"] = rows.n_rows if ids is None and index is None else None
        fitted["_gallery"] = Gallery.of(engine, algorithm, entries)
        return fitted, described.failures

    def _fit_descriptors(self, X, y) -> tuple[Descriptions, dict[str, Any]]:
        if self.featurizer is not None:
            featurizer = clone(self.featurizer)
            with config_context(transform_output="default"):
                rows, failures = fit_describe(featurizer, X, y)
            return Descriptions(_checked_descriptors(rows), failures), {"featurizer_": featurizer}
        stand_in = copy(self)  # which validate_data may note the features on
        rows = self._check_descriptors(X, stand_in, reset=True)
        noted = {name: value for name, value in vars(stand_in).items() if name in _FEATURES}
        return Descriptions(rows, _NO_FAILURES), noted

    def _describe(self, X, gallery: Gallery) -> Descriptions:
        if self.featurizer is None:
            return Descriptions(self._check_descriptors(X, self, reset=False), _NO_FAILURES)
        with config_context(transform_output="default"):
            rows, failures = describe(self.featurizer_, X)
        rows, n_features = _checked_descriptors(rows), gallery.index.n_features
        if rows.shape[1] != n_features:
            raise ValueError(f"featurizer_ gave rows of {rows.shape[1]} features, but the gallery has {n_features}")
        return Descriptions(rows, failures)

    def _check_descriptors(self, X, noted_on, *, reset):
        # Nothing is left to check on such an array but its values, which prepare_rows does: validate_data takes 49 us.
        if (
            not reset
            and type(X) is np.ndarray
            and X.dtype == np.float32
            and X.ndim == 2
            and X.shape[1] == self.n_features_in_
            and len(X)
            and not hasattr(self, "feature_names_in_")
        ):
            return X
        refuse_sparse(X, "X")
        refuse_images(X)
        return validate_data(noted_on, X, reset=reset, dtype=np.float32, order="C", ensure_all_finite=False)

    def _prepare(self, described: Descriptions, metric: str) -> Rows:
        owner = type(self).__name__
        rows, failures = described
        return prepare_rows(rows, metric=metric, on_invalid=self.on_invalid, owner=owner, failures=failures)

    def _queries(self, X: Any, gallery: Gallery) -> Rows:
        """Bring queries to searchable rows; None stands for the images of the gallery."""
        if X is None:
            return gallery.own_queries()
        described = self._describe(X, gallery)
        rows = self._prepare(described, gallery.index.metric)
        if len(described.failures):
            warn_of_failures(described.failures, "images cannot be searched for and have no results")
        return rows

    def _entries(self, X, rows: Rows, checked, check) -> Entries:
        if checked is None or len(checked[0]) != rows.n_rows:
            checked = check(rows.n_rows)
        ids, labels, metadata = checked
        return Entries(ids, labels, metadata, None if self.featurizer is None else source_names(X))

    def _index_of(self, X):
        return None if self.featurizer is None else own_index(X)

    def _build(self, metric: str, vectors: np.ndarray, findable: np.ndarray | None) -> tuple[str, Index]:
        return build_index(
            vectors,
            metric=metric,
            algorithm=self.algorithm,
            findable=findable,
            settings=Settings(self.target_recall, self.n_neighbors, self.n_jobs, self.random_state),
            engine_params=self.engine_params,
        )

    def _kept_up(self, gallery: Gallery) -> Gallery:
        """Return the gallery with an index that is worth searching."""
        if gallery.index.stale and gallery.index.n_samples:
            return gallery.compacted(partial(self._build, gallery.index.metric))
        return gallery


def _checked_descriptors(rows):
    refuse_sparse(rows, "What featurizer_ gives")
    return check_array(
        rows, dtype=np.float32, order="C", ensure_all_finite=False, input_name="featurizer_.transform(X)"
    )


def _check_early(X: Any, check: Callable[[int], tuple]) -> tuple | None:
    """Check what belongs to images before they are described, which may take hours, if their number is known."""
    sized = isinstance(X, list | tuple | pd.Series | pd.DataFrame) or (isinstance(X, np.ndarray) and X.ndim > 0)
    return check(len(X)) if sized else None
