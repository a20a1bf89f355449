"""Decoding without warnings, in threads, with everybody else's warnings left alone.

Pillow warns about odd files, and a warning must neither escape nor, under `-W error`, decide whether an image is
readable. `warnings.catch_warnings` cannot be used for it: before Python 3.14 it swaps the filters of the whole process,
so a worker that enters and leaves it while the consumer does the same can swallow the consumer's warnings or leave the
wrong filters behind for ever; and a lock around it would make every PNG wait for every other. Instead one rule is put
in front of the filters for as long as images are read. It matches by its category, and that category claims a warning
as its subclass only in a thread that is decoding at this moment.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

__all__ = ["decoding", "quiet_decoders"]

_THREAD = threading.local()


class _OnlyWhileDecoding(type):
    def __subclasscheck__(cls, category):
        return getattr(_THREAD, "decoding", False)


class WarningWhileDecoding(Warning, metaclass=_OnlyWhileDecoding):
    """Any warning issued by a thread that is decoding an image (importable: joblib pickles the filters)."""


_RULE = ("ignore", None, WarningWhileDecoding, None, 0)


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Ignore the warnings of threads inside `decoding()`; every other warning goes its way."""
    # warnings.simplefilter would also reset which warnings were already shown "once", for the whole process.
    filters = warnings.filters
    filters.insert(0, _RULE)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # somebody called warnings.resetwarnings() meanwhile
            filters.remove(_RULE)


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Mark this thread as decoding an image."""
    _THREAD.decoding = True
    try:
        yield
    finally:
        _THREAD.decoding = False
