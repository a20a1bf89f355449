"""A featurizer's state as skops can hold it, and back.

============================  ==================================================================
always in the file            parameters, tables, centre, precision, sha256 of the weights
named, not in the file        installed, downloaded and random weights (with their seed)
in the file, with its sha256  weights read from a path of the user's, once fitted
in the file                   weights that a classifier trained, of a network that is named
weights only                  a module of the user's own; `load` is given the architecture
============================  ==================================================================
"""

from __future__ import annotations

import os

import pandas as pd

from sklearn_psp._persistence._arrays import hold
from sklearn_psp._persistence._manifest import class_name
from sklearn_psp._persistence._modules import given_module, note_module
from sklearn_psp._persistence._weights import SavedWeights, TrainedWeights, hash_tensors
from sklearn_psp.utils._columns import decode_frame, encode_frame

__all__ = ["pack_featurizer", "unpack_featurizer"]

_MARK = "sklearn_psp"
_NAMED = (None, "default", "download")


def pack_featurizer(state, read_weights):
    """Turn the state of a featurizer into what skops can hold.

    Parameters
    ----------
    state : dict
        Its attributes; not changed.
    read_weights : callable
        `read_weights(request, sha256)` returns the weights of a module of the user's own, or of a path, as bytes.

    Returns
    -------
    dict
        The state, for `unpack_featurizer`.
    """
    state = dict(state)
    request, module = state.get("_request"), state.get("backbone")
    modules = {}
    if request is not None:
        sha256 = state["backbone_info_"]["sha256"]
        own = not isinstance(request["backbone"], str)
        request = dict(request)
        weights = request["weights"]
        if own or weights not in _NAMED:
            saved = isinstance(weights, SavedWeights) and not own
            tensors = weights.tensors if saved else read_weights(request, sha256)
            if own:
                modules[id(request["backbone"])] = tensors
            if weights not in _NAMED and not isinstance(weights, TrainedWeights):
                origin = weights.origin if isinstance(weights, SavedWeights) else weights
                request["weights"] = _mark("weights", origin=origin, sha256=sha256, **_packed(tensors))
        request["backbone"] = _pack_module(request["backbone"], modules, read_weights)
        state["_request"] = {name: _pack_value(value) for name, value in request.items()}
    state["backbone"] = _pack_module(module, modules, read_weights)
    return {name: _pack_value(value) for name, value in state.items()}


def _pack_module(module, packed, read_weights):
    if isinstance(module, str):
        return module
    tensors = packed.get(id(module))
    if tensors is None:
        tensors = read_weights({"backbone": module, "weights": "default"}, None)
    name = class_name(module)
    note_module(name)
    return _mark("module", name=name, **_packed(tensors))


def _packed(tensors):
    own_sha256 = hash_tensors(tensors)
    return {"tensors": hold(tensors, key=own_sha256), "own_sha256": own_sha256}


def _pack_value(value):
    if isinstance(value, pd.DataFrame):
        return _mark("frame", value=hold(encode_frame(value)))
    if isinstance(value, TrainedWeights):
        return _mark("trained", tensors=hold(value.tensors, key=value.sha256), sha256=value.sha256)
    if isinstance(value, os.PathLike):
        return _mark("path", value=os.fspath(value))
    if type(value).__module__ == "torch" and type(value).__name__ == "device":
        return str(value)
    return hold(value)


def _mark(kind, **content):
    return {_MARK: kind, **content}


def unpack_featurizer(state, make_module):
    """Turn what `pack_featurizer` returned into the attributes of a featurizer.

    Parameters
    ----------
    state : dict
        The packed state; any other is returned as it is.
    make_module : callable
        `make_module(module, tensors)` returns a copy of the module with these weights.

    Returns
    -------
    dict
        The attributes.
    """
    state = {name: _unpack_value(value, make_module) for name, value in state.items()}
    request = state.get("_request")
    if isinstance(request, dict):
        state["_request"] = {name: _unpack_value(value, make_module) for name, value in request.items()}
    return state


def _unpack_value(value, make_module):
    if not isinstance(value, dict) or _MARK not in value:
        return value
    content = {name: item for name, item in value.items() if name != _MARK}
    return _UNPACK[value[_MARK]](content, make_module)


def _unpack_module(content, make_module):
    tensors = content["tensors"]
    return given_module(content["name"], content["own_sha256"], lambda module: make_module(module, tensors))


def _unpack_path(content, make_module):
    from pathlib import Path

    return Path(content["value"])


_UNPACK = {
    "frame": lambda content, make_module: decode_frame(content["value"]),
    "module": _unpack_module,
    "path": _unpack_path,
    "trained": lambda content, make_module: TrainedWeights(content["tensors"], content["sha256"]),
    "weights": lambda content, make_module: SavedWeights(**content),
}
