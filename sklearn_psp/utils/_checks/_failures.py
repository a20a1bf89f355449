"""What one image that cannot be read does to the others."""

from __future__ import annotations

import warnings

import numpy as np

from sklearn_psp.exceptions import ImageReadWarning
from sklearn_psp.utils._checks._compare import assert_refused, assert_rows_close, fresh
from sklearn_psp.utils._checks._images import tiny_images

__all__ = ["WHERE", "check_image_bad_item_becomes_nan", "check_image_bad_item_raises", "with_bad_file"]

WHERE = 2


def check_image_bad_item_raises(name, estimator):
    """Check that an image that cannot be read is an error that names it.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned. A parameter `on_error` is set to `"raise"`.
    """
    with tiny_images() as images:
        estimator = fresh(estimator, on_error="raise")
        bad = with_bad_file(images)
        assert_refused(lambda: estimator.fit_transform(bad), f"{name}.fit_transform of a bad file", any_of=[bad[WHERE]])
        estimator.fit(images.paths)
        assert_refused(lambda: estimator.transform(bad), f"{name}.transform of a bad file", any_of=[bad[WHERE]])
        content = [*images.encoded]
        content[WHERE] = content[WHERE][:40]
        what = f"{name}.transform of bytes cut short"
        assert_refused(lambda: estimator.transform(content), what, any_of=[f"X[{WHERE}]"])


def check_image_bad_item_becomes_nan(name, estimator):
    """Check that `on_error="nan"` makes a row of NaN and a warning of a bad image, and leaves the others alone.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        A transformer of images with the parameter `on_error`; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator, on_error="nan").fit(images.paths)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImageReadWarning)
            expected = np.array(estimator.transform(images.paths))
        expected[WHERE] = np.nan
        missing = [*images.paths]
        missing[WHERE] = str(images.folder / "not_there.png")
        for kind, X in {"a bad file": with_bad_file(images), "a missing file": missing}.items():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                rows = estimator.transform(X)
            message = f"{name}: {kind} must be a row of NaN and leave the other rows as they are"
            assert_rows_close(rows, expected, rtol=1e-4, message=message)
            ours = [warning.message for warning in caught if issubclass(warning.category, ImageReadWarning)]
            assert len(ours) == 1, f"{name}: {kind} must give one ImageReadWarning, got {len(ours)}"
            errors = ours[0].errors
            columns = list(getattr(errors, "columns", []))
            assert columns == ["index", "source", "reason"], (
                f"{name}: the ImageReadWarning's errors must have the columns index, source, reason, got {columns}"
            )
            named = list(zip(errors["index"], errors["source"], strict=True))
            assert named == [(WHERE, X[WHERE])], (
                f"{name}: the ImageReadWarning's errors must name X[{WHERE}] ({X[WHERE]!r}) alone, they name {named}"
            )


def with_bad_file(images):
    """Return the paths, with that of a broken file at `WHERE`."""
    bad = images.folder / "bad.png"
    bad.write_bytes(images.encoded[WHERE][:40])  # the header alone
    paths = [*images.paths]
    paths[WHERE] = str(bad)
    return paths
