"""An image's row depends on the image alone."""

from __future__ import annotations

import numpy as np

from sklearn_psp.utils._checks._compare import assert_rows_close, fresh
from sklearn_psp.utils._checks._images import tiny_images

__all__ = [
    "check_image_batch_size_invariance",
    "check_image_order_invariance",
    "check_image_subset_invariance",
]

# A batch of another size is summed in another order: float32 keeps this much of a row.
_RTOL = 1e-4


def check_image_subset_invariance(name, estimator):
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


def check_image_order_invariance(name, estimator):
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


def check_image_batch_size_invariance(name, estimator):
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
