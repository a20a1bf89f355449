"""Attributes that skops cannot hold, each as a marked dict of what it can, and back."""

from __future__ import annotations

import os

import pandas as pd

from sklearn_psp._persistence._arrays import hold, is_saving
from sklearn_psp._persistence._weights import SavedWeights, TrainedWeights
from sklearn_psp.utils._columns import decode_frame, encode_frame

__all__ = ["UNPACK", "PackedValuesMixin", "mark", "pack_values", "unpack_value"]

_MARK = "sklearn_psp"


class PackedValuesMixin:
    """The state of an estimator that has tables among its attributes: for a file without pickle they are packed."""

    def __getstate__(self):
        state = super().__getstate__()
        return pack_values(state) if is_saving() else state

    def __setstate__(self, state):
        super().__setstate__({name: unpack_value(value) for name, value in state.items()})


def mark(kind, **content):
    """Return a dict that `unpack_value` knows."""
    return {_MARK: kind, **content}


def pack_values(state):
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


def unpack_value(value, unpack=UNPACK):
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
