"""Confidence intervals of rates, groups and thresholds: against scipy, a loop, and a bootstrap in loops."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from sklearn_psp.metrics import far_frr, group_error_rates, rate_interval, threshold_at, threshold_interval

TARGETS = ["accuracy", "eer", ("far", 0.1)]
COLUMNS = ["group", "n_genuine", "n_impostor", "far", "far_low", "far_high", "frr", "frr_low", "frr_high"]


# ------------------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_rate_interval__equals_scipy(confidence):
    for errors, n in [(0, 10), (1, 10), (5, 10), (10, 10), (3, 10000), (0, 1), (1, 1)]:
        expected = binomtest(errors, n).proportion_ci(confidence, method="exact")
        # scipy looks for the ends step by step, to a tolerance.
        np.testing.assert_allclose(rate_interval(errors, n, confidence=confidence), expected, rtol=1e-7)


def test_rate_interval__takes_arrays_and_gives_floats_for_numbers():
    low, high = rate_interval(pd.Series([0, 3]), pd.Series([30, 30]))
    for i, errors in enumerate([0, 3]):
        assert (low[i], high[i]) == rate_interval(errors, 30)
    assert all(type(end) is float for end in rate_interval(np.int64(1), 30))


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0.5, 0.999))
def test_rate_interval__holds_the_rate(errors, others, confidence):
    n = max(errors + others, 1)
    low, high = rate_interval(errors, n, confidence=confidence)
    assert 0 <= low <= errors / n <= high <= 1
    assert rate_interval(n - errors, n, confidence=confidence) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("errors", "n"), [(3, 2), (-1, 5), (0, 0), ([1, 6], [5, 5])])
def test_rate_interval__refuses_impossible_counts(errors, n):
    with pytest.raises(ValueError, match="n_errors must be from 0 to n, and n at least 1"):
        rate_interval(errors, n)


def test_rate_interval__refuses_rates():
    with pytest.raises(ValueError, match="n_errors must be an integer"):
        rate_interval(0.1, 10)


# ------------------------------------------------------------------------------------------------- groups


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
def test_bad_input_of_groups__is_named(options, message):
    given_as = {"y_true": [1, 1, 0, 0], "scores": [0.9, 0.4, 0.2, 0.7], "threshold": 0.5, "groups": list("abab")}
    with pytest.raises(ValueError, match=message):
        group_error_rates(**given_as | options)


# ------------------------------------------------------------------------------------------------- thresholds


def random_pairs(seed=0, n=200, ties=False):
    rng = np.random.default_rng(seed)
    y_true = rng.random(n) < 0.4
    scores = rng.normal(size=n) + 2 * y_true
    return y_true, scores.round(1) if ties else scores


def drawn(n, rng):
    """Say how often each of n is among n that are drawn with replacement."""
    counts = [0] * n
    for place in rng.randint(n, size=n):
        counts[place] += 1
    return counts


def naive_interval(y_true, scores, target, items, confidence, n_resamples, seed):
    """Repeat every pair as often as it was drawn, and ask `threshold_at`."""
    rng = np.random.RandomState(seed)
    n = len(y_true)
    pairs = [(i, -1 - i) for i in range(n)] if items is None else [tuple(pair) for pair in items]
    others = [{name for j, other in enumerate(pairs) if j != i for name in other} for i in range(n)]
    alone = [i for i in range(n) if not others[i] & set(pairs[i])]
    names = sorted({name for i in range(n) if i not in alone for name in pairs[i]})
    thresholds = []
    while len(thresholds) < n_resamples:
        weights = [0] * n
        if alone:
            for i, weight in zip(alone, drawn(len(alone), rng), strict=True):
                weights[i] = weight
        if names:
            times = dict(zip(names, drawn(len(names), rng), strict=True))
            for i in range(n):
                if i not in alone:
                    weights[i] = times[pairs[i][0]] * times[pairs[i][1]]
        repeated = np.repeat(y_true, weights)
        if 0 < repeated.sum() < len(repeated):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                thresholds.append(threshold_at(repeated, np.repeat(scores, weights), target))
    return tuple(np.percentile(thresholds, [50 * (1 - confidence), 50 * (1 + confidence)]))


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_without_items__pairs_are_drawn(target, ties):
    y_true, scores = random_pairs(n=40, ties=ties)
    interval = threshold_interval(y_true, scores, target, confidence=0.8, n_resamples=30, random_state=5)
    assert interval == pytest.approx(naive_interval(y_true, scores, target, None, 0.8, 30, 5))
    assert all(type(end) is float for end in interval)


@st.composite
def pairs_of_images(draw):
    """Few images, in many pairs or in one; some are compared with themselves."""
    n = draw(st.integers(2, 14))
    y_true = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda y: any(y) and not all(y)))
    scores = draw(st.lists(st.integers(-8, 8).map(lambda i: i / 4), min_size=n, max_size=n))
    name = st.integers(0, draw(st.integers(1, 30)))
    return np.array(y_true), np.array(scores), np.array(draw(st.lists(st.tuples(name, name), min_size=n, max_size=n)))


@given(pairs_of_images(), st.sampled_from(TARGETS), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_with_items__images_are_drawn_and_pairs_of_no_others_by_themselves(drawn_pairs, target, seed):
    y_true, scores, items = drawn_pairs
    options = {"items": items, "confidence": 0.9, "n_resamples": 6}
    interval = threshold_interval(y_true, scores, target, random_state=seed, **options)
    assert interval == pytest.approx(naive_interval(y_true, scores, target, items, 0.9, 6, seed))


def test_items__may_be_names_of_any_kind():
    y_true, scores = random_pairs(n=40)
    numbers = np.random.default_rng(0).integers(0, 10, (40, 2))
    expected = threshold_interval(y_true, scores, "eer", items=numbers, n_resamples=20, random_state=0)
    names = np.array(list("abcdefghij"))[numbers]
    for items in (names, names.astype(object), names.tolist(), pd.DataFrame(names, columns=["a", "b"]), numbers * 7):
        assert threshold_interval(y_true, scores, "eer", items=items, n_resamples=20, random_state=0) == expected


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_pairs_that_share_no_image__are_drawn_as_without_items(target):
    y_true, scores = random_pairs(n=60)
    options = {"n_resamples": 40, "random_state": 3}
    expected = threshold_interval(y_true, scores, target, **options)
    items = np.arange(120).reshape(60, 2)
    items[7, 1] = items[7, 0]  # an image compared with itself is in no other pair either
    assert threshold_interval(y_true, scores, target, items=items, **options) == expected


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_interval__holds_the_threshold_of_the_sample(target, seed):
    y_true, scores = random_pairs(seed, n=400)
    options = {"n_resamples": 100, "random_state": 0}
    low, high = threshold_interval(y_true, scores, target, **options)
    assert low < threshold_at(y_true, scores, target) < high
    inner_low, inner_high = threshold_interval(y_true, scores, target, confidence=0.5, **options)
    assert low < inner_low < inner_high < high


def test_seed__repeats_the_interval():
    y_true, scores = random_pairs()
    first, again, other = (
        threshold_interval(y_true, scores, "eer", n_resamples=20, random_state=seed)
        for seed in (0, np.random.RandomState(0), 1)
    )
    assert first == again != other


def portraits_with_an_effect(rng, n_images=24):
    """All pairs of images that raise or lower all scores they are in; a threshold of 1 gives equal rates."""
    first, second = np.triu_indices(n_images, 1)
    person = np.arange(n_images) % 6
    y_true = person[first] == person[second]
    effect = rng.normal(scale=0.5, size=n_images)
    scores = 2.0 * y_true + effect[first] + effect[second] + 0.3 * rng.normal(size=len(first))
    return y_true, scores, np.column_stack((first, second))


def test_pairs_that_share_images__make_the_interval_wider_and_right():
    rng = np.random.default_rng(0)
    covered, widths = np.zeros((2, 60), dtype=bool), np.zeros((2, 60))
    for i in range(60):
        y_true, scores, items = portraits_with_an_effect(rng)
        for row, drawn_by in enumerate((None, items)):
            low, high = threshold_interval(y_true, scores, "eer", items=drawn_by, n_resamples=60, random_state=i)
            covered[row, i], widths[row, i] = low <= 1 <= high, high - low
    by_pairs, by_images = covered.mean(axis=1)
    assert by_images > 0.85
    assert by_pairs < 0.7  # it says 0.95
    assert widths[1].mean() > 1.5 * widths[0].mean()


def test_independent_pairs__are_covered_as_often_as_promised():
    rng = np.random.default_rng(0)
    y_true = np.repeat([True, False], 100)
    covered = []
    for i in range(100):
        scores = rng.normal(size=200) + 2 * y_true
        low, high = threshold_interval(y_true, scores, "eer", confidence=0.9, n_resamples=80, random_state=i)
        covered.append(low <= 1 <= high)
    assert 0.8 < np.mean(covered) < 0.98


@pytest.mark.parametrize("items", [None, [["a", "b"], ["a", "c"]]], ids=["pairs", "images"])
def test_one_pair_of_each_kind__is_drawn_until_both_are_there(items):
    interval = threshold_interval([0, 1], [0.0, 1.0], "eer", items=items, n_resamples=5, random_state=0)
    assert interval == (0.5, 0.5)


def test_rate_that_few_pairs_decide__is_not_warned_of_in_every_resample():
    y_true, scores = random_pairs(n=50)
    low, high = threshold_interval(y_true, scores, ("far", 0.001), n_resamples=10, random_state=0)
    assert low <= high <= np.nextafter(scores.max(), np.inf)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"items": np.zeros((3, 2))},
            r"items must hold the two images of each of the 4 pairs; got the shape \(3, 2\)",
        ),
        ({"items": np.zeros((4, 3))}, r"got the shape \(4, 3\)"),
        ({"items": np.zeros(4)}, r"got the shape \(4,\)"),
        ({"target": "far"}, 'target must be "accuracy", "eer" or'),
        ({"target": ("far", 0)}, r'target must be .*\("far", rate\) with 0 < rate <= 1'),
        ({"confidence": 0}, "The 'confidence' parameter of threshold_interval must be"),
        ({"confidence": 1.0}, "The 'confidence' parameter of threshold_interval must be"),
        ({"n_resamples": 0}, "The 'n_resamples' parameter of threshold_interval must be"),
        ({"n_resamples": 2.5}, "The 'n_resamples' parameter of threshold_interval must be"),
        ({"random_state": "a"}, "The 'random_state' parameter of threshold_interval must be"),
        ({"y_true": [1, 1, 1, 1]}, r"no impostor \(0\) pairs"),
        ({"y_true": [1, 0]}, "one number for each of the 2 pairs"),
        ({"scores": [0.1, np.nan, 0.3, 0.4]}, r"scores\[1\] is nan"),
    ],
    ids=lambda value: str(next(iter(value.items()))) if isinstance(value, dict) else "",
)
def test_bad_input_of_a_threshold_interval__is_named(options, message):
    with pytest.raises(ValueError, match=message):
        threshold_interval(**{"y_true": [0, 0, 1, 1], "scores": [0.1, 0.4, 0.3, 0.8], "target": "eer", **options})
