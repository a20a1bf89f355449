"""Error rates of groups: against a loop over pandas' groups, and what a missing group or kind does."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_psp.metrics import far_frr, group_error_rates, rate_interval

COLUMNS = ["group", "n_genuine", "n_impostor", "far", "far_low", "far_high", "frr", "frr_low", "frr_high"]


@st.composite
def pairs_in_groups(draw):
    """Labels of both kinds, scores with ties, and groups of which some are missing."""
    n = draw(st.integers(2, 30))
    y_true = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda y: any(y) and not all(y)))
    scores = draw(st.lists(st.integers(-3, 3).map(lambda i: i / 4), min_size=n, max_size=n))
    groups = draw(st.lists(st.sampled_from(["b", "a", "c", None]), min_size=n, max_size=n).filter(any))
    return np.array(y_true), np.array(scores), groups


def by_hand(y_true, scores, threshold, groups, confidence):
    frame = pd.DataFrame({"same": y_true, "score": scores, "group": groups})
    rows = []
    for name, pairs in frame.dropna(subset="group").groupby("group"):
        row = {"group": name, "n_genuine": int(pairs["same"].sum()), "n_impostor": int((~pairs["same"]).sum())}
        for rate, of, wrong in (
            ("far", pairs[~pairs["same"]], lambda score: score >= threshold),
            ("frr", pairs[pairs["same"]], lambda score: score < threshold),
        ):
            n, n_errors = len(of), sum(wrong(score) for score in of["score"])
            low, high = rate_interval(int(n_errors), n, confidence=confidence) if n else (np.nan, np.nan)
            row |= {rate: n_errors / n if n else np.nan, f"{rate}_low": low, f"{rate}_high": high}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


@given(pairs_in_groups(), st.sampled_from([-0.5, 0.0, 0.1, 0.75, np.inf]), st.sampled_from([0.5, 0.95]))
def test_rates__equal_the_loop_over_the_groups(drawn, threshold, confidence):
    y_true, scores, groups = drawn
    rates = group_error_rates(y_true, scores, threshold, groups, confidence=confidence)
    pd.testing.assert_frame_equal(rates, by_hand(y_true, scores, threshold, groups, confidence), check_dtype=False)
    assert (rates.dtypes[["n_genuine", "n_impostor"]] == np.int64).all()
    assert (rates.dtypes[COLUMNS[3:]] == np.float64).all()


def test_rates_of_a_group__are_those_of_its_pairs_alone():
    rng = np.random.default_rng(0)
    y_true, groups = rng.random(300) < 0.4, rng.choice(["women", "men"], 300)
    scores = rng.normal(size=300) + y_true
    rates = group_error_rates(y_true, scores, 0.4, groups).set_index("group")
    for name in ("women", "men"):
        here = groups == name
        assert (rates["far"][name], rates["frr"][name]) == far_frr(y_true[here], scores[here], 0.4)
    far, frr = far_frr(y_true, scores, 0.4)
    assert np.average(rates["far"], weights=rates["n_impostor"]) == pytest.approx(far)
    assert np.average(rates["frr"], weights=rates["n_genuine"]) == pytest.approx(frr)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=["None", "nan", "NA", "NaT"])
def test_pairs_of_no_group__are_left_out(missing):
    y_true, scores = [1, 0, 1, 0, 0], [0.9, 0.1, 0.2, 0.8, 0.3]
    rates = group_error_rates(y_true, scores, 0.5, ["a", "a", missing, missing, "a"])
    assert rates[["group", "n_genuine", "n_impostor", "far", "frr"]].to_numpy().tolist() == [["a", 1, 2, 0, 0]]


def test_group_of_one_kind__has_nan_for_the_other_rate():
    rates = group_error_rates([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.7], 0.5, ["a", "a", "b", "b"]).set_index("group")
    assert rates.loc["a", ["far", "far_low", "far_high"]].isna().all()
    assert rates.loc["b", ["frr", "frr_low", "frr_high"]].isna().all()
    assert (rates["frr"]["a"], rates["far"]["b"]) == (0.5, 0.5)
    assert (rates["frr_low"]["a"], rates["frr_high"]["a"]) == rate_interval(1, 2)
    assert rates["n_impostor"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ([3, 1, 3, 1], [1, 3]),
        (np.array(["b", "a", "b", "a"]), ["a", "b"]),
        (pd.Series(["b", "a", "b", "a"], index=[7, 3, 7, 1]), ["a", "b"]),
        (pd.Categorical(["old", "young"] * 2, categories=["young", "middle", "old"], ordered=True), ["young", "old"]),
        (pd.array([2, None, 2, 1], dtype="Int64"), [1, 2]),
        ([True, False, True, False], [False, True]),
        ([("f", 1), ("m", 0), ("f", 1), ("m", 0)], [("f", 1), ("m", 0)]),
    ],
    ids=["int", "str", "Series", "Categorical", "Int64", "bool", "tuple"],
)
def test_groups_of_every_kind__come_sorted(groups, names):
    rates = group_error_rates([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.7], 0.5, groups)
    assert rates["group"].tolist() == names
    assert rates.index.equals(pd.RangeIndex(len(names)))
    assert list(rates) == COLUMNS


def test_pandas_columns__are_taken_by_position():
    frame = pd.DataFrame(
        {"same": [1, 1, 0, 0], "score": [0.9, 0.4, 0.2, 0.7], "group": list("abab")}, index=[9, 2, 5, 1]
    )
    expected = group_error_rates(*frame.to_numpy()[:, :2].T.astype(float), 0.5, list("abab"))
    result = group_error_rates(frame["same"], frame["score"], 0.5, frame["group"])
    pd.testing.assert_frame_equal(result, expected)


def test_scores_in_float32__are_compared_as_numbers():
    scores = np.array([0.1, 0.7], dtype=np.float32)  # a little above 0.1 and a little below 0.7
    assert group_error_rates([0, 1], scores, 0.1, ["a", "a"])["far"].tolist() == [1]
    assert group_error_rates([0, 1], scores, 0.7, ["a", "a"])["frr"].tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": [None] * 4}, "groups is missing for all pairs: no rate can be given"),
        ({"groups": ["a"] * 3}, "groups must hold one group for each of the 4 pairs; got 3"),
        ({"threshold": [0.5]}, r"threshold must be one number, which all groups share; got the shape \(1,\)"),
        ({"threshold": np.nan}, "threshold must be a number.*NaN"),
        ({"confidence": 1}, "The 'confidence' parameter of group_error_rates must be"),
        ({"y_true": [1, 1, 1, 1]}, r"y_true holds no impostor \(0\) pairs"),
        ({"y_true": [0, 1]}, "scores must hold one number for each of the 2 pairs"),
        ({"scores": [0.1, 0.2, np.inf, 0.3]}, r"scores\[2\] is inf"),
    ],
    ids=lambda value: str(next(iter(value.items()))) if isinstance(value, dict) else "",
)
def test_bad_input__is_named(options, message):
    given_as = {"y_true": [1, 1, 0, 0], "scores": [0.9, 0.4, 0.2, 0.7], "threshold": 0.5, "groups": list("abab")}
    with pytest.raises(ValueError, match=message):
        group_error_rates(**given_as | options)
