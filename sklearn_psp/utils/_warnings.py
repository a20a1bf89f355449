"""Warnings that point to the line of the user's code that caused them."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_user"]

# Of the packages whose frames may lie between; scikit-learn calls estimators through joblib.
_INSIDE = ("sklearn_psp", "sklearn", "joblib")


def warn_user(message: Warning) -> None:
    """Warn, and point to the first caller that belongs neither to this package nor to scikit-learn or joblib.

    Parameters
    ----------
    message : Warning
        The warning.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
