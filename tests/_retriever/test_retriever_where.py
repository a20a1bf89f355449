"""Filters: a mask, ids, or a function of the metadata, over every engine."""

import numpy as np
import pandas as pd
import pytest

from sklearn_psp import NearestImageRetriever, retrieve
from sklearn_psp.exceptions import UnknownIdError

rng = np.random.default_rng(0)
X = rng.standard_normal((60, 5)).astype(np.float32)
META = pd.DataFrame({"year": np.arange(60) % 6})
IDS = [f"p{i}" for i in range(60)]


@pytest.fixture
def gallery():
    return NearestImageRetriever(5).fit(X, ids=IDS, metadata=META).remove(["p0", "p31"])


def chosen(gallery):
    return [i for i in gallery.ids_ if int(i[1:]) % 6 == 2]


def forms(gallery):
    return {
        "function": lambda table: table["year"] == 2,
        "ids": chosen(gallery),
        "ids as an array": np.array(chosen(gallery)),
        "mask": (gallery.metadata_["year"] == 2).to_numpy(),
        "mask as a Series": gallery.metadata_["year"] == 2,
        "mask as a list": (gallery.metadata_["year"] == 2).tolist(),
    }


@pytest.mark.parametrize("form", ["function", "ids", "ids as an array", "mask", "mask as a Series", "mask as a list"])
def test_all_forms_find_the_nearest_of_those_that_are_let_through(gallery, form):
    found = gallery.retrieve(X[:8], 4, where=forms(gallery)[form])
    only = NearestImageRetriever(4).fit(X[[int(i[1:]) for i in chosen(gallery)]], ids=chosen(gallery))
    expected = only.retrieve(X[:8], 4)
    pd.testing.assert_frame_equal(found[expected.columns.tolist()], expected)
    assert (found["year"] == 2).all()


def test_fewer_and_none_are_what_exists(gallery):
    assert gallery.retrieve(X[:2], 50, where=["p3", "p7"])["id"].groupby(level=0).size().sum() == 4
    assert gallery.retrieve(X[:2], where=[]).empty
    assert gallery.retrieve(X[:2], where=lambda table: table["year"] > 9).empty


def test_each_image_against_a_choice_is_never_its_own_result(gallery):
    found = gallery.retrieve(None, 60, where=["p3", "p7", "p9"])
    assert found.groupby("query").size().value_counts().to_dict() == {3: 55, 2: 3}
    assert (found["query"] != found["id"]).all()


@pytest.mark.parametrize("reranker", ["aqe", "dba", "kreciprocal", "diffusion"])
def test_re_ranked_results_are_of_the_choice_too(gallery, reranker):
    gallery.set_params(reranker=reranker)
    found = gallery.retrieve(X[:5], 4, where=chosen(gallery))
    assert set(found["id"]) <= set(chosen(gallery))
    assert (found.groupby("query").size() == 4).all()
    found = gallery.retrieve(None, 60, where=["p3", "p7", "p9"])
    assert found.groupby("query").size().value_counts().to_dict() == {3: 55, 2: 3}
    assert (found["query"] != found["id"]).all()


def test_a_filter_reaches_through_a_pipeline():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    search = make_pipeline(StandardScaler(), NearestImageRetriever(3))
    search.fit(X, nearestimageretriever__metadata=META)
    assert (retrieve(search, X[:4], where=lambda table: table["year"] == 5)["year"] == 5).all()


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("p3", TypeError, r"write \['p3'\]"),
        (7, TypeError, "must be a boolean mask, a list of ids or a function"),
        ([True, False], ValueError, r"one value for each of the 58 images; got the shape \(2,\)"),
        (["p3", "p0"], UnknownIdError, "no image of the gallery has the id 'p0'"),
        (lambda table: table["year"], TypeError, "must return a boolean mask; got values of type int64"),
    ],
)
def test_what_is_no_filter_is_refused(gallery, where, error, message):
    with pytest.raises(error, match=message):
        gallery.retrieve(X[:2], where=where)


def test_a_function_needs_metadata():
    with pytest.raises(ValueError, match="where is a function of the metadata, but the gallery has none"):
        NearestImageRetriever(1).fit(X).retrieve(X[:1], where=lambda table: table)
