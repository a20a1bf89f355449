"""How a gallery comes to be and changes: fit, add, remove, compact."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._indexes import build_index
from sklearn_psp._retriever._gallery import Gallery, Images
from sklearn_psp._retriever._inputs import (
    check_added,
    check_ids,
    check_labels,
    check_metadata,
    own_index,
    prepare_rows,
    refuse_unknown,
    source_names,
)
from sklearn_psp.utils._compat import _fit_context

__all__ = ["ChangesMixin"]


class ChangesMixin:
    """The verbs of `NearestImageRetriever` that change its gallery."""

    def _fit(self, X, y, ids, metadata):
        index = self._index_of(X)

        def check(n):
            return (
                check_ids(ids, n, default=index),
                None if y is None else check_labels(y, n),
                check_metadata(metadata, n, has_labels=y is not None),
            )

        checked = _check_early(X, check)
        descriptors = self._fit_descriptors(X, y)
        rows = prepare_rows(descriptors, metric=self.metric, on_invalid=self.on_invalid, owner=type(self).__name__)
        if len(rows.vectors) == 0:
            raise ValueError(f"None of the {rows.n_rows} rows of X can be searched: all are NaN, infinity or zeros")
        images = self._images(X, rows, checked, check)
        algorithm, engine = self._build(self.metric, rows.vectors)
        self._numbered = rows.n_rows if ids is None and index is None else None
        self._gallery = Gallery.of(engine, algorithm, rows, images)
        return self

    def _images(self, X, rows, checked, check):
        if checked is None or len(checked[0]) != rows.n_rows:
            checked = check(rows.n_rows)
        return Images(*checked, None if self.featurizer is None else source_names(X))

    def _index_of(self, X):
        return None if self.featurizer is None else own_index(X)

    def _build(self, metric, vectors):
        return build_index(
            vectors,
            metric=metric,
            algorithm=self.algorithm,
            target_recall=self.target_recall,
            recall_k=self.n_neighbors,
            engine_params=self.engine_params,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        )

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y=None, ids=None, metadata=None):
        """Add images to the gallery; they are found from now on. The first call is `fit`.

        An image with an id that is there already takes the place of the old one, and stands at the end. What is added
        is searched exactly until a graph is built anew, see `compact`. The featurizer is not fitted again.

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
        automatic = ids is None and index is None and numbered is not None

        def check(n):
            names = np.arange(numbered, numbered + n) if automatic else ids
            return check_added(names, index, n, gallery), *_match(gallery, y, metadata, n)

        checked = _check_early(X, check)
        rows = self._prepare(self._describe(X, gallery))
        images = self._images(X, rows, checked, check)
        if automatic:
            numbered += rows.n_rows
        elif (gallery.rows_with(images.ids) < 0).any():
            numbered = None  # some have names of their own now
        self._put(gallery.added(rows, images))
        self._numbered = numbered
        return self

    def remove(self, ids):
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
            self._put(self._gallery.removed(np.unique(rows)))
        return self

    def compact(self):
        """Build the index anew, without what was removed and with what was added.

        `partial_fit` and `remove` do so themselves, once a graph has grown by a tenth, an exactly searched gallery has
        doubled, or either has lost a fifth of its images, and at least 5,000. It takes as long as `fit` without the
        featurizer; "auto" chooses the engine anew. Results do not change, but for what a graph may miss.

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

    def _put(self, gallery):
        if gallery.index.worn and gallery.index.n_samples:
            gallery = gallery.compacted(partial(self._build, gallery.index.metric))
        self._gallery = gallery


def _check_early(X, check):
    """Check what belongs to images before they are described, which may take hours, if their number is known."""
    sized = isinstance(X, list | tuple | pd.Series | pd.DataFrame) or (isinstance(X, np.ndarray) and X.ndim > 0)
    return check(len(X)) if sized else None


def _match(gallery, y, metadata, n):
    """Check labels and metadata of added images: there if, and only if, the gallery has them."""
    if (y is None) != (gallery.labels is None):
        raise ValueError(
            "the gallery has labels: pass y, with None for images without a label"
            if y is None
            else "the gallery has no labels: leave y out, or fit again with labels"
        )
    if (metadata is None) != (gallery.metadata is None):
        raise ValueError(
            "the gallery has metadata: pass a DataFrame with the columns "
            f"{', '.join(map(repr, gallery.metadata.take(np.arange(0)).columns))}"
            if metadata is None
            else "the gallery has no metadata: leave metadata out, or fit again with metadata"
        )
    metadata = check_metadata(metadata, n, has_labels=y is not None)
    if metadata is not None:
        columns = gallery.metadata.take(np.arange(0)).columns
        if set(columns) != set(metadata.columns):
            raise ValueError(
                f"metadata must have the columns of the gallery's, {list(columns)}; got {list(metadata.columns)}"
            )
        metadata = metadata[list(columns)]
    return None if y is None else check_labels(y, n), metadata
