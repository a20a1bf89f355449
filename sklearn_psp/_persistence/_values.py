"""Attributes that skops cannot hold - tables, paths, weights, networks - as dicts of what it can, and back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sklearn_psp._persistence._frames import decode_frame, encode_frame
from sklearn_psp._persistence._stored_arrays import hold, is_saving
from sklearn_psp.exceptions import PersistenceError, WeightsError

__all__ = [
    "UNPACK",
    "PackedValuesMixin",
    "SavedWeights",
    "TrainedWeights",
    "check_modules",
    "collecting_modules",
    "given_module",
    "giving_modules",
    "hash_tensors",
    "mark",
    "note_module",
    "pack_values",
    "unpack_value",
]

_MARK = "sklearn_psp"
_NOTED: ContextVar[set[str] | None] = ContextVar("sklearn_psp_noted_modules", default=None)
_GIVEN: ContextVar[tuple[Mapping[str, Any], dict] | None] = ContextVar("sklearn_psp_given_modules", default=None)


class SavedWeights:
    """Weights in memory that are known by the hash of the file they were read from.

    Parameters
    ----------
    tensors : ndarray of shape (n_bytes,), uint8
        The tensors, as the bytes of a safetensors file. Not to be changed.
    origin : str
        The path they were read from.
    sha256 : str
        Hash of that file.
    own_sha256 : str or None, default=None
        Hash of `tensors`; None computes it.
    """

    def __init__(self, tensors: np.ndarray, origin: str, sha256: str, own_sha256: str | None = None):
        self.tensors = tensors
        self.origin = origin
        self.sha256 = sha256
        self.own_sha256 = own_sha256 or hash_tensors(tensors)

    def check(self) -> None:
        """Refuse tensors that changed on the way.

        Raises
        ------
        WeightsError
            If their hash is another.
        """
        if hash_tensors(self.tensors) != self.own_sha256:
            raise WeightsError(f"the weights of {self.origin!r} in the file are damaged; save them again")

    def __eq__(self, other):
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self):
        return hash(self._key())

    def __repr__(self):
        return f"<weights of {self.origin!r} from a saved file>"

    def __deepcopy__(self, memo):
        return self

    def _key(self):
        return self.own_sha256, self.sha256


class TrainedWeights(SavedWeights):
    """Weights of a network up to its feature maps, as they are after training.

    Parameters
    ----------
    tensors : ndarray of shape (n_bytes,), uint8
        The tensors, as the bytes of a safetensors file. Not to be changed.
    sha256 : str or None, default=None
        Their hash; None computes it.
    """

    def __init__(self, tensors: np.ndarray, sha256: str | None = None):
        sha256 = sha256 or hash_tensors(tensors)
        super().__init__(tensors, "training", sha256, sha256)

    def __repr__(self):
        return f"<trained weights, sha256 {self.sha256[:8]}>"


def hash_tensors(tensors: np.ndarray) -> str:
    """Hash the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(tensors).data).hexdigest()


if TYPE_CHECKING:
    from sklearn.base import BaseEstimator as _Estimator
else:
    _Estimator = object


class PackedValuesMixin(_Estimator):
    """The state of an estimator that has tables among its attributes: for a file without pickle they are packed."""

    def __getstate__(self):
        state = super().__getstate__()
        return pack_values(state) if is_saving() else state

    def __setstate__(self, state):
        super().__setstate__({name: unpack_value(value) for name, value in state.items()})


def mark(kind: str, **content: Any) -> dict[str, Any]:
    """Return a dict that `unpack_value` knows."""
    return {_MARK: kind, **content}


def pack_values(state: dict[str, Any]) -> dict[str, Any]:
    """Turn attributes into what skops can hold.

    Parameters
    ----------
    state : dict
        Attributes by name; tables, paths, trained weights and devices are turned, large arrays held back.

    Returns
    -------
    dict
        The same names.
    """
    return {name: _pack_value(value) for name, value in state.items()}


def _pack_value(value):
    if isinstance(value, pd.DataFrame):
        return mark("frame", value=hold(encode_frame(value)))
    if isinstance(value, TrainedWeights):
        return mark("trained", tensors=hold(value.tensors, key=value.sha256), sha256=value.sha256)
    if isinstance(value, os.PathLike):
        return mark("path", value=os.fspath(value))
    if type(value).__module__ == "torch" and type(value).__name__ == "device":
        return str(value)
    return hold(value)


def _unpack_path(content):
    from pathlib import Path

    return Path(content["value"])


UNPACK = {
    "frame": lambda content: decode_frame(content["value"]),
    "path": _unpack_path,
    "trained": lambda content: TrainedWeights(content["tensors"], content["sha256"]),
    "weights": lambda content: SavedWeights(**content),
}


def unpack_value(value: Any, unpack: Mapping[str, Callable[[dict], Any]] = UNPACK) -> Any:
    """Make the attribute again, if it was packed.

    Parameters
    ----------
    value : object
        What `pack_values` made of it.
    unpack : dict of str to callable, default=UNPACK
        What makes it again, by its mark.

    Returns
    -------
    object
        The attribute.
    """
    if not isinstance(value, dict) or _MARK not in value:
        return value
    content = {name: item for name, item in value.items() if name != _MARK}
    return unpack[value[_MARK]](content)


@contextmanager
def collecting_modules() -> Iterator[set[str]]:
    """Collect the names that `note_module` is told; yields the set of them."""
    noted: set[str] = set()
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def note_module(name: str) -> None:
    """Note that the file needs the architecture of this name."""
    noted = _NOTED.get()
    if noted is not None:
        noted.add(name)


@contextmanager
def giving_modules(modules: Mapping[str, Any]) -> Iterator[None]:
    """Make the modules given to `load` known to `given_module`."""
    token = _GIVEN.set((modules, {}))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def given_module(name: str, sha256: str, make: Callable[[Any], Any]) -> Any:
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


def check_modules(needed: Sequence[str], modules: Mapping[str, Any]) -> None:
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
