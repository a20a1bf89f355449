"""Error rates of open-set search against loops over probes, and cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_psp.exceptions import FewPairsWarning
from sklearn_psp.metrics import fpir_fnir, identification_error_rates, threshold_at_fpir

from . import verification_oracles as oracles

few = st.integers(-3, 3).map(lambda i: i / 4) | st.floats(-1, 1)


@st.composite
def probes(draw):
    n = draw(st.integers(1, 15))
    mated = draw(st.lists(few, min_size=n, max_size=n))
    first = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return mated, first, draw(st.lists(few, min_size=1, max_size=15))


@given(probes(), few)
def test_rates__equal_the_loop(drawn, threshold):
    mated, first, strangers = drawn
    expected = oracles.fpir(strangers, threshold), oracles.fnir(mated, first, threshold)
    assert fpir_fnir(*drawn, threshold) == expected
    fpir, fnir, thresholds = identification_error_rates(*drawn)
    assert fpir.tolist() == [oracles.fpir(strangers, t) for t in thresholds]
    assert fnir.tolist() == [oracles.fnir(mated, first, t) for t in thresholds]


@given(probes())
def test_curve__falls_and_rises_and_ends_at_its_limits(drawn):
    fpir, fnir, thresholds = identification_error_rates(*drawn)
    assert (np.diff(fpir) <= 0).all()
    assert (np.diff(fnir) >= 0).all()
    assert (np.diff(thresholds) > 0).all()
    assert (fpir[0], fpir[-1], fnir[-1]) == (1, 0, 1)
    # At the lowest threshold only those are missed whose own identity is not the best.
    assert fnir[0] == np.mean(~np.array(drawn[1]))


@given(probes(), st.floats(0.01, 1))
@pytest.mark.filterwarnings("ignore::sklearn_psp.exceptions.FewPairsWarning")
def test_threshold_at_fpir__is_the_best_that_keeps_the_rate(drawn, target):
    threshold = threshold_at_fpir(drawn[2], target)
    assert fpir_fnir(*drawn, threshold)[0] <= target
    lower = [score for score in drawn[2] if score < threshold]
    if lower:
        assert oracles.fpir(drawn[2], max(lower)) > target


def test_threshold_at_fpir__above_all_strangers_is_a_number():
    with pytest.warns(FewPairsWarning, match=r"fpir=0.01 .* 3 non-mated probes.* 100 .* 300") as record:
        threshold = threshold_at_fpir([0.1, 0.2, 0.3], 0.01)
    assert record[0].filename == __file__
    assert threshold == np.nextafter(0.3, 1)


def test_rank_counts_even_above_the_threshold():
    assert fpir_fnir([0.9, 0.9], [True, False], [0.1], 0.5) == (0, 0.5)


def test_score_of_who_is_not_first__may_be_missing():
    assert fpir_fnir([0.9, np.nan], [True, False], [0.1], 0.5) == (0, 0.5)
    with pytest.raises(ValueError, match=r"mated_scores must be finite; mated_scores\[1\] is nan"):
        fpir_fnir([0.9, np.nan], [True, True], [0.1], 0.5)


def test_arrays_of_thresholds__keep_their_shape():
    fpir, fnir = fpir_fnir([0.9, 0.4], [1, 1], [0.1, 0.5], [[0.0, 0.5], [0.6, 1.0]])
    assert fpir.tolist() == [[1.0, 0.5], [0.0, 0.0]]
    assert fnir.tolist() == [[0.0, 0.5], [0.5, 1.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], [0.1]), "mated_first is empty"),
        (([0.1], [True], []), "nonmated_scores is empty"),
        (([0.1], [True, False], [0.1]), r"one number for each of the 2 probes of mated_first; got the shape \(1,\)"),
        (([0.1], [3], [0.1]), r"mated_first must be bool, or 0 and 1 .*mated_first\[0\] is 3"),
        (([0.1], [True], [-np.inf]), r"nonmated_scores must be finite; nonmated_scores\[0\] is -inf"),
        (([0.1], [True], [[0.1]]), "nonmated_scores must have one dimension"),
    ],
)
def test_bad_probes__are_named(arguments, message):
    for rates in (identification_error_rates, lambda *arrays: fpir_fnir(*arrays, 0.5)):
        with pytest.raises(ValueError, match=message):
            rates(*arguments)
