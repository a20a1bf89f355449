"""A classifier of images that is right, and many that are wrong in one way each."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from common.transformers import ColourGrid
from sklearn_psp.exceptions import ImageReadError, ImageReadWarning


class ColourClassifier(ClassifierMixin, BaseEstimator):
    """The class of the nearest mean of colours on a coarse grid."""

    def __init__(self, size=4, *, on_error="raise"):
        self.size = size
        self.on_error = on_error

    def fit(self, X, y, sample_weight=None):
        """Learn the means."""
        y, rows = np.asarray(y), self.rows(X)
        weights = np.ones(len(y)) if sample_weight is None else self.weights(sample_weight)
        kept = (weights > 0) & ~np.isnan(rows[:, 0])
        self.classes_ = np.unique(y[kept])
        self.means_ = np.stack(
            [np.average(rows[kept & (y == c)], axis=0, weights=weights[kept & (y == c)]) for c in self.classes_]
        )
        return self

    def weights(self, sample_weight):
        """Return weights."""
        return np.asarray(sample_weight, dtype=float)

    def rows(self, X):
        """Describe the images."""
        rows, failures = ColourGrid(self.size, on_error=self.on_error).read(X)
        if failures:
            warnings.warn(ImageReadWarning("bad images", None), stacklevel=2)
        return rows / 255.0

    def predict_proba(self, X):
        """Return probabilities."""
        closeness = np.exp(-((self.rows(X)[:, None] - self.means_) ** 2).sum(axis=2))
        return closeness / closeness.sum(axis=1, keepdims=True)

    def predict(self, X):
        """Return labels."""
        shares = self.predict_proba(X)
        unread = np.flatnonzero(np.isnan(shares[:, 0]))
        if len(unread):
            raise ImageReadError(f"X[{unread[0]}] could not be read")
        return self.classes_[shares.argmax(axis=1)]


class TakesArraysAsBGR(ColourClassifier):
    def rows(self, X):
        return super().rows(X[..., ::-1] if isinstance(X, np.ndarray) and X.ndim == 4 else X)


class TakesPathsAlone(ColourClassifier):
    def rows(self, X):
        return super().rows([path for path in X if isinstance(path, str)])


class ClassesAsTheyCome(ColourClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        order = np.argsort([list(y).index(c) for c in self.classes_])
        self.classes_, self.means_ = self.classes_[order], self.means_[order]
        return self


class LabelsAreStrings(ColourClassifier):
    def predict(self, X):
        return super().predict(X).astype(str)


class PredictsTheFirst(ColourClassifier):
    def predict(self, X):
        return np.full(len(super().predict(X)), self.classes_[0])


class SharesOfOneClass(ColourClassifier):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, 1:]


class SharesDoNotSum(ColourClassifier):
    def predict_proba(self, X):
        return super().predict_proba(X) * 2


class SharesByPosition(ColourClassifier):
    def predict_proba(self, X):
        shares = super().predict_proba(X)
        shares = shares ** (1 + np.arange(len(shares))[:, None])
        return shares / shares.sum(axis=1, keepdims=True)


class SharesOfTheBatch(ColourClassifier):
    def rows(self, X):
        rows = super().rows(X)
        return rows - np.nanmean(rows, axis=0)


class FitsBadImages(ColourClassifier):
    def fit(self, X, y, sample_weight=None):
        on_error, self.on_error = self.on_error, "nan"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().fit(X, y, sample_weight)
        self.on_error = on_error
        return self


class PredictsBadImages(ColourClassifier):
    def predict(self, X):
        return self.classes_[np.nan_to_num(self.predict_proba(X)).argmax(axis=1)]


class BadImagesAreUniform(ColourClassifier):
    def predict_proba(self, X):
        return np.nan_to_num(super().predict_proba(X), nan=1 / len(self.classes_))


class BadImagesAreGrey(ColourClassifier):
    def fit(self, X, y, sample_weight=None):
        self.fitting_ = True
        super().fit(X, y, sample_weight)
        del self.fitting_
        return self

    def rows(self, X):
        rows = super().rows(X)
        return np.nan_to_num(rows, nan=0.5) if hasattr(self, "fitting_") else rows


class IgnoresWeights(ColourClassifier):
    def weights(self, sample_weight):
        return np.ones(len(sample_weight))


# check, estimator that breaks it, what the message of the check says
BROKEN_CLASSIFIERS = [
    ("check_image_classifier_input_kinds", TakesArraysAsBGR, r"as an array of shape \(n, h, w, 3\) and as a list"),
    ("check_image_classifier_input_kinds", TakesPathsAlone, "must take images as a list of Path"),
    ("check_image_classifier_labels", ClassesAsTheyCome, "classes_ of str must be the sorted labels"),
    ("check_image_classifier_labels", LabelsAreStrings, "must give int for labels of int"),
    ("check_image_classifier_labels", PredictsTheFirst, "the most probable class of str"),
    ("check_image_classifier_labels", SharesOfOneClass, r"must have the shape \(6, 3\), got \(6, 2\)"),
    ("check_image_classifier_labels", SharesDoNotSum, "rows of sum 1"),
    ("check_image_classifier_order", SharesByPosition, "in another order"),
    ("check_image_classifier_order", SharesOfTheBatch, "among others and alone"),
    ("check_image_classifier_bad_item", FitsBadImages, "fit of a bad file must be refused, but was accepted"),
    ("check_image_classifier_bad_item", PredictsBadImages, "there is no label, must be refused, but was accepted"),
    ("check_image_classifier_bad_item", BadImagesAreUniform, "probabilities of NaN .*NaN stand in different places"),
    ("check_image_classifier_bad_item", BadImagesAreGrey, "must be left out in fit, with its label"),
    ("check_image_zero_weight_is_left_out", IgnoresWeights, "images of weight 0 must change nothing"),
]
