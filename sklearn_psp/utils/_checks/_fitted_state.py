"""Checks of the fitted state: parameters, attributes, pickles, output, and rows that depend on their image alone."""

from __future__ import annotations

import pickle
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklearn_psp.utils._checks._common import assert_rows_close, fresh, tiny_images

__all__ = [
    "check_image_batch_size_invariance",
    "check_image_clone",
    "check_image_fit_keeps_params",
    "check_image_fit_transform",
    "check_image_order_invariance",
    "check_image_pickle",
    "check_image_refit_forgets",
    "check_image_set_output_pandas",
    "check_image_subset_invariance",
    "check_image_transform_keeps_dict",
    "check_image_unfitted",
]

# A batch of another size is summed in another order: float32 keeps this much of a row.
_RTOL = 1e-4


def check_image_subset_invariance(name: str, estimator: Any) -> None:
    """Check that an image's row is the same among others and alone.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images that computes in float32; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths)
        expected = estimator.transform(images.paths)
        message = f"{name}: an image must give the same row among others and alone"
        alone = np.concatenate([np.asarray(estimator.transform([path])) for path in images.paths])
        assert_rows_close(alone, expected, rtol=_RTOL, message=message)
        some = [1, 2, 5]
        rows = estimator.transform([images.paths[i] for i in some])
        assert_rows_close(rows, np.asarray(expected)[some], rtol=_RTOL, message=message)


def check_image_order_invariance(name: str, estimator: Any) -> None:
    """Check that images in another order give the same rows in that order.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images that computes in float32; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths)
        order = np.random.default_rng(0).permutation(len(images.paths))
        rows = estimator.transform([images.paths[i] for i in order])
        message = f"{name}: images in another order must give the same rows in that order"
        expected = np.asarray(estimator.transform(images.paths))[order]
        assert_rows_close(rows, expected, rtol=_RTOL, message=message)


def check_image_batch_size_invariance(name: str, estimator: Any) -> None:
    """Check that `batch_size` does not change a row.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        A transformer of images with the parameter `batch_size`, that computes in float32; it is cloned.
    """
    with tiny_images() as images:
        expected = fresh(estimator, batch_size=1).fit(images.paths).transform(images.paths)
        for batch_size in (4, 64):
            rows = fresh(estimator, batch_size=batch_size).fit(images.paths).transform(images.paths)
            message = f"{name}: batch_size=1 and batch_size={batch_size} must give the same rows"
            assert_rows_close(rows, expected, rtol=_RTOL, message=message)


def check_image_transform_keeps_dict(name: str, estimator: Any) -> None:
    """Check that transform changes no attribute: two threads may share a fitted estimator.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths)
        before = _hashes(vars(estimator))
        estimator.transform(images.paths)
        changed = _changed(before, _hashes(vars(estimator)))
        assert not changed, f"{name}.transform must change no attribute, it changed {changed}"


def check_image_fit_keeps_params(name: str, estimator: Any) -> None:
    """Check that fit returns the estimator and leaves its parameters as they were given.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer or classifier of images; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator)
        before = _hashes(estimator.get_params())
        y = [0, 1] * (len(images.paths) // 2)
        assert estimator.fit(images.paths, y) is estimator, f"{name}.fit must return the estimator itself"
        changed = _changed(before, _hashes(estimator.get_params()))
        assert not changed, f"{name}.fit must leave the parameters as they were, it changed {changed}"


def check_image_clone(name: str, estimator: Any) -> None:
    """Check that a clone of a fitted estimator is unfitted, has equal parameters, and fits alike.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        fitted = fresh(estimator).fit(images.paths)
        copy = clone(fitted)
        changed = _changed(_hashes(fitted.get_params()), _hashes(copy.get_params()))
        assert not changed, f"{name}: a clone must have equal parameters, different are {changed}"
        _assert_unfitted(copy, images, f"{name}: a clone of a fitted estimator")
        message = f"{name}: a clone must fit alike"
        rows = copy.fit(images.paths).transform(images.paths)
        assert_rows_close(rows, fitted.transform(images.paths), rtol=1e-5, message=message)


def check_image_pickle(name: str, estimator: Any) -> None:
    """Check that a fitted estimator gives equal rows after pickling, fitted on images that are gone.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images(seed=1) as others:
        estimator = fresh(estimator).fit(others.paths)
    with tiny_images() as images:
        expected = np.asarray(estimator.transform(images.paths))
        rows = np.asarray(pickle.loads(pickle.dumps(estimator)).transform(images.paths))
        assert np.array_equal(rows, expected), f"{name} must give equal rows before and after pickling"


def check_image_unfitted(name: str, estimator: Any) -> None:
    """Check that an unfitted estimator can be pickled, and says that it is not fitted.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        _assert_unfitted(fresh(estimator), images, f"{name}: an unfitted estimator")
        pickled = pickle.loads(pickle.dumps(fresh(estimator)))
        _assert_unfitted(pickled, images, f"{name}: an unfitted estimator after pickling")
        pickled.fit(images.paths).transform(images.paths)


def check_image_set_output_pandas(name: str, estimator: Any) -> None:
    """Check that `set_output(transform="pandas")` names the columns, and keeps the index of a DataFrame.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        A transformer of images with `get_feature_names_out`; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths)
        expected = np.asarray(estimator.transform(images.paths))
        names = list(estimator.get_feature_names_out())
        n_names = len(set(names))
        assert n_names == expected.shape[1], f"{name}: {n_names} different names for {expected.shape[1]} columns"
        estimator.set_output(transform="pandas")
        ids = pd.Index([f"image {i}" for i in range(len(expected))])
        for kind, X, index in (
            ("a list", images.paths, pd.RangeIndex(len(expected))),
            ("a DataFrame", pd.DataFrame({"path": images.paths}, index=ids), ids),
        ):
            frame = estimator.transform(X)
            assert isinstance(frame, pd.DataFrame), f"{name}: set_output must give a DataFrame, got {type(frame)}"
            assert list(frame.columns) == names, f"{name}: the columns must be those of get_feature_names_out"
            assert frame.index.equals(index), f"{name}: the index of {kind} must be kept, got {frame.index}"
            message = f"{name}: set_output must not change the rows"
            assert_rows_close(frame, expected, rtol=1e-5, message=message)


def check_image_fit_transform(name: str, estimator: Any) -> None:
    """Check that fit_transform gives what fit and transform give.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        together = fresh(estimator)
        rows = together.fit_transform(images.paths)
        message = f"{name}: fit_transform(X) and fit(X).transform(X) must give the same rows"
        expected = fresh(estimator).fit(images.paths).transform(images.paths)
        assert_rows_close(rows, expected, rtol=1e-5, message=message)
        message = f"{name}: fit_transform(X) must fit as fit(X) does"
        assert_rows_close(together.transform(images.paths), expected, rtol=1e-5, message=message)


def check_image_refit_forgets(name: str, estimator: Any) -> None:
    """Check that fitting again leaves nothing of the first fit.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images, tiny_images(n_images=4, seed=1) as others:
        once = fresh(estimator).fit(images.paths)
        twice = fresh(estimator).fit(others.array).fit(images.paths)
        message = f"{name}: fit must forget the images it was fitted on before"
        expected = once.transform(images.paths)
        assert_rows_close(twice.transform(images.paths), expected, rtol=1e-5, message=message)
        different = sorted(set(vars(once)) ^ set(vars(twice)))
        assert not different, f"{name}: fitting again must leave the same attributes, different are {different}"


def _hashes(attributes):
    return {name: joblib.hash(_plain(value)) for name, value in attributes.items()}


def _plain(value):
    """Return the weights of a network in its place: the pickle of a copied one differs from the original's."""
    if not hasattr(value, "state_dict"):
        return value
    return type(value).__name__, {name: np.asarray(weights) for name, weights in value.state_dict().items()}


def _changed(before, after):
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _assert_unfitted(estimator, images, what):
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        pass
    else:
        raise AssertionError(f"{what} must not pass for fitted")
    try:
        estimator.transform(images.paths)
    except NotFittedError:
        return
    except Exception as error:
        raise AssertionError(f"{what} must raise NotFittedError in transform, got {error!r}") from error
    raise AssertionError(f"{what} must raise NotFittedError in transform")
