"""Networks of the user's own: weights in the file, architecture from the caller of `load`."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar

from sklearn_psp.exceptions import PersistenceError

__all__ = ["check_modules", "collecting_modules", "given_module", "giving_modules", "note_module"]

_NOTED: ContextVar[set | None] = ContextVar("sklearn_psp_noted_modules", default=None)
_GIVEN: ContextVar[tuple | None] = ContextVar("sklearn_psp_given_modules", default=None)


@contextmanager
def collecting_modules():
    """Collect the names that `note_module` is told; yields the set of them."""
    noted: set = set()
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def note_module(name):
    """Note that the file needs the architecture of this name."""
    noted = _NOTED.get()
    if noted is not None:
        noted.add(name)


@contextmanager
def giving_modules(modules):
    """Make the modules given to `load` known to `given_module`."""
    token = _GIVEN.set((modules, {}))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def given_module(name, sha256, make):
    """Return the module of a name with the weights of the file.

    Parameters
    ----------
    name : str
        Dotted name of the module's class.
    sha256 : str
        Hash of its weights: estimators that shared a module share one again.
    make : callable
        Makes a module with the weights from the module given to `load`.

    Returns
    -------
    torch.nn.Module
        What `make` returned, now or earlier in the same `load`.
    """
    modules, made = _GIVEN.get() or ({}, {})
    check_modules([name], modules)
    if (name, sha256) not in made:
        made[name, sha256] = make(modules[name])
    return made[name, sha256]


def check_modules(needed, modules):
    """Refuse to load a file whose networks are not given.

    Parameters
    ----------
    needed : list of str
        Dotted class names.
    modules : dict of str to torch.nn.Module
        What the caller gave.

    Raises
    ------
    PersistenceError
        If one is missing; the message shows the line to write.
    """
    for name in needed:
        if name not in modules:
            module_name, _, short = name.rpartition(".")
            given = f" (given: {sorted(modules)})" if modules else ""
            raise PersistenceError(
                f"the file holds the weights of a network of the class {name}, but not its code{given}; make one of "
                f"the same architecture:\n    from {module_name} import {short}\n"
                f"    sklearn_psp.load(path, modules={{{name!r}: {short}(...)}})"
            )
