"""Rows of NaN, infinity and zeros: named, or survived."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_psp import NearestImageRetriever
from sklearn_psp.metrics import mean_average_precision_scorer

RNG = np.random.default_rng(0)
CLEAN = RNG.standard_normal((60, 8)).astype(np.float32)
LABELS = np.arange(60) % 3
BROKEN = CLEAN.copy()
BROKEN[4] = 0
BROKEN[17, 2] = np.nan
BROKEN[59] = np.inf
GOOD = np.setdiff1d(np.arange(60), [4, 17, 59])


def test_invalid_rows_are_named():
    with pytest.raises(
        ValueError, match=r"NaN or infinity \(inf\) in rows 17, 59 and only zeros in row 4, which have no "
    ):
        NearestImageRetriever().fit(BROKEN)
    fitted = NearestImageRetriever().fit(CLEAN)
    for verb in (fitted.kneighbors, fitted.retrieve, fitted.transform):
        with pytest.raises(ValueError, match=r"rows 17, 59(.|\n)*on_invalid='skip'"):
            verb(BROKEN)
        with pytest.raises(ValueError, match="NaN or infinity"):
            verb(BROKEN[17:18])


def test_only_the_first_ten_are_listed():
    X = np.full((25, 2), np.nan)
    with pytest.raises(ValueError, match="rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 15 more"):
        NearestImageRetriever().fit(X)


def test_zeros_are_a_place_in_euclidean_space():
    X = CLEAN.copy()
    X[4] = 0
    assert_array_equal(NearestImageRetriever(1, metric="euclidean").fit(X).kneighbors(X[4:5])[1], [[4]])


@pytest.mark.parametrize("engine", ["exact", "pynndescent"])
def test_skipped_rows_keep_their_places(engine):
    params = {"n_neighbors": 5} if engine == "pynndescent" else None
    gallery = NearestImageRetriever(3, on_invalid="skip", algorithm=engine, engine_params=params, random_state=0).fit(
        BROKEN, LABELS, ids=[f"p{i}" for i in range(60)]
    )
    assert gallery.algorithm_ == engine
    assert_array_equal(gallery.skipped_, [4, 17, 59])
    assert gallery.n_samples_fit_ == len(gallery.ids_) == 60
    assert_array_equal(gallery.kneighbors(CLEAN[GOOD], 1)[1].ravel(), GOOD)

    distances, positions = gallery.kneighbors(BROKEN)
    assert (positions[[4, 17, 59]] == -1).all()
    assert np.isnan(distances[[4, 17, 59]]).all()
    assert not np.isin(positions[GOOD], [4, 17, 59, -1]).any()
    own_distances, own_positions = gallery.kneighbors()
    assert (own_positions[[4, 17, 59]] == -1).all()
    assert (own_positions[GOOD] != GOOD[:, None]).all()
    assert np.isfinite(own_distances[GOOD]).all()

    results = gallery.retrieve(BROKEN)
    assert set(results["query"]) == set(GOOD)
    assert set(gallery.retrieve()["query"]) == {f"p{i}" for i in GOOD}
    graph = gallery.transform(BROKEN)
    assert graph.shape == (60, 60)
    assert_array_equal(np.diff(graph.indptr)[[3, 4, 17, 59]], [4, 0, 0, 0])


def test_the_rest_is_as_if_the_skipped_were_not_there():
    whole = NearestImageRetriever(5, on_invalid="skip").fit(BROKEN, LABELS)
    clean = NearestImageRetriever(5).fit(BROKEN[GOOD], LABELS[GOOD])
    distances, positions = clean.kneighbors(CLEAN)
    assert_array_equal(whole.kneighbors(CLEAN)[0], distances)
    assert_array_equal(whole.kneighbors(CLEAN)[1], GOOD[positions])
    assert whole.score() == clean.score()
    assert whole.score(CLEAN, LABELS) == clean.score(CLEAN, LABELS)
    assert whole.score(BROKEN, LABELS) == clean.score(CLEAN[GOOD], LABELS[GOOD])
    assert whole.score(BROKEN, LABELS) == pytest.approx(mean_average_precision_scorer(whole, BROKEN, LABELS), abs=1e-12)
    for k in (None, 3):
        shapes = [(rows, ranked.shape[1]) for rows, ranked in whole.ranked_labels(BROKEN, k)]
        assert [rows.start for rows, _ in shapes] == [0, 4, 5, 17, 18, 59]
        assert [width for _, width in shapes] == [k or 57, 0] * 3


def test_predict_names_queries_without_neighbours():
    gallery = NearestImageRetriever(5, on_invalid="skip").fit(BROKEN, LABELS)
    shares = gallery.predict_proba(BROKEN)
    assert np.isnan(shares[[4, 17, 59]]).all()
    assert np.isfinite(shares[GOOD]).all()
    with pytest.raises(ValueError, match="Queries 4, 17, 59 have no neighbour that votes"):
        gallery.predict(BROKEN)
    gallery.predict(BROKEN[GOOD])


def test_more_neighbours_than_searchable_rows_is_an_error_that_counts_the_skipped():
    gallery = NearestImageRetriever(58, on_invalid="skip").fit(BROKEN)
    with pytest.raises(ValueError, match=r"n_samples_fit = 60 \(3 of them skipped as invalid\)"):
        gallery.kneighbors(CLEAN)
    assert len(gallery.retrieve(CLEAN[:1])) == 57


def test_nothing_searchable_is_an_error_even_when_skipping():
    with pytest.raises(ValueError, match="None of the 3 rows of X can be searched"):
        NearestImageRetriever(on_invalid="skip").fit(np.zeros((3, 2)))
    fitted = NearestImageRetriever(2, on_invalid="skip").fit(CLEAN)
    assert len(fitted.retrieve(np.zeros((3, 8)))) == 0
    assert (fitted.kneighbors(np.zeros((3, 8)))[1] == -1).all()
