"""Error rates of pairs against loops over thresholds, scikit-learn and scipy, and cases worked by hand."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import det_curve, roc_curve

from sklearn_psp.exceptions import FewPairsWarning, PSPWarning
from sklearn_psp.metrics import equal_error_rate, error_rates, far_frr, tar_at_far, threshold_at

from . import verification_oracles as oracles

RATES = [
    error_rates,
    equal_error_rate,
    lambda y, s: far_frr(y, s, 0.5),
    lambda y, s: tar_at_far(y, s, 0.5),
    lambda y, s: threshold_at(y, s, "eer"),
]


@st.composite
def pairs(draw):
    """Labels of both kinds, and scores with many ties."""
    n = draw(st.integers(2, 25))
    y_true = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda y: any(y) and not all(y)))
    few = st.integers(-3, 3).map(lambda i: i / 4)
    scores = draw(st.lists(few if draw(st.booleans()) else st.floats(-1, 1, width=32), min_size=n, max_size=n))
    return np.array(y_true), np.array(scores)


def random_pairs(seed=0, n=500, ties=False):
    rng = np.random.default_rng(seed)
    y_true = rng.random(n) < 0.3
    scores = rng.normal(size=n) + y_true
    return y_true, scores.round(1) if ties else scores


# ------------------------------------------------------------------------------------------------- all thresholds


@given(pairs())
def test_error_rates__equal_the_loop(drawn):
    y_true, scores = drawn
    far, frr, thresholds = error_rates(y_true, scores)
    assert thresholds.tolist() == oracles.thresholds(scores.tolist())
    assert far.tolist() == [oracles.far(y_true, scores, t) for t in thresholds]
    assert frr.tolist() == [oracles.frr(y_true, scores, t) for t in thresholds]


@given(pairs())
def test_error_rates__fall_and_rise_from_end_to_end(drawn):
    far, frr, thresholds = error_rates(*drawn)
    assert (np.diff(far) <= 0).all()
    assert (np.diff(frr) >= 0).all()
    assert (np.diff(thresholds) > 0).all()
    assert (np.diff(far - frr) < 0).all()  # every threshold makes a difference
    assert (far[0], frr[0], far[-1], frr[-1]) == (1, 0, 0, 1)


@given(pairs())
def test_far_and_true_rejection_rate__add_up_to_one(drawn):
    y_true, scores = drawn
    for threshold in [*np.unique(scores), 0.1]:
        far, frr = far_frr(y_true, scores, threshold)
        assert far + np.mean(scores[~y_true] < threshold) == pytest.approx(1)
        assert frr + np.mean(scores[y_true] >= threshold) == pytest.approx(1)


@given(pairs())
def test_swapping_people_and_sign__swaps_the_rates(drawn):
    y_true, scores = drawn
    far, frr, thresholds = error_rates(y_true, scores)
    # Rejecting below t is accepting the negative scores above -t.
    other_far, other_frr = far_frr(~y_true, -scores, np.nextafter(-thresholds[:-1], np.inf))
    np.testing.assert_array_equal(other_far, frr[:-1])
    np.testing.assert_array_equal(other_frr, far[:-1])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_error_rates__equal_scikit_learn(ties, weighted):
    y_true, scores = random_pairs(ties=ties)
    weights = np.random.default_rng(1).random(len(scores)) if weighted else None
    far, frr, thresholds = error_rates(y_true, scores, sample_weight=weights)
    fpr, tpr, roc_thresholds = roc_curve(y_true, scores, drop_intermediate=False, sample_weight=weights)
    np.testing.assert_array_equal(thresholds, roc_thresholds[::-1])
    np.testing.assert_allclose(far, fpr[::-1], atol=1e-12)
    np.testing.assert_allclose(1 - frr, tpr[::-1], atol=1e-12)

    det_far, det_frr, det_thresholds = det_curve(y_true, scores, sample_weight=weights)
    finite = np.isfinite(det_thresholds)
    place = np.searchsorted(thresholds, det_thresholds[finite])
    np.testing.assert_allclose(far[place], det_far[finite], atol=1e-12)
    np.testing.assert_allclose(frr[place], det_frr[finite], atol=1e-12)


def test_far_frr__are_the_curve_at_its_thresholds_and_scalars_at_one():
    y_true, scores = random_pairs(ties=True)
    far, frr, thresholds = error_rates(y_true, scores)
    at_all = far_frr(y_true, scores, thresholds)
    np.testing.assert_array_equal(at_all[0], far)
    np.testing.assert_array_equal(at_all[1], frr)
    assert far_frr(y_true, scores, thresholds[7]) == (far[7], frr[7])
    assert all(type(rate) is float for rate in far_frr(y_true, scores, 0))
    assert far_frr(y_true, scores, -np.inf) == (1, 0)
    assert far_frr(y_true, scores, thresholds[:6].reshape(2, 3))[0].shape == (2, 3)


def test_integer_weights__are_repeated_pairs():
    y_true, scores = random_pairs(n=40, ties=True)
    weights = np.random.default_rng(0).integers(1, 4, 40)
    repeated = np.repeat(y_true, weights), np.repeat(scores, weights)
    for weighted, expected in zip(
        error_rates(y_true, scores, sample_weight=weights), error_rates(*repeated), strict=True
    ):
        np.testing.assert_allclose(weighted, expected)
    np.testing.assert_allclose(far_frr(y_true, scores, 0.3, sample_weight=weights), far_frr(*repeated, 0.3))
    assert equal_error_rate(y_true, scores, sample_weight=weights) == pytest.approx(equal_error_rate(*repeated))


# ------------------------------------------------------------------------------------------------- equal error rate


@given(pairs())
def test_equal_error_rate__equals_the_loop_and_lies_between(drawn):
    far, frr, _ = error_rates(*drawn)
    eer = equal_error_rate(*drawn)
    assert eer == pytest.approx(oracles.equal_error_rate(*drawn), abs=1e-12)
    assert np.minimum(far, frr).max() - 1e-12 <= eer <= np.maximum(far, frr).min() + 1e-12


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], 0),
        ([0.8, 0.9, 0.1, 0.2], 1),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
        ([0.1, 0.8, 0.2, 0.9], 0.5),
    ],
)
def test_equal_error_rate__by_hand(scores, expected):
    assert equal_error_rate([0, 0, 1, 1], scores) == expected


# ------------------------------------------------------------------------------------------------- targets


@given(pairs(), st.floats(1e-3, 1))
@settings(max_examples=200)
@pytest.mark.filterwarnings("ignore::sklearn_psp.exceptions.FewPairsWarning")
def test_tar_at_far__is_the_best_of_all_thresholds(drawn, target):
    y_true, scores = drawn
    assert tar_at_far(y_true, scores, target) == pytest.approx(oracles.tar_at_far(y_true, scores, target))
    far, frr = far_frr(y_true, scores, threshold_at(y_true, scores, ("far", target)))
    assert far <= target
    assert 1 - frr == pytest.approx(tar_at_far(y_true, scores, target))


@given(pairs())
def test_threshold_at_accuracy__decides_most_pairs_rightly(drawn):
    y_true, scores = drawn
    threshold = threshold_at(y_true, scores, "accuracy")
    best = oracles.best_accuracy(y_true, scores)
    assert oracles.accuracy(y_true, scores, threshold) == best
    for other in oracles.thresholds(scores.tolist()):
        if oracles.accuracy(y_true, scores, other) == best:
            assert oracles.far(y_true, scores, threshold) <= oracles.far(y_true, scores, other)


@given(pairs())
def test_threshold_at_eer__brings_the_rates_as_close_as_they_come(drawn):
    far, frr, _ = error_rates(*drawn)
    at = far_frr(*drawn, threshold_at(*drawn, "eer"))
    assert abs(at[0] - at[1]) == pytest.approx(np.abs(far - frr).min(), abs=1e-12)


@pytest.mark.parametrize(("target", "expected"), [("accuracy", 0.5), ("eer", 0.5), (("far", 0.5), 0.125)])
def test_threshold_at__is_in_the_middle_of_what_it_separates(target, expected):
    assert threshold_at([0, 0, 1, 1], [0.0, 0.25, 0.75, 1.0], target) == expected


def test_threshold_at_far__is_the_lowest_that_keeps_the_rate():
    # One of four impostors may be accepted, 0.6; 0.4 may not.
    y_true, scores = [0, 0, 0, 0, 1, 1], [0.0, 0.125, 0.375, 0.625, 0.5, 0.75]
    assert threshold_at(y_true, scores, ("far", 0.25)) == (0.375 + 0.5) / 2
    assert threshold_at(y_true, scores, ["far", 1]) == 0.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_threshold__separates_neighbouring_numbers_in_their_own_precision(dtype):
    low = dtype(0.3)
    scores = np.array([low, np.nextafter(low, dtype(1))], dtype=dtype)
    threshold = threshold_at([0, 1], scores, "accuracy")
    assert dtype(threshold) == threshold
    assert (scores >= threshold).tolist() == [False, True]
    assert (scores >= dtype(threshold)).tolist() == [False, True]
    nothing = threshold_at([1, 0], scores, "accuracy")  # one error in any case: reject all
    assert np.isfinite(nothing)
    assert (scores >= dtype(nothing)).tolist() == [False, False]


def test_a_rate_of_exactly_one_pair__is_within_the_target():
    y_true = np.r_[np.zeros(1000, bool), True]
    scores = np.r_[np.linspace(0, 1, 1000), 0.9995]
    assert far_frr(y_true, scores, threshold_at(y_true, scores, ("far", 1e-3))) == (1e-3, 0)
    assert tar_at_far(y_true, scores, 1e-3) == 1


def test_too_few_impostor_pairs__are_said_with_the_number_needed():
    y_true, scores = np.arange(400) % 2 == 0, np.linspace(0, 1, 400)
    for call in (lambda: tar_at_far(y_true, scores, 1e-3), lambda: threshold_at(y_true, scores, ("far", 1e-3))):
        with pytest.warns(FewPairsWarning, match=r"far=0.001 .* 200 impostor pairs.* 0.005.* 1,000 .* 3,000") as record:
            call()
        assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tar_at_far(y_true, scores, 1 / 200)
    assert issubclass(FewPairsWarning, PSPWarning)
    assert isinstance(pickle.loads(pickle.dumps(record[0].message)), FewPairsWarning)


@pytest.mark.parametrize(
    "target", ["far", "EER", None, 0.1, ("far",), ("far", 0), ("far", 2), ("far", "a"), ("far", True), ("tar", 0.1)]
)
def test_unknown_target__is_an_error_that_shows_it(target):
    with pytest.raises(ValueError, match=r'target must be "accuracy", "eer" or \("far", rate\).*got'):
        threshold_at([0, 1], [0.0, 1.0], target)


@pytest.mark.parametrize("far", [0, -0.1, 1.5, "a", None])
def test_far_out_of_range__is_refused(far):
    with pytest.raises(ValueError, match="The 'far' parameter of tar_at_far must be a float in the range"):
        tar_at_far([0, 1], [0.0, 1.0], far)


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("y_true", "scores", "message"),
    [
        ([], [], "y_true is empty"),
        ([1, 1], [0.1, 0.2], r"no impostor \(0\) pairs, so FAR is undefined"),
        ([0, 0], [0.1, 0.2], r"no genuine \(1\) pairs, so FRR is undefined"),
        ([0, 1], [0.1, np.nan], r"scores must be finite; scores\[1\] is nan, and 1 of 2 are not"),
        ([0, 1], [np.inf, 0.1], r"scores must be finite; scores\[0\] is inf"),
        ([0, 1], [0.1, 0.2, 0.3], "one number for each of the 2 pairs of y_true; got 3"),
        ([0, 1], ["a", "b"], "scores must be numbers"),
        ([[0, 1]], [0.1, 0.2], r"y_true must have one dimension; got the shape \(1, 2\)"),
        ([0, 1], [[0.1], [0.2]], r"scores must have one dimension; got the shape \(2, 1\)"),
        ([0, 2], [0.1, 0.2], r"y_true must be bool, or 0 and 1 .*y_true\[1\] is 2"),
        ([-1, 1], [0.1, 0.2], r"y_true\[0\] is -1"),
        (["no", "yes"], [0.1, 0.2], "got the dtype <U3; compare labels first"),
        ([True, None], [0.1, 0.2], "y_true must be bool, or 0 and 1"),
        ([True, np.nan, False], [0.1, 0.2, 0.3], "y_true must be bool, or 0 and 1"),
    ],
)
def test_bad_pairs__are_named(rate, y_true, scores, message):
    with pytest.raises(ValueError, match=message):
        rate(y_true, scores)


def test_pandas_input__is_taken_by_position():
    y_true, scores = random_pairs(n=50)
    index = np.random.default_rng(0).permutation(50)
    expected = error_rates(y_true, scores)
    for dtype in (bool, int, float, "boolean", "Int64", object):
        result = error_rates(pd.Series(y_true, index=index).astype(dtype), pd.Series(scores, index=index))
        for got, wanted in zip(result, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_integer_scores__are_numbers():
    assert threshold_at([0, 1], [1, 2], "accuracy") == 1.5


def test_weights__are_checked():
    with pytest.raises(ValueError, match=r"sample_weight must have the shape \(n_pairs,\) = \(2,\)"):
        error_rates([0, 1], [0.1, 0.2], sample_weight=[1])
    with pytest.raises(ValueError, match=r"sample_weight is 0 for all genuine \(1\) pairs"):
        equal_error_rate([0, 1], [0.1, 0.2], sample_weight=[1, 0])


def test_nan_threshold__is_refused():
    with pytest.raises(ValueError, match="threshold must be a number or an array of numbers; got NaN"):
        far_frr([0, 1], [0.1, 0.2], np.nan)
