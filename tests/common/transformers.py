"""A transformer of images that is right, and many that are wrong in one way each."""

from __future__ import annotations

import io
import os
import warnings
from copy import copy

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._images import read_batches
from sklearn_psp.exceptions import ImageReadError, ImageReadWarning, MissingImageError
from sklearn_psp.utils._descriptions import Descriptions, failures_frame, warn_of_failures


class ColourGrid(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Describe an image by its colours on a coarse grid, centred; images are read as the library reads them."""

    def __init__(self, size=4, *, batch_size=3, on_error="raise"):
        self.size = size
        self.batch_size = batch_size
        self.on_error = on_error

    def fit(self, X, y=None):
        """Learn the mean."""
        self.center_ = np.nanmean(self.read(X)[0], axis=0)
        self._n_features_out = len(self.center_)
        return self

    def transform(self, X):
        """Describe the images, float32."""
        check_is_fitted(self)
        rows, failures = self.read(X)
        self.report(failures)
        return rows - self.center_

    def read(self, X):
        """Return the rows and the failures."""
        blocks, failures = [], []
        for batch in self.batches(X):
            rows = self.rows(batch.images)
            rows[[failure.index - batch.start for failure in batch.failures]] = np.nan
            blocks.append(rows)
            failures += batch.failures
        return np.concatenate(blocks), failures

    def batches(self, X):
        """Read the images."""
        return read_batches(
            X, batch_size=self.batch_size, image_size=(self.size, self.size), on_error=self.on_error, n_jobs=1
        )

    def rows(self, images):
        """Describe a batch of pixels."""
        return images.reshape(len(images), -1).astype(np.float32)

    def report(self, failures):
        """Warn of failures."""
        if failures:
            warnings.warn(ImageReadWarning("bad images", failures_frame(failures)), stacklevel=3)


class DescribingGrid(ColourGrid):
    """Returns failures as a value, as the library's own transformers do."""

    def describe(self, X, *, on_error="nan"):
        """Describe the images, without a warning."""
        check_is_fitted(self)
        asked = copy(self)
        asked.on_error = on_error or self.on_error
        rows, failures = asked.read(X)
        return Descriptions(rows - self.center_, failures_frame(failures))

    def fit_describe(self, X, y=None, *, on_error="nan"):
        """Learn the mean, and describe the same images."""
        own, self.on_error = self.on_error, on_error or self.on_error
        try:
            self.fit(X, y)
        finally:
            self.on_error = own
        return self.describe(X, on_error=on_error)

    def transform(self, X):
        """Describe the images, float32."""
        rows, failures = self.describe(X, on_error=None)
        warn_of_failures(failures, "images could not be read")
        return rows


class ArraysAreBGR(ColourGrid):
    def read(self, X):
        return super().read(X[..., ::-1] if isinstance(X, np.ndarray) and X.ndim == 4 else X)


class PathsOnly(ColourGrid):
    def read(self, X):
        return super().read([path for path in X if isinstance(path, str)])


class FlatOutput(ColourGrid):
    def transform(self, X):
        return super().transform(X).mean(axis=1)


class IgnoresExif(ColourGrid):
    def read(self, X):
        if isinstance(X, list) and isinstance(X[0], bytes):
            X = [np.asarray(Image.open(io.BytesIO(content))) for content in X]
        return super().read(X)


class WritesToInput(ColourGrid):
    def read(self, X):
        for image in X:
            if isinstance(image, np.ndarray):
                image //= 2
        return super().read(X)


class AcceptsNothing(ColourGrid):
    def transform(self, X):
        return super().transform(X) if len(X) else np.empty((0, len(self.center_)), dtype=np.float32)


class FitsNothing(ColourGrid):
    def fit(self, X, y=None):
        return super().fit(X if len(X) else [np.zeros((4, 4), np.uint8)])


class EmptyWithoutReason(ColourGrid):
    def read(self, X):
        try:
            return super().read(X)
        except ValueError as error:
            raise ValueError("wrong input") from error


class WrapsSingleImage(ColourGrid):
    def read(self, X):
        return super().read([X] if isinstance(X, str | bytes | os.PathLike | Image.Image) else X)


class ListsGenerators(ColourGrid):
    def read(self, X):
        return super().read(list(X))


class NamesFirstMissingFile(ColourGrid):
    def read(self, X):
        try:
            return super().read(X)
        except MissingImageError as error:
            raise MissingImageError(f"{error.errors['source'][0]} does not exist", error.errors) from None


class SwallowsBadImages(ColourGrid):
    def batches(self, X):
        bad = set()
        for batch in read_batches(X, batch_size=3, image_size=(8, 8), on_error="nan", n_jobs=1):
            bad |= {failure.index for failure in batch.failures}
        return super().batches([item for i, item in enumerate(X) if i not in bad] if bad else X)


class DoesNotNameBadImages(ColourGrid):
    def read(self, X):
        try:
            return super().read(X)
        except MissingImageError:
            raise
        except ImageReadError as error:
            raise ValueError("an image is broken") from error


class BadImagesAreZero(ColourGrid):
    def transform(self, X):
        return np.nan_to_num(super().transform(X))


class SilentAboutBadImages(ColourGrid):
    def report(self, failures):
        pass


class WarnsOfEachBadImageTwice(ColourGrid):
    def report(self, failures):
        super().report(failures)
        super().report(failures)


class WarnsOfTheWrongImage(ColourGrid):
    def report(self, failures):
        if failures:
            errors = failures_frame(failures).assign(index=0)
            warnings.warn(ImageReadWarning("bad images", errors), stacklevel=3)


class BadImagesSpoilOthers(ColourGrid):
    def transform(self, X):
        rows = super().transform(X)
        return rows * 2 if np.isnan(rows).any() else rows


class ScalesByTheWholeInput(ColourGrid):
    def transform(self, X):
        rows = super().transform(X)
        return rows / np.nanmax(np.abs(rows))


class DependsOnPosition(ColourGrid):
    def transform(self, X):
        rows = super().transform(X)
        return rows * (1 + np.arange(len(rows), dtype=np.float32)[:, None])


class CentresEachBatch(ColourGrid):
    def rows(self, images):
        rows = super().rows(images)
        return rows - rows.mean(axis=0)


class RemembersWhatItSaw(ColourGrid):
    def transform(self, X):
        rows = super().transform(X)
        self.n_seen_ = len(rows)
        return rows


class ChangesFittedState(ColourGrid):
    def transform(self, X):
        rows = super().transform(X)
        self.center_ += 1
        return rows


class FitChangesParameters(ColourGrid):
    def fit(self, X, y=None):
        self.batch_size = min(self.batch_size, 2)
        return super().fit(X)


class FitReturnsNothing(ColourGrid):
    def fit(self, X, y=None):
        super().fit(X)


class FitTransformForgetsToCentre(ColourGrid):
    def fit_transform(self, X, y=None):
        return self.fit(X).read(X)[0]


class FitTransformFitsOtherwise(ColourGrid):
    def fit_transform(self, X, y=None):
        rows = self.fit(X).transform(X)
        self.center_ = self.center_ / 2
        return rows


class KeepsAverageOfFits(ColourGrid):
    def fit(self, X, y=None):
        before = getattr(self, "center_", None)
        super().fit(X)
        if before is not None:
            self.center_ = (self.center_ + before) / 2
        return self


class LeavesOldAttributes(ColourGrid):
    def fit(self, X, y=None):
        if isinstance(X, np.ndarray):
            self.shape_ = X.shape
        return super().fit(X)


class PickleLosesCentre(ColourGrid):
    def __getstate__(self):
        state = super().__getstate__()
        return state | ({"center_": np.zeros_like(state["center_"])} if "center_" in state else {})


class CloneStaysFitted(ColourGrid):
    def __sklearn_clone__(self):
        copy = type(self)(**self.get_params())
        vars(copy).update(vars(self))
        return copy


class CloneChangesParameters(ColourGrid):
    def __sklearn_clone__(self):
        return type(self)(size=self.size + 1, batch_size=self.batch_size)


class WorksUnfitted(ColourGrid):
    def transform(self, X):
        rows, failures = self.read(X)
        self.report(failures)
        return rows - getattr(self, "center_", 0)


class UnfittedRaisesAttributeError(ColourGrid):
    def transform(self, X):
        rows, failures = self.read(X)
        self.report(failures)
        return rows - self.center_


class PassesForFitted(ColourGrid):
    def __sklearn_is_fitted__(self):
        return True


class RepeatsNames(ColourGrid):
    def get_feature_names_out(self, input_features=None):
        return np.full(self._n_features_out, "colour", dtype=object)


class LosesTheIndex(ColourGrid):
    def transform(self, X):
        return super().transform(list(X.iloc[:, 0]) if isinstance(X, pd.DataFrame) else X)

    def set_output(self, *, transform=None):
        inner = self.transform
        self.transform = lambda X: pd.DataFrame(np.asarray(inner(X)), columns=self.get_feature_names_out())
        return self


class IgnoresSetOutput(ColourGrid):
    def set_output(self, *, transform=None):
        return self


# check, estimator that breaks it, what the message of the check says
BROKEN = [
    ("check_image_input_kinds", ArraysAreBGR, r"as an array of shape \(n, h, w, 3\) and as a list of paths"),
    ("check_image_input_kinds", PathsOnly, "as a list of Path"),
    ("check_image_input_kinds", FlatOutput, "2-D array, got 1-D"),
    ("check_image_exif_turn", IgnoresExif, "EXIF turn"),
    ("check_image_input_unchanged", WritesToInput, "must not write"),
    ("check_image_empty_input", AcceptsNothing, "transform of an empty list must be refused, but was accepted"),
    ("check_image_empty_input", FitsNothing, "fit of an empty list must be refused, but was accepted"),
    ("check_image_empty_input", EmptyWithoutReason, "the message holds none of 'empty'"),
    ("check_image_single_image", WrapsSingleImage, r"single image \(a path\) as X must be refused"),
    ("check_image_generator_of_images", ListsGenerators, "generator of single images"),
    ("check_image_missing_files", NamesFirstMissingFile, "must name all missing files at once"),
    ("check_image_missing_files", SwallowsBadImages, "missing files must be refused, but was accepted"),
    ("check_image_bad_item_raises", SwallowsBadImages, "of a bad file must be refused, but was accepted"),
    ("check_image_bad_item_raises", DoesNotNameBadImages, "the message holds none of .*bad.png"),
    ("check_image_bad_item_becomes_nan", SwallowsBadImages, "the shape is"),
    ("check_image_bad_item_becomes_nan", BadImagesAreZero, "NaN stand in different places"),
    ("check_image_bad_item_becomes_nan", BadImagesSpoilOthers, "leave the other rows as they are"),
    ("check_image_bad_item_becomes_nan", SilentAboutBadImages, "must give one ImageReadWarning, got 0"),
    ("check_image_bad_item_becomes_nan", WarnsOfEachBadImageTwice, "must give one ImageReadWarning, got 2"),
    ("check_image_bad_item_becomes_nan", WarnsOfTheWrongImage, r"must name X\[2\]"),
    ("check_image_subset_invariance", ScalesByTheWholeInput, "among others and alone"),
    ("check_image_subset_invariance", CentresEachBatch, "among others and alone"),
    ("check_image_order_invariance", DependsOnPosition, "in another order"),
    ("check_image_order_invariance", CentresEachBatch, "in another order"),
    ("check_image_batch_size_invariance", CentresEachBatch, "batch_size=1 and batch_size=4"),
    ("check_image_transform_keeps_dict", RemembersWhatItSaw, r"it changed \['n_seen_'\]"),
    ("check_image_transform_keeps_dict", ChangesFittedState, r"it changed \['center_'\]"),
    ("check_image_fit_keeps_params", FitChangesParameters, r"it changed \['batch_size'\]"),
    ("check_image_fit_keeps_params", FitReturnsNothing, "must return the estimator itself"),
    ("check_image_fit_transform", FitTransformForgetsToCentre, "must give the same rows"),
    ("check_image_fit_transform", FitTransformFitsOtherwise, "must fit as"),
    ("check_image_refit_forgets", KeepsAverageOfFits, "must forget"),
    ("check_image_refit_forgets", LeavesOldAttributes, r"different are \['shape_'\]"),
    ("check_image_pickle", PickleLosesCentre, "before and after pickling"),
    ("check_image_clone", CloneStaysFitted, "must not pass for fitted"),
    ("check_image_clone", CloneChangesParameters, r"different are \[.*'size'\]"),
    ("check_image_unfitted", WorksUnfitted, "must raise NotFittedError in transform"),
    ("check_image_unfitted", UnfittedRaisesAttributeError, "must raise NotFittedError in transform, got Attr"),
    ("check_image_unfitted", PassesForFitted, "must not pass for fitted"),
    ("check_image_set_output_pandas", RepeatsNames, "1 different names for 48 columns"),
    ("check_image_set_output_pandas", LosesTheIndex, "the index of a DataFrame must be kept"),
    ("check_image_set_output_pandas", IgnoresSetOutput, "must give a DataFrame"),
]
