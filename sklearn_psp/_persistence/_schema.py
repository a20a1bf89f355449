"""skops' description of an estimator, with its large arrays put out of its hands and back."""

from __future__ import annotations

import json

from sklearn_psp._persistence._arrays import StoredArray

__all__ = ["arrays_to_stand_ins", "stand_ins_to_arrays"]

_STAND_IN = {
    "__class__": StoredArray.__name__,
    "__module__": StoredArray.__module__,
    "__loader__": "ConstructorFromReduceNode",
}
_ARRAY = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode"}


def _nodes(schema):
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _is(node, kind):
    return all(node.get(key) == value for key, value in kind.items())


def _replace(node, kind, **rest):
    # skops finds an object that is referred to twice by its id.
    identity = {"__id__": node["__id__"]} if "__id__" in node else {}
    node.clear()
    node.update(kind, **identity, **rest)


def stand_ins_to_arrays(schema):
    """Turn stand-ins into ordinary arrays of skops, in place: what is written can be read by skops alone.

    Parameters
    ----------
    schema : dict
        skops' `schema.json`.
    """
    for node in _nodes(schema):
        if _is(node, _STAND_IN):
            name = json.loads(node["content"]["content"][0]["content"])
            _replace(node, _ARRAY, type="numpy", file=name)


def arrays_to_stand_ins(schema, names):
    """Turn arrays into stand-ins, in place: what is read does not pass through skops' buffers.

    Parameters
    ----------
    schema : dict
        skops' `schema.json`.
    names : set of str
        Members of the file that are to be left to `StoredArray`.
    """
    for node in _nodes(schema):
        if _is(node, _ARRAY) and node.get("type") == "numpy" and node.get("file") in names:
            name = {
                "__class__": "str",
                "__module__": "builtins",
                "__loader__": "JsonNode",
                "content": json.dumps(node["file"]),
                "is_json": True,
            }
            arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [name]}
            _replace(node, _STAND_IN, content=arguments)
