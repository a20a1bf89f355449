"""Everything within a radius: neighbours, and groups of near-duplicates."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._retriever._duplicates import duplicate_pairs, group_pairs
from sklearn_psp._retriever._results import image_table

__all__ = ["WithinMixin"]

# With the default featurizer copies that were re-encoded, resized or mirrored were at most .05 from their originals,
# and the nearest image of another motif at .6. Of 1,000 photographs of ten subjects fewer than 5 have another within
# .05, but 20 have one within .11. Crops and rotations are further away (.1-.5): no radius tells them from look-alikes.
DUPLICATE_RADIUS = 0.05


class WithinMixin:
    """The verbs of `NearestImageRetriever` that take a radius."""

    def radius_neighbors(self, X=None, radius=None, return_distance=True):
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
        radius = _check_radius(radius, self.radius)
        gallery = self._gallery
        rows = self._queries(X, gallery)
        counts, distances, vectors = gallery.index.query_radius(rows.vectors, radius)
        if X is None:
            itself = np.arange(len(rows.vectors)) if gallery.vectors is None else gallery.vectors
            query = np.repeat(np.arange(len(counts)), counts)
            others = vectors != itself[query]
            counts = np.bincount(query[others], minlength=len(counts))
            distances, vectors = distances[others], vectors[others]
        per_row = np.zeros(rows.n_rows, dtype=np.intp)
        per_row[slice(None) if rows.kept is None else rows.kept] = counts
        ends = np.cumsum(per_row)[:-1]
        positions = _ragged(gallery.positions_at(vectors), ends, rows.n_rows)
        return (_ragged(distances, ends, rows.n_rows), positions) if return_distance else positions

    def find_duplicates(self, radius=None, *, chains=False):
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
            `PSPNetFeaturizer` finds copies that were re-encoded, resized or mirrored; has to be given for "euclidean".
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
        radius = _check_radius(radius, DUPLICATE_RADIUS)
        pairs = duplicate_pairs(gallery.index, radius)
        groups, vectors, distances = group_pairs(gallery.index.vectors, *pairs, metric=metric, chains=chains)
        return image_table({"group": groups}, distances, gallery.positions_at(vectors), gallery)


def _check_radius(radius, default):
    if radius is None:
        return float(default)
    if isinstance(radius, bool) or not isinstance(radius, Real) or not 0 <= radius < float("inf"):
        raise ValueError(f"radius must be a number >= 0; got {radius!r}")
    return float(radius)


def _ragged(values, ends, n_rows):
    out = np.empty(n_rows, dtype=object)
    out[:] = np.split(values, ends)
    return out
