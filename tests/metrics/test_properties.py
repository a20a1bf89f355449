"""What must hold for every ranking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

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

shapes = st.tuples(st.integers(1, 6), st.integers(1, 12))
gains = shapes.flatmap(lambda shape: arrays(np.int8, shape, elements=st.integers(0, 3)))
few = settings(max_examples=60, deadline=None)


def all_scores(relevance, **kwargs):
    """Every score at once, the per-query one last; n_relevant keeps queries without a hit in the means."""
    return [
        recall_at_k(relevance, 2, **kwargs),
        precision_at_k(relevance, 3, **kwargs),
        ndcg_at_k(relevance, **kwargs),
        ndcg_at_k(relevance, 2, **kwargs),
        mean_reciprocal_rank(relevance, **kwargs),
        *cmc_curve(relevance, max_rank=4, **kwargs),
        *average_precision(relevance, **kwargs),
        *average_precision(relevance, k=2, **kwargs),
        *average_precision(relevance, interpolation="trapezoidal", **kwargs),
    ]


@given(gains, st.data())
@few
def test_junk_anywhere_changes_nothing(relevance, data):
    n_junk = data.draw(st.integers(1, 6))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    with_junk, junk = [], []
    for row in relevance:
        is_junk = rng.permutation(np.r_[np.ones(n_junk, bool), np.zeros(len(row), bool)])
        mixed = rng.integers(0, 4, size=len(is_junk))  # junk may look relevant
        mixed[~is_junk] = row
        with_junk.append(mixed)
        junk.append(is_junk)
    np.testing.assert_array_equal(all_scores(np.array(with_junk), junk=np.array(junk)), all_scores(relevance))


@given(gains, st.integers(1, 5))
@few
def test_wrong_items_after_the_last_relevant_change_nothing(relevance, n_more):
    longer = np.pad(relevance, ((0, 0), (0, n_more)))
    np.testing.assert_array_equal(all_scores(longer), all_scores(relevance))


@given(gains)
@few
def test_scores_lie_between_0_and_1(relevance):
    scores = np.array(all_scores(relevance))
    known = scores[~np.isnan(scores)]
    assert np.all((known >= 0) & (known <= 1 + 1e-12))


@given(gains)
@few
def test_recall_never_falls_with_k_and_is_the_cmc_curve(relevance):
    curve = [recall_at_k(relevance, k) for k in range(1, relevance.shape[1] + 1)]
    assert np.all(np.diff(curve) >= 0)
    np.testing.assert_allclose(cmc_curve(relevance), curve, atol=1e-15)


@given(gains)
@few
def test_best_first_is_perfect(relevance):
    best = -np.sort(-relevance, axis=1)
    best[:, 0] = 3
    for k in (None, 1, 3):
        assert mean_average_precision(best, k=k) == 1
        assert ndcg_at_k(best, k) == pytest.approx(1, abs=1e-15)
    assert mean_average_precision(best, interpolation="trapezoidal") == 1
    assert recall_at_k(best) == mean_reciprocal_rank(best) == 1


@given(gains, st.integers(1, 14), st.integers(0, 3))
@few
def test_average_precision_equals_the_loop(relevance, k, n_more):
    n_relevant = (relevance > 0).sum(axis=1) + n_more
    for cut in (None, k):
        expected = [oracles.average_precision(r, n, cut) for r, n in zip(relevance, n_relevant, strict=True)]
        np.testing.assert_allclose(average_precision(relevance, k=cut, n_relevant=n_relevant), expected, rtol=1e-12)


@given(gains)
@few
def test_full_ranking_cut_at_k_scores_as_the_cut_ranking_with_n_relevant(relevance):
    relevance = relevance > 0
    n_relevant = relevance.sum(axis=1)
    for k in (1, 3):
        cut = {"relevance": relevance[:, :k], "n_relevant": n_relevant}
        np.testing.assert_array_equal(average_precision(k=k, **cut), average_precision(relevance, k=k))
        if n_relevant.any():
            expected = ndcg_at_k(relevance, k, n_relevant=n_relevant)
            assert ndcg_at_k(k=k, **cut) == pytest.approx(expected, rel=1e-12)
