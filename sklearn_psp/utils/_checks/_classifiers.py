"""Checks of classifiers of images, beyond the conventions of scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from sklearn_psp.exceptions import ImageReadWarning
from sklearn_psp.utils._checks._common import assert_refused, assert_rows_close, fresh, tiny_images
from sklearn_psp.utils._checks._reading import WHERE, kinds_of, with_bad_file

__all__ = [
    "check_image_classifier_bad_item",
    "check_image_classifier_input_kinds",
    "check_image_classifier_labels",
    "check_image_classifier_order",
    "check_image_zero_weight_is_left_out",
]

_LABELS = np.array(["b", "a", "c"] * 2)


def check_image_classifier_input_kinds(name: str, estimator: Any) -> None:
    """Check that the same images give the same probabilities, whatever they came as.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any classifier of images; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths, _LABELS)
        expected = estimator.predict_proba(images.paths)
        for kind, X in kinds_of(images).items():
            message = f"{name}: the same images as {kind} and as a list of paths must give the same probabilities"
            try:
                shares = estimator.predict_proba(X)
            except Exception as error:
                raise AssertionError(f"{name}.predict_proba must take images as {kind}, got {error!r}") from error
            assert_rows_close(shares, expected, rtol=1e-4, message=message)


def check_image_classifier_labels(name: str, estimator: Any) -> None:
    """Check that labels of any type come back, those of the most probable classes.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any classifier of images; it is cloned.
    """
    with tiny_images() as images:
        for kind, y in {
            "str": _LABELS,
            "int": np.array([7, -1, 3] * 2),
            "bool": np.array([True, False, True] * 2),
        }.items():
            fitted = fresh(estimator).fit(images.paths, y.tolist())
            classes, shares = fitted.classes_, np.asarray(fitted.predict_proba(images.paths))
            assert np.array_equal(classes, np.unique(y)), f"{name}: classes_ of {kind} must be the sorted labels"
            shape = (len(y), len(classes))
            assert shares.shape == shape, f"{name}: predict_proba must have the shape {shape}, got {shares.shape}"
            assert np.allclose(shares.sum(axis=1), 1), f"{name}: probabilities must be rows of sum 1"
            predicted = np.asarray(fitted.predict(images.paths))
            assert predicted.dtype.kind == y.dtype.kind, f"{name}.predict must give {kind} for labels of {kind}"
            expected = classes[shares.argmax(axis=1)]
            assert np.array_equal(predicted, expected), f"{name}.predict must give the most probable class of {kind}"


def check_image_classifier_order(name: str, estimator: Any) -> None:
    """Check that an image has the same probabilities in another order, and alone.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any classifier of images that computes in float32; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths, _LABELS)
        expected = np.asarray(estimator.predict_proba(images.paths))
        order = np.random.default_rng(0).permutation(len(expected))
        shares = estimator.predict_proba([images.paths[i] for i in order])
        message = f"{name}: images in another order must give the same probabilities in that order"
        assert_rows_close(shares, expected[order], rtol=1e-4, message=message)
        alone = np.concatenate([np.asarray(estimator.predict_proba([path])) for path in images.paths])
        message = f"{name}: an image must have the same probabilities among others and alone"
        assert_rows_close(alone, expected, rtol=1e-4, message=message)


def check_image_classifier_bad_item(name: str, estimator: Any) -> None:
    """Check that an image that cannot be read is an error that names it, or with `on_error="nan"` a row of NaN.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any classifier of images; it is cloned. A parameter `on_error` is set to "raise", and to "nan".
    """
    with tiny_images() as images:
        bad = with_bad_file(images)
        strict = fresh(estimator, on_error="raise")
        assert_refused(lambda: strict.fit(bad, _LABELS), f"{name}.fit of a bad file", any_of=[bad[WHERE]])
        strict.fit(images.paths, _LABELS)
        assert_refused(lambda: strict.predict(bad), f"{name}.predict of a bad file", any_of=[bad[WHERE]])
        if "on_error" not in estimator.get_params(deep=False):
            return
        lenient = fresh(estimator, on_error="nan").fit(images.paths, _LABELS)
        expected = np.array(lenient.predict_proba(images.paths))
        expected[WHERE] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageReadWarning)
            shares = lenient.predict_proba(bad)
            message = f"{name}: a bad file must have probabilities of NaN and leave the others as they are"
            assert_rows_close(shares, expected, rtol=1e-4, message=message)
            what = f"{name}.predict of a bad file with on_error='nan', for which there is no label,"
            assert_refused(lambda: lenient.predict(bad), what, any_of=[f"X[{WHERE}]"])
            left = [i for i in range(len(bad)) if i != WHERE]
            shares = fresh(estimator, on_error="nan").fit(bad, _LABELS).predict_proba(images.paths)
            without = fresh(estimator, on_error="nan").fit([bad[i] for i in left], _LABELS[left])
        message = f"{name}: a bad file must be left out in fit, with its label"
        assert_rows_close(shares, without.predict_proba(images.paths), rtol=1e-4, message=message)


def check_image_zero_weight_is_left_out(name: str, estimator: Any) -> None:
    """Check that an image of weight 0 is as good as none.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        A classifier of images whose `fit` takes `sample_weight`; it is cloned.
    """
    with tiny_images() as images:
        weights = np.array([1, 1, 1, 0, 1, 0])
        kept = np.flatnonzero(weights)
        y = np.where(weights, _LABELS, "d")
        weighted = fresh(estimator).fit(images.paths, y, sample_weight=weights)
        without = fresh(estimator).fit([images.paths[i] for i in kept], y[kept])
        message = f"{name}: images of weight 0 must change nothing"
        expected = without.predict_proba(images.paths)
        assert_rows_close(weighted.predict_proba(images.paths), expected, rtol=1e-4, message=message)
