"""What the checks have in common: an estimator of their own, and comparing rows and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.base import clone

__all__ = ["assert_refused", "assert_rows_close", "fresh"]


def fresh(estimator: Any, **params: Any) -> Any:
    """Return an unfitted copy with a fixed seed and, as far as it has them, the parameters given."""
    copy = clone(estimator)
    known = copy.get_params(deep=False)
    params = {"random_state": 0, **params}
    return copy.set_params(**{name: value for name, value in params.items() if name in known})


def assert_rows_close(actual: Any, expected: Any, *, rtol: float, message: str) -> None:
    """Assert that no row is further than `rtol` times its length from the row expected; NaN equals NaN.

    Parameters
    ----------
    actual, expected : array-like of shape (n_images, n_features)
        Descriptors.
    rtol : float
        Largest ||actual - expected|| / ||expected|| of a row.
    message : str
        What was promised.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{message}: the shape is {actual.shape}, expected {expected.shape}"
    assert np.array_equal(np.isnan(actual), np.isnan(expected)), f"{message}: NaN stand in different places"
    actual, expected = np.nan_to_num(actual.astype(np.float64)), np.nan_to_num(expected.astype(np.float64))
    distances = np.linalg.norm(actual - expected, axis=1)
    lengths = np.linalg.norm(expected, axis=1)
    wrong = np.flatnonzero(distances > rtol * lengths)
    if len(wrong):
        row = wrong[0]
        raise AssertionError(
            f"{message}: row {row} is {distances[row]:.3g} away from a row of length {lengths[row]:.3g}, more than "
            f"{rtol:g} of it ({len(wrong)} rows of {len(expected)} are)"
        )


def assert_refused(
    call: Callable[[], Any], what: str, *, errors: tuple = (ValueError, TypeError), any_of: Iterable[str] = ()
) -> Exception:
    """Assert that a call is refused with a message that holds one of some texts.

    Parameters
    ----------
    call : callable
        Takes nothing.
    what : str
        What is to be refused, for the message of the check.
    errors : tuple of exception classes, default=(ValueError, TypeError)
        What may be raised.
    any_of : iterable of str
        The message must hold one of these; letter case does not matter.

    Returns
    -------
    Exception
        What was raised.
    """
    texts = list(any_of)
    try:
        call()
    except errors as error:
        if texts and not any(text.lower() in str(error).lower() for text in texts):
            raise AssertionError(
                f"{what} is refused, but the message holds none of {', '.join(map(repr, texts))}: {error}"
            ) from error
        return error
    except Exception as error:
        raise AssertionError(
            f"{what} must be refused with a ValueError, got {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"{what} must be refused, but was accepted")
