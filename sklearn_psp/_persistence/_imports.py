"""Packages that what is in a file takes long to import: imported while the file is read."""

from __future__ import annotations

import importlib
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar

__all__ = ["collecting_imports", "import_ahead", "note_import"]

# A file may ask for these and no others: an import runs code.
_ALLOWED = frozenset({"pynndescent"})
_NOTED: ContextVar[set | None] = ContextVar("sklearn_psp_noted_imports", default=None)


@contextmanager
def collecting_imports():
    """Collect the names that `note_import` is told; yields the set of them."""
    noted: set = set()
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def note_import(name):
    """Note, if `save` is at work, that `load` will import this package."""
    noted = _NOTED.get()
    if noted is not None:
        noted.add(name)


def import_ahead(names):
    """Begin to import packages in a thread; who needs one meanwhile waits for it as for any import."""
    for name in _ALLOWED.intersection(names):
        threading.Thread(target=_import, args=(name,), daemon=True, name=f"import {name}").start()


def _import(name):
    with suppress(ImportError):  # raised again where it is needed
        importlib.import_module(name)
