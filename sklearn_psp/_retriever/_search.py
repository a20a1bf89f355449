"""The inside of a retriever: X to searchable rows, rows to neighbours and to rankings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sklearn_psp._retriever._inputs import Rows, prepare_rows, refuse_images, refuse_sparse
from sklearn_psp._retriever._results import drop_self, head_first, spread, without_self
from sklearn_psp.reranking import make_reranker
from sklearn_psp.utils._arrays import blocks

__all__ = ["SearchMixin", "searched_vectors"]

# Queries whose rankings are cut at k are ranked this many at a time.
_RANKED_ROWS = 1024


class SearchMixin:
    """What the verbs of `NearestImageRetriever` share.

    It reads the parameters and, of the fitted state, `_gallery`, which it looks up once a call: another thread may
    put a new one in its place. Indexes count vectors; everything that leaves this class is a position.
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

    def _queries(self, X, gallery):
        """Bring queries to searchable rows; None stands for the images of the gallery."""
        if X is None:
            vectors, kept = gallery.index.vectors, gallery.row_of_vector
            if gallery.vectors is not None:
                vectors, kept = vectors[gallery.vectors], gallery.positions_at(gallery.vectors)
                kept = None if len(kept) == gallery.n_images else kept
            return Rows(vectors, kept, gallery.n_images)
        return self._prepare(self._describe(X, gallery))

    def _describe(self, X, gallery):
        if self.featurizer is None:
            return self._check_descriptors(X, reset=False)
        descriptors = self._check_featurized(self.featurizer_.transform(X))
        n_features = gallery.index.vectors.shape[1]
        if descriptors.shape[1] != n_features:
            raise ValueError(
                f"featurizer_ gave rows of {descriptors.shape[1]} features, but the gallery has {n_features}"
            )
        return descriptors

    def _prepare(self, descriptors):
        return prepare_rows(
            descriptors, metric=self._gallery.index.metric, on_invalid=self.on_invalid, owner=type(self).__name__
        )

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
        refuse_images(X)
        return validate_data(self, X, reset=reset, dtype=np.float32, order="C", ensure_all_finite=False)

    def _check_featurized(self, descriptors):
        refuse_sparse(descriptors, "What featurizer_ gives")
        return check_array(
            descriptors, dtype=np.float32, order="C", ensure_all_finite=False, input_name="featurizer_.transform(X)"
        )

    def _search(self, gallery, rows, k, *, own=False, subset=None, fewer=False):
        """Find k neighbours of each row; positions, and -1 and NaN for rows that were skipped.

        With `fewer` less than k are found where no more exist, and the places left over are -1 and NaN.
        """
        index, view = gallery.index, _View(gallery.index, subset)
        own_vectors = _own_vectors(gallery) if own else None
        # The query itself is among those that can be found, unless a filter leaves it out.
        available = view.n_samples - (own and (subset is None or subset.mask[own_vectors].any()))
        if fewer:
            k = min(k, view.n_samples - (own and subset is None))
        elif k > available:
            skipped = f" ({gallery.n_images - index.n_samples} of them skipped as invalid)"
            raise ValueError(
                f"Expected n_neighbors {'<' if own else '<='} n_samples_fit, but n_neighbors = {k}, "
                f"n_samples_fit = {gallery.n_images}{skipped if index.n_samples < gallery.n_images else ''}, "
                f"n_samples = {rows.n_rows}"
            )
        reranker = self._reranker(gallery)
        if reranker is not None and k:
            distances, vectors = _rerank(reranker, rows.vectors, k, view, own_vectors, subset)
        elif own:
            distances, vectors = view.query(rows.vectors, min(k + 1, view.n_samples))
            distances, vectors = drop_self(distances, vectors, own_vectors, k)
        else:
            distances, vectors = view.query(rows.vectors, k)
        positions = np.where(vectors < 0, -1, gallery.positions_at(vectors)) if own else gallery.positions_at(vectors)
        return spread(distances, rows.kept, rows.n_rows, np.nan), spread(positions, rows.kept, rows.n_rows, -1)

    def _reranker(self, gallery):
        """Return the re-ranker fitted to the gallery: parameters that were set since take effect."""
        reranker = make_reranker(self.reranker)
        if reranker is None:
            return None
        key = (type(reranker), repr(sorted(reranker.get_params().items())))
        if key not in gallery.reranked:
            gallery.reranked.clear()
            gallery.reranked[key] = clone(reranker).fit(gallery.index.vectors, index=_View(gallery.index, None))
        return gallery.reranked[key]

    def _rankings(self, gallery, rows, *, own, k=None):
        """Yield slices of the queries with the exact order of the gallery, as positions."""
        own_vectors = _own_vectors(gallery) if own else None
        for block, searched in _runs(rows):
            if searched is None:
                yield block, np.empty((block.stop - block.start, 0), dtype=np.intp)
                continue
            selves = None if own_vectors is None else own_vectors[searched]
            for part, ranked in self._rank_exactly(gallery, rows.vectors[searched], selves, k):
                yield slice(block.start + part.start, block.start + part.stop), gallery.positions_at(ranked)

    def _rank_exactly(self, gallery, vectors, selves, k):
        index, own = gallery.index, selves is not None
        view, reranker = _ExactView(index), self._reranker(gallery)
        if k is None or k + own >= view.n_samples:
            for part, ranked in index.exact.rank_all(vectors, index.subset()):
                ranked = without_self(ranked, selves[part]) if own else ranked
                if reranker is not None and ranked.shape[1]:
                    head = int(min(reranker.shortlist, ranked.shape[1]))
                    first = reranker.rerank(vectors[part], head, index=view, own=selves[part] if own else None)[1]
                    ranked = head_first(first, ranked)
                yield part, ranked
            return
        for part in blocks(len(vectors), _RANKED_ROWS):
            if reranker is not None:
                yield part, reranker.rerank(vectors[part], k, index=view, own=selves[part] if own else None)[1]
            elif own:
                distances, ranked = view.query(vectors[part], k + 1)
                yield part, drop_self(distances, ranked, selves[part], k)[1]
            else:
                yield part, view.query(vectors[part], k)[1]


def searched_vectors(retriever):
    """Return the descriptors of a gallery as they are compared: (n_vectors, n_features), float32; skipped ones not."""
    return retriever._queries(None, retriever._gallery).vectors


class _View:
    """What may be found in an index, as an index."""

    def __init__(self, index, subset):
        self._index, self._subset = index, subset
        self.n_samples = index.n_samples if subset is None else subset.count

    def query(self, Q, k):
        return self._index.query(Q, k, self._subset)


class _ExactView:
    """Exact search of what has not been removed from an index, as an index."""

    def __init__(self, index):
        self._index = index
        self.n_samples = index.n_samples

    def query(self, Q, k):
        return self._index.exact.query(Q, k, self._index.subset())


def _rerank(reranker, Q, k, view, own_vectors, subset):
    """Re-rank; queries that are among what can be found have one result less where all of it is asked for."""
    if own_vectors is None or k < view.n_samples:
        return reranker.rerank(Q, k, index=view, own=own_vectors)
    distances, vectors = np.full((len(Q), k), np.nan, dtype=np.float32), np.full((len(Q), k), -1, dtype=np.intp)
    inside = subset.mask[own_vectors]
    for rows, n in ((np.flatnonzero(~inside), k), (np.flatnonzero(inside), k - 1)):
        if len(rows) and n:
            found = reranker.rerank(Q[rows], n, index=view, own=own_vectors[rows])
            distances[rows, :n], vectors[rows, :n] = found
    return distances, vectors


def _own_vectors(gallery):
    return np.arange(gallery.index.n_vectors) if gallery.vectors is None else gallery.vectors


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
