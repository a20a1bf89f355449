"""The inside of a retriever: X to searchable rows, rows to neighbours and to rankings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sklearn_psp._retriever._inputs import prepare_rows, refuse_pictures, refuse_sparse
from sklearn_psp._retriever._results import drop_self, spread, without_self
from sklearn_psp.utils._arrays import blocks

__all__ = ["GalleryMixin"]

# Queries whose rankings are cut at k are ranked this many at a time.
_RANKED_ROWS = 1024


class GalleryMixin:
    """What the verbs of `NearestImageRetriever` share.

    It reads the parameters, and of the fitted state `_gallery` (`Rows`), `_index` and `_exact` (engines over the kept
    rows of the gallery), `skipped_`, `n_samples_fit_` and `effective_metric_`. Engines know positions among the kept
    rows only; everything that leaves this class is a position in the X of `fit`.
    """

    def _fit_descriptors(self, X, y):
        if self.featurizer is None:
            if hasattr(self, "featurizer_"):
                del self.featurizer_
            return self._check_descriptors(X, reset=True)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                delattr(self, name)
        self.featurizer_ = clone(self.featurizer)
        if hasattr(self.featurizer_, "fit_transform"):
            return self._check_featurized(self.featurizer_.fit_transform(X, y))
        return self._check_featurized(self.featurizer_.fit(X, y).transform(X))

    def _queries(self, X):
        """Bring queries to searchable rows."""
        if X is None:
            return self._gallery
        if self.featurizer is None:
            descriptors = self._check_descriptors(X, reset=False)
        else:
            descriptors = self._check_featurized(self.featurizer_.transform(X))
            if descriptors.shape[1] != self._gallery.vectors.shape[1]:
                raise ValueError(
                    f"featurizer_ gave queries of {descriptors.shape[1]} features, but the gallery has "
                    f"{self._gallery.vectors.shape[1]}"
                )
        metric = self.effective_metric_
        return prepare_rows(descriptors, metric=metric, on_invalid=self.on_invalid, owner=type(self).__name__)

    def _check_descriptors(self, X, *, reset):
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
        refuse_pictures(X)
        return validate_data(self, X, reset=reset, dtype=np.float32, order="C", ensure_all_finite=False)

    def _check_featurized(self, descriptors):
        refuse_sparse(descriptors, "What featurizer_ gives")
        return check_array(
            descriptors, dtype=np.float32, order="C", ensure_all_finite=False, input_name="featurizer_.transform(X)"
        )

    def _search(self, rows, k, *, own=False):
        """Find k neighbours of each row; positions in the X of fit, -1 and NaN for rows that were skipped."""
        available = self._index.n_samples - own
        if k > available:
            skipped = f" ({len(self.skipped_)} of them skipped as invalid)" if len(self.skipped_) else ""
            raise ValueError(
                f"Expected n_neighbors {'<' if own else '<='} n_samples_fit, but n_neighbors = {k}, "
                f"n_samples_fit = {self.n_samples_fit_}{skipped}, n_samples = {rows.n_rows}"
            )
        distances, positions = self._index.query(rows.vectors, k + own)
        if own:
            distances, positions = drop_self(distances, positions)
        if self._gallery.kept is not None:
            positions = self._gallery.kept[positions]
        return spread(distances, rows.kept, rows.n_rows, np.nan), spread(positions, rows.kept, rows.n_rows, -1)

    def _rankings(self, rows, *, own, k=None):
        """Yield slices of the queries with the exact order of the gallery, as positions in the X of fit."""
        kept = self._gallery.kept
        for block, searched in _runs(rows):
            if searched is None:
                yield block, np.empty((block.stop - block.start, 0), dtype=np.intp)
                continue
            for part, ranked in self._rank_exactly(rows.vectors[searched], k if k is None else k + own):
                if own:
                    ranked = without_self(ranked, searched.start + part.start)
                ranked = ranked if kept is None else kept[ranked]
                yield slice(block.start + part.start, block.start + part.stop), ranked

    def _rank_exactly(self, vectors, k):
        if k is None or k >= self._exact.n_samples:
            yield from self._exact.rank_all(vectors)
        else:
            for part in blocks(len(vectors), _RANKED_ROWS):
                yield part, self._exact.query(vectors[part], k)[1]


def _runs(rows):
    """Cut queries where searched and skipped rows meet: slices of X, with slices of the vectors (None if skipped)."""
    if rows.kept is None:
        yield slice(0, rows.n_rows), slice(0, rows.n_rows)
        return
    searched = np.zeros(rows.n_rows, dtype=bool)
    searched[rows.kept] = True
    before = np.concatenate(([0], np.cumsum(searched)))
    edges = [0, *(np.flatnonzero(np.diff(searched)) + 1), rows.n_rows]
    for start, stop in pairwise(edges):
        yield slice(start, stop), slice(before[start], before[stop]) if searched[start] else None
