"""Columns and tables become plain arrays, and the same columns and tables again."""

from __future__ import annotations

import datetime
import decimal
import math
import zoneinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sklearn_psp._persistence import decode_array, decode_frame, encode_array, encode_frame

PLAIN = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.unsigned_integer_dtypes()
    | hnp.floating_dtypes()
    | hnp.complex_number_dtypes()
    | hnp.datetime64_dtypes()
    | hnp.timedelta64_dtypes()
    | hnp.unicode_string_dtypes(max_len=5)
    | hnp.byte_string_dtypes(max_len=5)
)
ITEMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([pd.NA, pd.NaT])


def assert_plain(state):
    """Assert that there is nothing in a state that a file without pickle cannot hold."""
    if isinstance(state, dict):
        assert all(type(key) is str for key in state)
        state = list(state.values())
    if isinstance(state, list):
        for item in state:
            assert_plain(item)
    elif isinstance(state, np.ndarray):
        assert not state.dtype.hasobject
        assert type(state) is np.ndarray
    else:
        assert state is None or type(state) in (str, int, float, bool), state


def round_trip(values):
    state = encode_array(values)
    assert_plain(state)
    return decode_array(state)


def objects(items):
    values = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        values[position] = item
    return values


def assert_same_items(found, expected):
    assert found.dtype == object
    assert found.shape == expected.shape
    for a, b in zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True):
        assert type(a) is type(b)
        assert a is b or a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@given(PLAIN.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=2, min_side=0, max_side=5))))
def test_plain_array__comes_back_bit_for_bit(values):
    found = round_trip(values)
    assert found.dtype == values.dtype
    assert found.shape == values.shape
    assert found.tobytes() == values.tobytes()


@given(st.lists(ITEMS))
def test_mixed_objects__come_back_with_their_types(items):
    values = objects(items)
    assert_same_items(round_trip(values), values)


@given(st.lists(st.none() | st.text() | st.just(math.nan)))
def test_strings__come_back_with_what_is_missing(items):
    values = objects(items)
    state = encode_array(values)
    assert state["kind"] == "strings"
    assert_same_items(decode_array(state), values)


def test_strings__may_hold_lone_surrogates_and_nul():
    values = objects(["\udcff.jpg", "", "a\0b", "ä€😀"])
    assert_same_items(round_trip(values), values)


def test_object_array_of_two_dimensions_keeps_its_shape():
    values = objects(["a", 1, None, 2.0]).reshape(2, 2)
    assert_same_items(round_trip(values), values)


def test_numpy_scalars_among_objects__become_those_of_python():
    found = round_trip(objects([np.float64(0.1), np.int64(3), np.bool_(True), np.str_("a"), np.float32(0.5)]))
    assert_same_items(found, objects([0.1, 3, True, "a", 0.5]))


ZONE = zoneinfo.ZoneInfo("Europe/Berlin")
DAYS = pd.date_range("2020-01-01", periods=3)
COLUMNS = {
    "str": pd.Series(["a", None, "c"], dtype="str"),
    "string": pd.Series(["a", None, "ü"], dtype="string"),
    "object": pd.Series(["a", None, "c"], dtype=object),
    "category": pd.Series(["b", None, "a"], dtype="category"),
    "ordered": pd.Series(pd.Categorical([3, 1, 3], categories=[3, 2, 1], ordered=True)),
    "object_categories": pd.Series(pd.Categorical(objects(["x", 1, "x"]), categories=pd.Index(["x", 1], dtype=object))),
    "days_as_categories": pd.Series(DAYS).astype("category"),
    "cut": pd.cut(pd.Series([1.0, 2.0, 3.0]), 2),
    "interval": pd.Series(pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3], closed="left")),
    "period": pd.Series(pd.period_range("2020-01", periods=3, freq="M")),
    "Int8": pd.Series([1, None, -3], dtype="Int8"),
    "UInt64": pd.Series([2**64 - 1, None, 0], dtype="UInt64"),
    "Float32": pd.Series([0.1, None, 2], dtype="Float32"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "zone": pd.Series(DAYS.tz_localize("Europe/Berlin")),
    "zoneinfo": pd.Series(DAYS.tz_localize(ZONE)),
    "offset": pd.Series(DAYS.tz_localize(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))),
    "seconds": pd.Series(np.array([0, "NaT", 5], dtype="M8[s]")),
    "zoned_seconds": pd.Series(np.array([0, "NaT", 5], dtype="M8[s]")).dt.tz_localize("UTC"),
    "span": pd.Series(np.array([0, "NaT", 5], dtype="m8[ms]")),
    "float16": pd.Series([0.5, math.nan, 2], dtype="float16"),
    "complex": pd.Series([1j, 2, 3]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_column__comes_back_with_its_dtype(name):
    series = COLUMNS[name]
    found = round_trip(series)
    assert found.dtype == series.dtype
    pd.testing.assert_series_equal(pd.Series(found, dtype=found.dtype), series)


@pytest.mark.parametrize("name", COLUMNS)
def test_empty_column__comes_back_with_its_dtype(name):
    found = round_trip(COLUMNS[name].iloc[:0])
    assert len(found) == 0
    assert found.dtype == COLUMNS[name].dtype


def frame_round_trip(frame):
    state = encode_frame(frame)
    assert_plain(state)
    return decode_frame(state)


def test_frame_of_every_kind__comes_back():
    frame = pd.DataFrame(COLUMNS)
    pd.testing.assert_frame_equal(frame_round_trip(frame), frame)
    assert isinstance(frame_round_trip(frame).index, pd.RangeIndex)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "a"],
        [0, 1],
        [0, "0"],
        [1.5, None],
        pd.Index([("a", 1), ("b", (2, None))], tupleize_cols=False),
        pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]),
        pd.date_range("2020", periods=2, name="day"),
        pd.RangeIndex(4, 0, -2, name=("a", 1)),
        pd.Index(["x", "y"], dtype="category"),
        pd.Index([1, 2], dtype="int8", name=3),
    ],
    ids=str,
)
def test_labels_of_columns_and_rows__come_back(labels):
    frame = pd.DataFrame([[1, "a"], [2, "b"]])
    frame.columns, frame.index = labels, labels
    found = frame_round_trip(frame)
    pd.testing.assert_frame_equal(found, frame)
    assert [type(label) for label in found.columns] == [type(label) for label in frame.columns]


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame(index=[3, 4]), pd.DataFrame(columns=["a"])], ids=repr)
def test_empty_frame__comes_back(frame):
    pd.testing.assert_frame_equal(frame_round_trip(frame), frame)


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (Path("a.jpg"), "Path"),
        (decimal.Decimal(1), r"decimal\.Decimal"),
        ([1, 2], r"builtins\.list"),
        (np.zeros(2), r"numpy\.ndarray"),
        ((1, 2), r"builtins\.tuple"),
        (b"a", r"builtins\.bytes"),
        (pd.Timestamp(0), "Timestamp"),
    ],
)
def test_item_that_cannot_be_saved__is_named(item, kind):
    frame = pd.DataFrame({"good": [1, 2, 3], "bad": pd.Series(objects(["a", None, item]), dtype=object)})
    with pytest.raises(TypeError, match=rf"column 'bad' holds a .*{kind} at position 2, .*str for instance"):
        encode_frame(frame)


@pytest.mark.parametrize(
    "values",
    [np.zeros(2, dtype=[("a", int)]), np.ma.masked_array([1, 2]), [1, 2], pd.arrays.SparseArray([0, 1])],
    ids=["structured", "masked", "list", "sparse"],
)
def test_array_that_cannot_be_saved__is_refused(values):
    with pytest.raises(TypeError, match=r"column 'x' .*cannot be saved; what can be saved is"):
        encode_array(values, name="column 'x'")


def test_label_that_cannot_be_saved__is_refused():
    with pytest.raises(TypeError, match=r"the label .*b.* is a frozenset, which cannot be saved; use str"):
        encode_frame(pd.DataFrame({frozenset("b"): [1], ("a",): [2]}))


def test_a_hundred_thousand_strings_take_no_object_apiece():
    values = objects([f"folder/{i:06d}.jpg" for i in range(100_000)])
    state = encode_array(values)
    assert sum(part.nbytes for part in state.values() if isinstance(part, np.ndarray)) < 30 * len(values)
    assert_same_items(decode_array(state), values)
