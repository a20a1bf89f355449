"""What a fitted retriever shows of its gallery."""

from __future__ import annotations

import numpy as np

__all__ = ["StateMixin"]


class StateMixin:
    """The fitted attributes of `NearestImageRetriever`, which is where they are described.

    They are views of `_gallery`, the whole of the state: one assignment puts a new gallery in place of the old.
    """

    @property
    def n_samples_fit_(self):
        return self._shown.n_images

    @property
    def _n_features_out(self):
        return self._shown.n_images

    @property
    def ids_(self):
        return self._shown.of_positions(self._shown.ids.column)

    @property
    def labels_(self):
        gallery = self._shown
        return None if gallery.labels is None else gallery.of_positions(gallery.labels.column)

    @property
    def classes_(self):
        if self._shown.labels is None:
            raise AttributeError("classes_ is there only after fit(X, y)")
        return self._shown.labels.classes

    @property
    def metadata_(self):
        gallery = self._shown
        return None if gallery.metadata is None else gallery.of_positions(gallery.metadata)

    @property
    def sources_(self):
        gallery = self._shown
        return None if gallery.sources is None else gallery.of_positions(gallery.sources)

    @property
    def skipped_(self):
        gallery = self._shown
        vectors = np.arange(gallery.index.n_vectors) if gallery.vectors is None else gallery.vectors
        return np.setdiff1d(np.arange(gallery.n_images), gallery.positions_at(vectors), assume_unique=True)

    @property
    def algorithm_(self):
        return self._shown.algorithm

    @property
    def recall_(self):
        graph = self._shown.index.graph
        return 1.0 if graph is None or graph.recall is None else graph.recall.value

    @property
    def recall_sample_size_(self):
        graph = self._shown.index.graph
        return 0 if graph is None or graph.recall is None else graph.recall.n_queries

    @property
    def effective_metric_(self):
        return self._shown.index.metric

    @property
    def _shown(self):
        gallery = self.__dict__.get("_gallery")
        if gallery is None:
            raise AttributeError(f"this {type(self).__name__} is not fitted")
        return gallery

    def __sklearn_is_fitted__(self):
        return "_gallery" in self.__dict__
