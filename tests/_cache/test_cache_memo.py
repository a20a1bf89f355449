"""Features in memory: a dictionary of dictionaries that is bounded, and forgets the setting used longest ago."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_psp._cache import FeatureMemo

SETTINGS = st.sampled_from([b"a", b"b", b"c"])
KEYS = st.lists(st.integers(0, 300).map(lambda i: i.to_bytes(2, "big")), max_size=40)


def row_of(setting, key, call=0):
    return np.array([setting[0], int.from_bytes(key, "big"), call], dtype=np.float32)


def rows_of(setting, keys, call=0):
    return np.array([row_of(setting, key, call) for key in keys], dtype=np.float32).reshape(len(keys), 3)


@given(st.lists(st.tuples(st.booleans(), SETTINGS, KEYS), max_size=25))
def test_it_is_a_dictionary_that_keeps_the_first_row(calls):
    memo, expected = FeatureMemo(), {}
    for call, (adds, setting, keys) in enumerate(calls):
        if adds:
            memo.add(setting, keys, rows_of(setting, keys, call))
            for key in keys:
                expected.setdefault((setting, key), row_of(setting, key, call))
            continue
        found, rows = memo.find(setting, keys)
        assert found.tolist() == [(setting, key) in expected for key in keys]
        if found.any():
            np.testing.assert_array_equal(rows, [expected[setting, key] for key in keys if (setting, key) in expected])
        else:
            assert rows is None or len(rows) == 0


@given(st.lists(st.tuples(SETTINGS, KEYS), max_size=25), st.integers(1, 200))
def test_it_takes_no_more_memory_than_it_may(calls, n_rows):
    memo = FeatureMemo(max_bytes=12 * n_rows)
    for setting, keys in calls:
        memo.add(setting, keys, rows_of(setting, keys))
        assert memo.n_bytes <= memo.max_bytes
        known, rows = memo.find(setting, keys)
        if known.any():
            np.testing.assert_array_equal(
                rows, rows_of(setting, [k for k, hit in zip(keys, known, strict=True) if hit])
            )


def test_the_settings_used_last_stay():
    keys = [bytes([i]) for i in range(100)]
    memo = FeatureMemo(max_bytes=12 * 300)
    memo.add(b"a", keys, rows_of(b"a", keys))
    memo.add(b"b", keys, rows_of(b"b", keys))
    memo.find(b"a", keys[:1])
    memo.add(b"c", keys, rows_of(b"c", keys))
    assert [bool(memo.find(setting, keys)[0].all()) for setting in (b"a", b"b", b"c")] == [True, False, True]


def test_a_setting_larger_than_the_bound_keeps_its_first_rows():
    keys = [bytes([i]) for i in range(100)]
    memo = FeatureMemo(max_bytes=12 * 70)
    for start in range(0, 100, 30):
        memo.add(b"a", keys[start : start + 30], rows_of(b"a", keys[start : start + 30]))
    found, rows = memo.find(b"a", keys)
    assert found.tolist() == [True] * 70 + [False] * 30
    np.testing.assert_array_equal(rows, rows_of(b"a", keys[:70]))


def test_rows_larger_than_the_bound_are_not_kept():
    memo = FeatureMemo(max_bytes=11)
    memo.add(b"a", [b"key"], rows_of(b"a", [b"key"]))
    assert not memo.find(b"a", [b"key"])[0].any()
    assert memo.n_bytes == 0


def test_keys_that_are_not_known_are_found_nowhere():
    memo = FeatureMemo()
    memo.add(b"a", [b"key"], rows_of(b"a", [b"key"]))
    assert memo.find(b"a", [None, b"key", None])[0].tolist() == [False, True, False]


@pytest.mark.parametrize("side", ["given", "returned"])
def test_writing_to_rows_changes_nothing_that_is_kept(side):
    memo, rows = FeatureMemo(), rows_of(b"a", [b"k"])
    expected = rows.copy()
    memo.add(b"a", [b"k"], rows)
    (rows if side == "given" else memo.find(b"a", [b"k"])[1])[:] = -1
    np.testing.assert_array_equal(memo.find(b"a", [b"k"])[1], expected)
