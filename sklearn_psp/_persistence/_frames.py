"""Columns, tables and labels as plain numpy arrays, and back: what a file without pickle can hold.

An encoded column is a dict of strings, numbers, None, lists, dicts and numpy arrays that hold no Python objects.
Strings become one block of UTF-8 with offsets: a million of them take a fifth of a second.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["decode_array", "decode_frame", "encode_array", "encode_frame"]

_PLAIN_KINDS = "biufcmMSU"
_MISSING = (None, math.nan, pd.NA, pd.NaT)  # by their code; 0 means present, and stands for no item
_NUMPY_SCALARS = {np.str_: str, np.bool_: bool, np.float16: float, np.float32: float, np.float64: float} | {
    np.dtype(code).type: int for code in "bhilqBHILQ"
}
_REMEDY = (
    "what can be saved is numbers, strings, booleans, dates, time spans, categories and missing values; turn it into "
    "one of them, str for instance, or leave it out"
)


def encode_array(values: Any, *, name: str = "values") -> dict[str, Any]:
    """Turn a column into plain arrays.

    Parameters
    ----------
    values : ndarray, pandas extension array, Series or Index
        Booleans, numbers, dates, time spans, strings, categories, intervals, periods, pandas' nullable types; or an
        object array of str, int, float, bool and missing values, mixed or not. numpy's scalars in an object array
        become Python's.
    name : str, default="values"
        What an error calls it.

    Returns
    -------
    dict
        What `decode_array` takes.

    Raises
    ------
    TypeError
        If there is something that cannot be saved; the message says what and where.
    """
    if isinstance(values, pd.Series | pd.Index):
        values = values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array
    if isinstance(values, pd.api.extensions.ExtensionArray):
        return _encode_extension(values, name)
    if isinstance(values, np.ma.MaskedArray) or not isinstance(values, np.ndarray):
        raise TypeError(f"{name} is a {type(values).__name__}, which cannot be saved; {_REMEDY}")
    if values.dtype.kind in _PLAIN_KINDS:
        return {"kind": "array", "values": np.asarray(values)}
    if values.dtype != object:
        raise TypeError(f"{name} has dtype {values.dtype}, which cannot be saved; {_REMEDY}")
    state = _encode_objects(values.ravel(), name)
    return state if values.ndim == 1 else {**state, "shape": list(values.shape)}


def decode_array(state: dict[str, Any]) -> Any:
    """Make the column again that `encode_array` took.

    Parameters
    ----------
    state : dict
        What `encode_array` returned.

    Returns
    -------
    ndarray or pandas extension array
        The column, of the dtype it had.
    """
    values = _DECODERS[state["kind"]](state)
    return values.reshape(state["shape"]) if "shape" in state else values


def encode_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """Turn a table into plain arrays.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns as `encode_array` takes them, under labels of any kind that can be saved; `attrs` are left out.

    Returns
    -------
    dict
        What `decode_frame` takes.

    Raises
    ------
    TypeError
        If a column holds something that cannot be saved; the message names the column.
    """
    return {
        "columns": _encode_index(frame.columns, "the column labels"),
        "index": _encode_index(frame.index, "the index"),
        "arrays": [
            encode_array(frame.iloc[:, position], name=f"column {label!r}")
            for position, label in enumerate(frame.columns)
        ],
    }


def decode_frame(state: dict[str, Any]) -> pd.DataFrame:
    """Make the table again that `encode_frame` took.

    Parameters
    ----------
    state : dict
        What `encode_frame` returned.

    Returns
    -------
    pandas.DataFrame
        The table, with its dtypes, column labels and index.
    """
    index = _decode_index(state["index"])
    arrays = [decode_array(column) for column in state["arrays"]]
    # By position, for two columns may share a label; with its dtype, or pandas 3 makes strings of objects.
    series = {i: pd.Series(array, index=index, dtype=array.dtype) for i, array in enumerate(arrays)}
    frame = pd.DataFrame(series, index=index)
    frame.columns = _decode_index(state["columns"])
    return frame


def _encode_objects(values, name):
    items = values.tolist()
    types = set(map(type, items))
    codes = None
    if types & {type(None), float, np.float64, np.float32, np.float16, type(pd.NA), type(pd.NaT)}:
        codes = np.fromiter(map(_missing_code, items), np.uint8, len(items))
        if not codes.any():
            codes = None
    present = items if codes is None else [item for item, code in zip(items, codes.tolist(), strict=True) if not code]
    types = set(map(type, present))
    if types <= {str, np.str_}:
        return {"kind": "strings", **_encode_strings(present), "missing": codes}
    for kind in types - {str, int, float, bool}:
        if kind not in _NUMPY_SCALARS:
            position = next(position for position, item in enumerate(items) if type(item) is kind)
            raise TypeError(
                f"{name} holds a {kind.__module__}.{kind.__qualname__} at position {position}, which cannot be saved; "
                f"{_REMEDY}"
            )
    present = [_NUMPY_SCALARS[type(item)](item) if type(item) in _NUMPY_SCALARS else item for item in present]
    return {"kind": "objects", "text": _text(present), "missing": codes}


def _missing_code(item):
    if item is None:
        return 1
    if isinstance(item, float | np.floating):
        return 2 if math.isnan(item) else 0
    return 3 if item is pd.NA else 4 if item is pd.NaT else 0


def _decode_strings(state):
    return _with_missing(_strings(state), state["missing"])


def _decode_objects(state):
    return _with_missing(_from_text(state["text"]), state["missing"])


def _with_missing(items, codes):
    values = np.empty(len(items) if codes is None else len(codes), dtype=object)
    if codes is None:
        values[:] = items
        return values
    values[codes == 0] = _objects(items)
    for code, missing in enumerate(_MISSING, start=1):
        values[codes == code] = missing
    return values


def _objects(items):
    values = np.empty(len(items), dtype=object)
    values[:] = items
    return values


def _encode_strings(items):
    # Lone surrogates stand for the undecodable bytes in names of files.
    encoded = [item.encode("utf-8", "surrogatepass") for item in items]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return {"utf8": np.frombuffer(b"".join(encoded), dtype=np.uint8), "offsets": offsets}


def _strings(state):
    block = state["utf8"].tobytes()
    spans = pairwise(state["offsets"].tolist())
    if block.isascii():
        text = block.decode("ascii")
        return [text[start:stop] for start, stop in spans]
    return [block[start:stop].decode("utf-8", "surrogatepass") for start, stop in spans]


def _text(items):
    # JSON keeps int, float, bool and str apart, and a float's every digit.
    return np.frombuffer(json.dumps(items).encode("ascii"), dtype=np.uint8)


def _from_text(text):
    return json.loads(text.tobytes())


def _encode_extension(values, name):
    dtype = values.dtype
    if type(values) is pd.arrays.NumpyExtensionArray:
        return encode_array(values.to_numpy(), name=name)
    if isinstance(dtype, pd.CategoricalDtype):
        categories = _encode_index(values.categories, f"the categories of {name}")
        return {"kind": "categorical", "codes": values.codes, "categories": categories, "ordered": bool(values.ordered)}
    if isinstance(dtype, pd.StringDtype):
        options = {"storage": dtype.storage, "nan": dtype.na_value is not pd.NA}
        return {**_encode_objects(np.asarray(values, dtype=object), name), "kind": "text", **options}
    if isinstance(values, pd.arrays.IntegerArray | pd.arrays.FloatingArray | pd.arrays.BooleanArray):
        missing = np.asarray(values.isna())
        plain = values.to_numpy(dtype=bool if dtype.name == "boolean" else dtype.numpy_dtype, na_value=0)
        return {"kind": "nullable", "values": plain, "missing": missing, "dtype": dtype.name}
    if isinstance(values, pd.arrays.DatetimeArray | pd.arrays.TimedeltaArray) and isinstance(dtype, np.dtype):
        return {"kind": "array", "values": values.to_numpy()}
    if isinstance(dtype, pd.DatetimeTZDtype) and _is_named_zone(dtype):
        plain = values.tz_convert("UTC").tz_localize(None).to_numpy()
        return {"kind": "zoned", "values": plain, "zone": str(dtype.tz)}
    if isinstance(dtype, pd.IntervalDtype):
        ends = {end: encode_array(getattr(values, end), name=name) for end in ("left", "right")}
        return {"kind": "interval", **ends, "closed": dtype.closed}
    if isinstance(dtype, pd.PeriodDtype):
        return {"kind": "period", "ordinals": values.asi8, "frequency": values.freqstr}
    raise TypeError(f"{name} has dtype {dtype}, which cannot be saved; {_REMEDY}")


def _is_named_zone(dtype):
    try:
        return pd.DatetimeTZDtype(dtype.unit, str(dtype.tz)) == dtype
    except (TypeError, ValueError, LookupError, OSError):  # what pandas and zoneinfo raise for no name at all
        return False


def _decode_categorical(state):
    return pd.Categorical.from_codes(
        state["codes"], categories=_decode_index(state["categories"]), ordered=state["ordered"]
    )


def _decode_text(state):
    values = _with_missing(_strings(state), state["missing"])
    storage = state["storage"]
    try:
        dtype = pd.StringDtype(storage, na_value=np.nan if state["nan"] else pd.NA)
    except (TypeError, ImportError):
        # pandas 2.2 knows no `na_value`, and Arrow's storage needs pyarrow: the same strings, kept by Python.
        if state["nan"] and not hasattr(pd.StringDtype(), "na_value"):
            return values
        dtype = pd.StringDtype("python")
        if state["nan"]:
            dtype = pd.StringDtype("python", na_value=np.nan)
    return pd.array(values, dtype=dtype)


def _decode_nullable(state):
    array = {"b": pd.arrays.BooleanArray, "f": pd.arrays.FloatingArray}.get(
        state["values"].dtype.kind, pd.arrays.IntegerArray
    )
    return array(state["values"], state["missing"])


def _decode_zoned(state):
    return pd.DatetimeIndex(state["values"]).tz_localize("UTC").tz_convert(state["zone"]).array


def _decode_interval(state):
    left, right = (pd.Index(decode_array(state[end])) for end in ("left", "right"))
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=state["closed"])


def _decode_period(state):
    return pd.PeriodIndex.from_ordinals(state["ordinals"], freq=state["frequency"]).array


_DECODERS = {
    "array": lambda state: state["values"],
    "categorical": _decode_categorical,
    "interval": _decode_interval,
    "nullable": _decode_nullable,
    "objects": _decode_objects,
    "period": _decode_period,
    "strings": _decode_strings,
    "text": _decode_text,
    "zoned": _decode_zoned,
}


def _encode_index(index, name):
    state = {"names": _text([_label(label, f"a name of {name}") for label in index.names])}
    if isinstance(index, pd.RangeIndex):
        return {**state, "kind": "range", "bounds": [index.start, index.stop, index.step]}
    if isinstance(index, pd.MultiIndex):
        levels = [encode_array(index.get_level_values(level), name=name) for level in range(index.nlevels)]
        return {**state, "kind": "levels", "levels": levels}
    if index.dtype == object and any(type(label) is tuple for label in index):
        return {**state, "kind": "labels", "labels": _text([_label(label, name) for label in index])}
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
        state["frequency"] = index.freqstr
    return {**state, "kind": "values", "values": encode_array(index, name=name)}


def _decode_index(state):
    names = [_from_label(label) for label in _from_text(state["names"])]
    if state["kind"] == "levels":
        levels = [_as_index(decode_array(level)) for level in state["levels"]]
        return pd.MultiIndex.from_arrays(levels, names=names)
    if state["kind"] == "range":
        index = pd.RangeIndex(*state["bounds"])
    elif state["kind"] == "labels":
        labels = [_from_label(label) for label in _from_text(state["labels"])]
        values = np.empty(len(labels), dtype=object)
        for position, label in enumerate(labels):  # numpy would unpack tuples of one length into columns
            values[position] = label
        index = pd.Index(values, dtype=object, tupleize_cols=False)
    else:
        index = _as_index(decode_array(state["values"]))
        if state.get("frequency") is not None:
            index.freq = pd.tseries.frequencies.to_offset(state["frequency"])
    return index.rename(names[0])


def _as_index(values):
    return pd.Index(values, dtype=values.dtype, tupleize_cols=False)


def _label(label, name):
    """Turn a label into what JSON can hold, with a mark on tuples."""
    if type(label) in _NUMPY_SCALARS:
        label = _NUMPY_SCALARS[type(label)](label)
    if type(label) is tuple:
        return {"tuple": [_label(item, name) for item in label]}
    if label is None or type(label) in (str, int, float, bool):
        return label
    raise TypeError(f"{name}: the label {label!r} is a {type(label).__name__}, which cannot be saved; use str")


def _from_label(label):
    return tuple(_from_label(item) for item in label["tuple"]) if isinstance(label, dict) else label
