"""Warnings at the line of the user's code that caused them, and threads whose warnings nobody could act on."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator

__all__ = ["quiet_thread", "warn_user"]

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


_THREAD = threading.local()


class _OnlyInQuietThreads(type):
    def __subclasscheck__(cls, category):
        return getattr(_THREAD, "n_quiet", 0) > 0


class WarningOfQuietThread(Warning, metaclass=_OnlyInQuietThreads):
    """Any warning issued by a thread inside `quiet_thread` (importable: joblib pickles the filters)."""


_RULE = ("ignore", None, WarningOfQuietThread, None, 0)


@contextlib.contextmanager
def quiet_thread() -> Iterator[None]:
    """Ignore what other libraries warn about in this thread; the warnings of other threads go their way.

    `warnings.catch_warnings` swaps the filters of the whole process (before Python 3.14): of two threads that enter and
    leave it at once, one may leave the filters of the other behind for good. Here a rule that holds in this thread only
    is put in front of them, and taken out again.
    """
    filters = warnings.filters
    filters.insert(0, _RULE)  # type: ignore[attr-defined]  # typeshed calls the list a Sequence
    _THREAD.n_quiet = getattr(_THREAD, "n_quiet", 0) + 1
    try:
        yield
    finally:
        _THREAD.n_quiet -= 1
        with contextlib.suppress(ValueError):  # somebody called warnings.resetwarnings() meanwhile
            filters.remove(_RULE)  # type: ignore[attr-defined]
