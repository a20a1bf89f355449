"""Warnings at the line of the user's code that caused them, and threads whose warnings nobody could act on."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType

__all__ = ["quiet_thread", "warn_user"]

# Of the packages whose frames may lie between; scikit-learn calls estimators through joblib, in threads of a pool.
_INSIDE = ("sklearn_psp", "sklearn", "joblib")
_POOLS = ("concurrent", "multiprocessing", "threading")


def warn_user(message: Warning) -> None:
    """Warn, and point to the first caller that belongs neither to this package nor to scikit-learn or joblib.

    In a thread of a pool, whose stack begins in a library, that is the line of the main thread that waits for the pool.

    Parameters
    ----------
    message : Warning
        The warning.
    """
    frame = _outside(sys._getframe(1))
    if frame is None and threading.current_thread() is not threading.main_thread():
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        # A main thread that is busy with something else than a pool has not caused this.
        while frame is not None and _package(frame) not in ("joblib", *_POOLS):
            frame = frame.f_back
        frame = _outside(frame)
    if frame is None:
        warnings.warn(message, stacklevel=2)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(
        message,
        type(message),
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__") or "<unknown>",
        registry=registry,
    )


def _outside(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of a stack that belongs to the user; None if there is none."""
    while frame is not None and _package(frame) in (*_INSIDE, *_POOLS):
        frame = frame.f_back
    return frame


def _package(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "").partition(".")[0]


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
