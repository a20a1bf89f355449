"""Why images could not be used, as the steps of a featurizer say it in their warnings."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import pandas as pd

from sklearn_psp.exceptions import ImageReadError, ImageReadWarning

__all__ = ["holding_reasons", "own_on_error", "reasons_of"]


@contextlib.contextmanager
def holding_reasons() -> Iterator[dict[int, str]]:
    """Hold back warnings about images, and note what they say; other warnings are issued when the block ends.

    Yields
    ------
    dict of int to str
        Why an image could not be used, by its position; filled when the block ends.
    """
    reasons: dict[int, str] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageReadWarning)
        yield reasons
    for warning in caught:
        if isinstance(warning.message, ImageReadWarning) and warning.message.errors is not None:
            for position, reason in reasons_of(warning.message.errors).items():
                reasons.setdefault(position, reason)  # of several steps the first knows why
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def reasons_of(errors: pd.DataFrame) -> dict[int, str]:
    """Return the reasons of a table of failures, by position."""
    return dict(zip(errors["index"].tolist(), errors["reason"], strict=True))


@contextlib.contextmanager
def own_on_error(estimator) -> Iterator[None]:
    """Say why an error about images comes through although the estimator has `on_error="nan"`."""
    try:
        yield
    except ImageReadError as error:
        if estimator.on_error == "nan":
            error.add_note(
                f'on_error="nan" of {type(estimator).__name__} does not change that of featurizer: set it there too, '
                "for each of its steps"
            )
        raise
