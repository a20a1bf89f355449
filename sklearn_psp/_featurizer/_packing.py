"""State of a featurizer in a saved file: what of its network is there.

============================  ==================================================================
always in the file            parameters, tables, centre, precision, sha256 of the weights
named, not in the file        installed, downloaded and random weights (with their seed)
in the file, with its sha256  weights read from a path of the user's, once fitted
in the file                   weights that a classifier trained, of a network that is named
weights only                  a module of the user's own; `load` is given the architecture
============================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sklearn_psp._persistence import (
    UNPACK,
    SavedWeights,
    TrainedWeights,
    class_name,
    given_module,
    hash_tensors,
    hold,
    mark,
    note_module,
    pack_values,
    unpack_value,
)

__all__ = ["pack_featurizer", "unpack_featurizer"]

_NAMED = (None, "default", "download")


def pack_featurizer(
    state: dict[str, Any], read_weights: Callable[[dict[str, Any], str | None], np.ndarray]
) -> dict[str, Any]:
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
    modules: dict[int, np.ndarray] = {}
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
                request["weights"] = mark("weights", origin=origin, sha256=sha256, **_packed(tensors))
        request["backbone"] = _pack_module(request["backbone"], modules, read_weights)
        state["_request"] = pack_values(request)
    state["backbone"] = _pack_module(module, modules, read_weights)
    return pack_values(state)


def _pack_module(module, packed, read_weights):
    if isinstance(module, str):
        return module
    tensors = packed.get(id(module))
    if tensors is None:
        tensors = read_weights({"backbone": module, "weights": "default"}, None)
    name = class_name(module)
    note_module(name)
    return mark("module", name=name, **_packed(tensors))


def _packed(tensors):
    own_sha256 = hash_tensors(tensors)
    return {"tensors": hold(tensors, key=own_sha256), "own_sha256": own_sha256}


def unpack_featurizer(state: dict[str, Any], make_module: Callable[[Any, np.ndarray], Any]) -> dict[str, Any]:
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

    def unpack_module(content):
        tensors = content["tensors"]
        return given_module(content["name"], content["own_sha256"], lambda module: make_module(module, tensors))

    unpack = {**UNPACK, "module": unpack_module}
    state = {name: unpack_value(value, unpack) for name, value in state.items()}
    request = state.get("_request")
    if isinstance(request, dict):
        state["_request"] = {name: unpack_value(value, unpack) for name, value in request.items()}
    return state
