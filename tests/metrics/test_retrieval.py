"""Scores of rankings against cases worked by hand, scikit-learn, and loops written from the papers."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from sklearn_psp.metrics import (
    average_precision,
    cmc_curve,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)

from . import oracles

MEANS = [mean_average_precision, recall_at_k, precision_at_k, ndcg_at_k, mean_reciprocal_rank, cmc_curve]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def random_ranking(rng, shape=(40, 30), share=0.2):
    relevance = rng.random(shape) < share
    relevance[:, rng.integers(shape[1])] = True
    return relevance


# ------------------------------------------------------------------------------------------------- worked by hand


def test_average_precision_of_the_textbook_example():
    # Manning et al. 2008, section 8.4: the mean of the precisions at the relevant ranks 1, 3 and 6.
    expected = (1 / 1 + 2 / 3 + 3 / 6) / 3
    np.testing.assert_allclose(average_precision([[1, 0, 1, 0, 0, 1]]), [expected], rtol=1e-15)


def test_trapezoidal_average_precision_by_hand():
    # Ranks 1 and 3: (1 + 1)/2 on the first half of recall, (1/2 + 2/3)/2 on the second.
    expected = (1 + (1 / 2 + 2 / 3) / 2) / 2
    np.testing.assert_allclose(average_precision([[1, 0, 1]], interpolation="trapezoidal"), [expected], rtol=1e-15)


def test_trapezoidal_average_precision_of_a_late_single_hit_by_hand():
    # Rank 4 only: precision 0 just before it, 1/4 at it.
    assert average_precision([[0, 0, 0, 1]], interpolation="trapezoidal") == [1 / 8]


def test_average_precision_at_k_divides_by_the_smaller_of_k_and_n_relevant():
    ranking = [[1, 0, 1, 1]]
    assert average_precision(ranking, k=2) == [1 / 2]
    np.testing.assert_allclose(average_precision(ranking, k=3, n_relevant=[10]), [(1 + 2 / 3) / 3])
    np.testing.assert_allclose(average_precision(ranking, n_relevant=[10]), [(1 + 2 / 3 + 3 / 4) / 10])
    assert average_precision([[1, 1, 1, 1]], k=2) == [1]


def test_ndcg_by_hand():
    # Jarvelin & Kekalainen's gains 0..3 with the discount log2(1 + rank).
    gains = [3, 2, 3, 0, 0, 1, 2]
    dcg = sum(g / np.log2(1 + r) for r, g in enumerate(gains, start=1))
    ideal = sum(g / np.log2(1 + r) for r, g in enumerate([3, 3, 2, 2, 1, 0, 0], start=1))
    assert ndcg_at_k([gains]) == pytest.approx(dcg / ideal, rel=1e-15)
    assert ndcg_at_k([gains], k=2) == pytest.approx((3 + 2 / np.log2(3)) / (3 + 3 / np.log2(3)), rel=1e-15)


def test_ndcg_counts_relevant_items_that_a_cut_ranking_does_not_show():
    assert ndcg_at_k([[1, 0]], n_relevant=[2]) == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert ndcg_at_k([[1, 0]], k=1, n_relevant=[2]) == 1


def test_recall_precision_reciprocal_rank_and_cmc_by_hand():
    ranking = [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert [recall_at_k(ranking, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.5, 0.75]
    assert precision_at_k(ranking, 3) == pytest.approx((2 / 3 + 1 / 3) / 4)
    assert mean_reciprocal_rank(ranking) == (1 / 2 + 1 + 1 / 4) / 4
    assert mean_reciprocal_rank(ranking, k=2) == (1 / 2 + 1) / 4
    np.testing.assert_array_equal(cmc_curve(ranking), [0.25, 0.5, 0.5, 0.75])
    np.testing.assert_array_equal(cmc_curve(ranking, max_rank=6), [0.25, 0.5, 0.5, 0.75, 0.75, 0.75])
    np.testing.assert_array_equal(cmc_curve(ranking, max_rank=2), [0.25, 0.5])


def test_recall_is_not_set_recall():
    # One of three relevant items at the top: set recall would be 1/3.
    assert recall_at_k([[1, 0, 1, 1]], k=1) == 1


def test_precision_divides_by_k_where_the_ranking_is_shorter():
    assert precision_at_k([[1, 1]], k=4) == 0.5


# ------------------------------------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_average_precision_equals_scikit_learn_on_rankings_without_ties(rng, dtype):
    relevance = random_ranking(rng)
    scores = -np.arange(relevance.shape[1])
    expected = [average_precision_score(row, scores) for row in relevance]
    np.testing.assert_allclose(average_precision(relevance.astype(dtype)), expected, rtol=1e-12)
    assert mean_average_precision(relevance) == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("k", [None, 1, 5, 30, 100])
def test_ndcg_equals_scikit_learn_with_graded_gains(rng, k):
    gains = rng.integers(0, 4, size=(40, 30)) * random_ranking(rng)
    gains[3] = 0
    scores = np.broadcast_to(-np.arange(30.0), gains.shape)
    weights = rng.random(40)
    assert ndcg_at_k(gains, k) == pytest.approx(ndcg_score(gains, scores, k=k), rel=1e-12)
    expected = ndcg_score(gains, scores, k=k, sample_weight=weights)
    assert ndcg_at_k(gains, k, sample_weight=weights) == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------------------------------------------- the junk rule


def test_junk_follows_the_revisited_oxford_protocol(rng):
    relevance = random_ranking(rng)
    junk = rng.random(relevance.shape) < 0.3
    rows = list(zip(relevance, junk, strict=True))
    expected = [oracles.oxford_average_precision(row, ignored) for row, ignored in rows]
    np.testing.assert_allclose(average_precision(relevance, junk=junk, interpolation="trapezoidal"), expected)

    clean = [oracles.without_junk(row, ignored) for row, ignored in rows]
    for k in (None, 1, 5):
        expected = [oracles.average_precision(row, k=k) for row in clean]
        np.testing.assert_allclose(average_precision(relevance, junk=junk, k=k), expected)
    first = np.array([oracles.first_rank(row) for row in clean])
    assert recall_at_k(relevance, 2, junk=junk) == np.mean(first <= 2)
    assert mean_reciprocal_rank(relevance, junk=junk) == pytest.approx(np.mean(1 / first))
    assert precision_at_k(relevance, 4, junk=junk) == pytest.approx(np.mean([sum(row[:4]) / 4 for row in clean]))
    np.testing.assert_allclose(cmc_curve(relevance, junk=junk), [np.mean(first <= r) for r in range(1, 31)])
    ideal = [sorted(row, reverse=True) for row in clean]
    discounted = [[sum(g / np.log2(2 + i) for i, g in enumerate(row)) for row in rows] for rows in (clean, ideal)]
    expected = np.mean([a / b if b else 0 for a, b in zip(*discounted, strict=True)])
    assert ndcg_at_k(relevance, junk=junk) == pytest.approx(expected)


def test_item_that_is_relevant_and_junk_is_junk():
    assert average_precision([[1, 0, 1]], junk=[[True, False, False]]) == [1 / 2]
    assert np.isnan(average_precision([[1, 0]], junk=[[True, False]]))


# ------------------------------------------------------------------------------------------------- means


def test_query_without_relevant_item_is_nan_and_left_out_of_the_mean():
    ranking = [[1, 0], [0, 0]]
    np.testing.assert_array_equal(average_precision(ranking), [1, np.nan])
    assert mean_average_precision(ranking) == 1
    assert mean_average_precision(ranking, n_relevant=[1, 3]) == 0.5


@pytest.mark.parametrize("score", [recall_at_k, precision_at_k, ndcg_at_k, mean_reciprocal_rank])
def test_query_that_found_nothing_fails_unless_there_is_nothing_to_find(score):
    # A cut ranking: were both left out, recall@1 of rankings of length 1 would always be 1.
    ranking = [[1], [0]]
    assert score(ranking) == 0.5
    assert score(ranking, n_relevant=[1, 4]) == 0.5
    assert score(ranking, n_relevant=[1, 0]) == 1


@pytest.mark.parametrize("score", MEANS)
def test_weight_two_counts_a_query_twice(rng, score):
    relevance = random_ranking(rng, (6, 8))
    weights = [1, 2, 0, 1, 1, 3]
    np.testing.assert_allclose(score(relevance, sample_weight=weights), score(np.repeat(relevance, weights, axis=0)))


@pytest.mark.parametrize("score", MEANS)
def test_means_are_plain_floats(score):
    value = score([[1, 0], [0, 1]])
    assert isinstance(value, np.ndarray if score is cmc_curve else float)
    assert not isinstance(value, np.floating)


def test_no_relevant_item_at_all_is_an_error_that_names_the_cause_and_the_remedy():
    with pytest.raises(ValueError, match=r"sorted by labels.*plain KFold.*StratifiedKFold\(n_splits, shuffle=True\)"):
        mean_average_precision(np.zeros((3, 4), dtype=bool))


@pytest.mark.parametrize("score", MEANS)
def test_n_relevant_of_zeros_leaves_no_query(score):
    with pytest.raises(ValueError, match="No query has a relevant item"):
        score([[0, 0]], n_relevant=[0])


def test_empty_ranking_finds_nothing():
    empty = np.zeros((2, 0), dtype=bool)
    np.testing.assert_array_equal(average_precision(empty), [np.nan, np.nan])
    np.testing.assert_array_equal(average_precision(empty, n_relevant=[2, 0]), [0, np.nan])
    assert recall_at_k(empty, n_relevant=[2, 0]) == 0


# ------------------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"relevance": [1, 0]}, r"shape \(n_queries, n_ranked\).*\(2,\).*reshape\(1, -1\)"),
        ({"relevance": [["cat", "dog"]]}, "relevance must be bool or numbers.*relevance_from_labels"),
        ({"relevance": [[1, 0], [0, -1]]}, r"relevance\[1, 1\] is -1; items to ignore are marked by junk="),
        ({"relevance": [[1, np.nan]]}, r"relevance\[0, 1\] is nan"),
        ({"relevance": [[1, np.inf]]}, r"relevance\[0, 1\] is inf"),
        ({"junk": [[0, 1]]}, "junk must be a boolean mask.*not indices.*int64"),
        ({"junk": [[True]]}, r"junk must have the shape of relevance, \(1, 2\); got the shape \(1, 1\)"),
        ({"n_relevant": [0]}, r"n_relevant\[0\] is 0, but the ranking of that query holds 1"),
        ({"n_relevant": 3}, r"n_relevant must be integers of the shape \(n_queries,\) = \(1,\)"),
        ({"n_relevant": [1.5]}, "n_relevant must be integers.*float64"),
        ({"sample_weight": [1, 1]}, r"sample_weight must have the shape \(n_queries,\) = \(1,\); got the shape \(2,\)"),
        ({"sample_weight": [-1]}, r"sample_weight must be finite and not negative; sample_weight\[0\] is -1"),
        ({"sample_weight": [np.nan]}, r"sample_weight\[0\] is nan"),
        ({"sample_weight": [0]}, "sample_weight must be above 0 for at least one query"),
    ],
)
@pytest.mark.parametrize("score", MEANS)
def test_wrong_array_is_named_with_its_value(score, arguments, message):
    with pytest.raises(ValueError, match=message):
        score(**{"relevance": [[1, 0]], **arguments})


@pytest.mark.parametrize("k", [0, -1, 2.5, "all"])
@pytest.mark.parametrize("score", [average_precision, *MEANS])
def test_rank_must_be_a_positive_integer(score, k):
    name = "max_rank" if score is cmc_curve else "k"
    with pytest.raises(
        ValueError, match=rf"The '{name}' parameter of {score.__name__} must be an int in the range \[1"
    ):
        score([[1, 0]], **{name: k})


def test_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="'interpolation' parameter of average_precision must be a str among"):
        average_precision([[1, 0]], interpolation="linear")


def test_ndcg_refuses_to_guess_gains_outside_the_ranking():
    with pytest.raises(ValueError, match=r"gains are unknown; n_relevant\[0\] is 3.*holds 2; give the full ranking"):
        ndcg_at_k([[2, 1]], n_relevant=[3])
