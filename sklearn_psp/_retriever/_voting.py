"""What labels are good for: votes of neighbours, and scores of rankings."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._retriever._inputs import check_labels, check_n_neighbors
from sklearn_psp._retriever._results import vote
from sklearn_psp.metrics import average_precision
from sklearn_psp.utils._means import mean_over_queries

__all__ = ["VotingMixin"]


class VotingMixin:
    """The verbs of `NearestImageRetriever` that need labels."""

    def predict(self, X=None):
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
        check_is_fitted(self)
        gallery = self._gallery
        _check_has_labels(gallery, "predict and predict_proba")
        rows = self._queries(X, gallery)
        distances, positions = self._search(gallery, rows, self.n_neighbors, own=X is None)
        codes = np.where(positions >= 0, _codes_at(gallery, positions), -1)
        return vote(distances, codes, len(gallery.labels.classes), self.weights)

    def score(self, X=None, y=None, sample_weight=None):
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
        check_is_fitted(self)
        gallery = self._gallery
        _check_has_labels(gallery, "score")
        if (X is None) != (y is None):
            raise ValueError("score needs X and y, or neither of them for leave-one-out on the gallery's own labels")
        rows = self._queries(X, gallery)
        codes = gallery.of_positions(gallery.labels.codes)
        wanted = codes if X is None else gallery.labels.encode(check_labels(y, rows.n_rows))
        # Labels that are missing or unknown to the gallery must not match its own missing ones.
        wanted = np.where(wanted < 0, -2, wanted)
        precision = np.full(rows.n_rows, np.nan)
        for block, ranked in self._rankings(gallery, rows, own=X is None):
            precision[block] = average_precision(wanted[block, None] == codes[ranked])
        return mean_over_queries(precision, ~np.isnan(precision), sample_weight)

    def ranked_labels(self, X=None, k=None):
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
        check_is_fitted(self)
        gallery = self._gallery
        _check_has_labels(gallery, "ranked_labels")
        k = check_n_neighbors(k, None)
        rows = self._queries(X, gallery)  # here, not in the generator: errors belong to the call
        labels = gallery.of_positions(gallery.labels.column)
        return ((block, labels[ranked]) for block, ranked in self._rankings(gallery, rows, own=X is None, k=k))


def _codes_at(gallery, positions):
    """Class of the images at some positions, as a place in `classes`; -1 for a missing label."""
    rows = np.maximum(positions, 0) if gallery.rows is None else gallery.rows[np.maximum(positions, 0)]
    codes = gallery.labels.codes.take(rows.ravel()).reshape(positions.shape)
    return gallery.labels.ranks[codes]


def _check_has_labels(gallery, what):
    if gallery.labels is None:
        raise ValueError(f"{what} need{'s' if ' and ' not in what else ''} labels: call fit(X, y)")
