"""Warnings at the line of the user's code that caused them, and threads whose warnings nobody could act on."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["quiet_thread", "quiet_threads_allowed", "warn_user"]

# Of the packages whose frames may lie between; scikit-learn calls estimators through joblib, in threads of a pool.
_INSIDE = ("sklearn_psp", "sklearn", "joblib")
_POOLS = ("concurrent", "joblib", "multiprocessing")


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
        # A main thread that is busy with something else, or waits for a thread of its own, has not caused this.
        while frame is not None and _package(frame) not in _POOLS:
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
    while frame is not None and _package(frame) in (*_INSIDE, *_POOLS, "threading"):
        frame = frame.f_back
    return frame


def _package(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "").partition(".")[0]


# Python has one list of filters for the whole process, and before 3.14 `warnings.catch_warnings` swaps it: of two
# threads that enter and leave it at once, one may leave the filters of the other behind for good. Here one rule is put
# in front of the list instead. It matches by its category, and that category claims a warning as its subclass only in a
# thread that asked for silence.
_THREAD = threading.local()
_LOCK = threading.Lock()
# How many hold the rule in each list of filters: `catch_warnings` of a user puts another list in its place for a while.
_HOLDERS: Counter[int] = Counter()


class _OnlyInQuietThreads(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return getattr(_THREAD, "n_quiet", 0) > 0


class WarningOfQuietThread(Warning, metaclass=_OnlyInQuietThreads):
    """Any warning issued by a thread that is quiet (importable: joblib pickles the filters)."""


_RULE = ("ignore", None, WarningOfQuietThread, None, 0)


@contextlib.contextmanager
def quiet_threads_allowed() -> Iterator[None]:
    """Keep the rule that silences quiet threads among the filters, for as long as any of them may be at work.

    Held around work in many threads, so that the list does not change with every image: a thread that walks the list
    while the rule is taken out may miss the filter behind it.
    """
    # warnings.simplefilter would also reset which warnings were already shown "once", for the whole process.
    filters: Any = warnings.filters  # a list, which typeshed calls a Sequence
    with _LOCK:
        _HOLDERS[id(filters)] += 1
        if _RULE not in filters:
            filters.insert(0, _RULE)
    try:
        yield
    finally:
        with _LOCK:
            _HOLDERS[id(filters)] -= 1
            if not _HOLDERS[id(filters)]:
                del _HOLDERS[id(filters)]
                with contextlib.suppress(ValueError):  # somebody called warnings.resetwarnings() meanwhile
                    filters.remove(_RULE)


@contextlib.contextmanager
def quiet_thread() -> Iterator[None]:
    """Ignore what other libraries warn about in this thread; the warnings of all other threads go their way."""
    with quiet_threads_allowed():
        _THREAD.n_quiet = getattr(_THREAD, "n_quiet", 0) + 1
        try:
            yield
        finally:
            _THREAD.n_quiet -= 1
