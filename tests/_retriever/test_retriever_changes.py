"""Adding, replacing and removing images: what fits, what is refused, and that nothing is lost on the way."""

import threading

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_psp import NearestImageRetriever
from sklearn_psp._indexes import _dynamic
from sklearn_psp.exceptions import PSPError, UnknownIdError

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 6)).astype(np.float32)
y = np.repeat(["owl", "cat", "dog", "ant"], 10)
META = pd.DataFrame({"n": np.arange(40), "name": [f"n{i}" for i in range(40)]})


def fitted(n=30, **parameters):
    return NearestImageRetriever(3, **parameters).fit(X[:n], y[:n], ids=np.arange(n), metadata=META[:n])


def rest(start=30, **changes):
    return {"X": X[start:], "y": y[start:], "ids": np.arange(start, 40), "metadata": META[start:]} | changes


def test_added_in_pieces_is_fitted_at_once():
    pieces = NearestImageRetriever(3)
    for i in range(0, 40, 5):
        part = slice(i, i + 5)
        pieces.partial_fit(X[part], y[part], ids=np.arange(40)[part], metadata=META[part])
    whole = fitted(40)
    pd.testing.assert_frame_equal(pieces.retrieve(X), whole.retrieve(X))
    assert_array_equal(pieces.predict_proba(X), whole.predict_proba(X))
    assert_array_equal(pieces.classes_, whole.classes_)
    assert pieces.score() == whole.score()
    assert_array_equal(pieces.labels_, whole.labels_)
    pd.testing.assert_frame_equal(pieces.metadata_, whole.metadata_)
    assert (pieces.kneighbors_graph() != whole.kneighbors_graph()).nnz == 0


def test_a_new_class_is_known_from_then_on():
    gallery = fitted(30)
    assert gallery.classes_.tolist() == ["cat", "dog", "owl"]
    gallery.partial_fit(**rest())
    assert gallery.classes_.tolist() == ["ant", "cat", "dog", "owl"]
    assert gallery.predict(X[[35]])[0] == "ant"
    assert gallery.remove(np.arange(30, 40)).classes_.tolist() == ["ant", "cat", "dog", "owl"]
    assert (gallery.predict_proba(X)[:, 0] == 0).all()


def test_numbers_go_on_where_no_ids_are_given():
    gallery = NearestImageRetriever(2).fit(X[:5]).partial_fit(X[5:7]).remove([6]).partial_fit(X[7:9])
    assert gallery.ids_.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]


def test_an_id_that_is_there_is_replaced():
    gallery = fitted(30).partial_fit(X[[35]], y[[35]], ids=[4], metadata=META[35:36])
    assert gallery.n_samples_fit_ == 30
    assert gallery.ids_.tolist() == [*range(4), *range(5, 30), 4]
    found = gallery.retrieve(X[[35]], 1)
    assert found[["id", "label", "n"]].values.tolist() == [[4, "ant", 35]]
    assert 4 not in gallery.retrieve(X[[4]], 1)["id"].tolist()


def test_positions_move_up_when_images_before_them_go():
    gallery = fitted(30).remove([0, 1])
    assert gallery.kneighbors(X[[2]], 1)[1].tolist() == [[0]]
    assert gallery.ids_[0] == 2
    assert gallery.kneighbors_graph().shape == (28, 28)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, "the gallery has labels: pass y, with None for images without a label"),
        ({"metadata": None}, "the gallery has metadata: pass a DataFrame with the columns 'n', 'name'"),
        (
            {"metadata": META[30:][["n"]]},
            r"metadata must have the columns of the gallery's, \['n', 'name'\]; got \['n'\]",
        ),
        ({"ids": None}, "the gallery was given ids, so added images need ids too"),
        ({"ids": [30] * 10}, "ids must be unique, but holds more than once: 30"),
        ({"ids": [1, 2]}, "one id for each of the 10 images; got 2"),
        ({"y": ["owl"]}, "one label for each of the 10 images"),
        ({"X": X[30:, :4]}, "4 features"),
        ({"X": np.zeros((10, 6))}, "cannot search such rows"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_added(changes, message):
    gallery = fitted(30)
    before = gallery.retrieve(X)
    with pytest.raises(ValueError, match=message):
        gallery.partial_fit(**rest(**changes))
    pd.testing.assert_frame_equal(gallery.retrieve(X), before)
    gallery.partial_fit(**rest())
    assert gallery.n_samples_fit_ == 40


def test_labels_and_metadata_are_not_added_to_a_gallery_without():
    gallery = NearestImageRetriever(2).fit(X[:5])
    with pytest.raises(ValueError, match="the gallery has no labels: leave y out"):
        gallery.partial_fit(X[5:7], y[5:7])
    with pytest.raises(ValueError, match="the gallery has no metadata: leave metadata out"):
        gallery.partial_fit(X[5:7], metadata=META[5:7])


class Doubler(TransformerMixin, BaseEstimator):
    """A featurizer of numbers in a Series."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.array([[1.0, float(x)] for x in X])


def test_the_index_of_a_series_gives_ids_but_never_replaces():
    gallery = NearestImageRetriever(1, featurizer=Doubler()).fit(pd.Series([1.0, 2.0], index=["a", "b"]))
    gallery.partial_fit(pd.Series([3.0], index=["c"]))
    assert gallery.ids_.tolist() == ["a", "b", "c"]
    with pytest.raises(
        ValueError, match="the index of X holds ids that the gallery has already: 'b'; pass them as ids="
    ):
        gallery.partial_fit(pd.Series([9.0], index=["b"]))
    gallery.partial_fit(pd.Series([9.0], index=["b"]), ids=["b"])
    assert gallery.ids_.tolist() == ["a", "c", "b"]


def test_the_featurizer_is_not_fitted_again():
    gallery = NearestImageRetriever(1, featurizer=Doubler()).fit([1.0, 2.0])
    before = gallery.featurizer_
    assert gallery.partial_fit([3.0]).featurizer_ is before
    assert gallery.retrieve([3.0])["id"].tolist() == [2]


@pytest.mark.parametrize("ids", [["nobody"], "nobody", [1, 99], [2.5]])
def test_an_unknown_id_is_named_and_nothing_is_removed(ids):
    gallery = fitted(30)
    with pytest.raises(UnknownIdError, match="no image of the gallery has the id") as caught:
        gallery.remove(ids)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, PSPError)
    assert not str(caught.value).startswith("'")
    assert gallery.n_samples_fit_ == 30


def test_one_id_and_no_id_and_the_last_id():
    gallery = NearestImageRetriever(2).fit(X[:3], ids=["a.jpg", "b.jpg", "c.jpg"])
    gallery.remove("a.jpg").remove([])
    assert gallery.ids_.tolist() == ["b.jpg", "c.jpg"]
    gallery.remove(["b.jpg", "c.jpg"])
    assert gallery.n_samples_fit_ == 0
    assert gallery.retrieve(X[:2]).empty
    with pytest.raises(ValueError, match="n_samples_fit = 0"):
        gallery.kneighbors(X[:1])
    assert gallery.compact().partial_fit(X[:1], ids=["a.jpg"]).retrieve(X[:1])["id"].tolist() == ["a.jpg"]


def test_skipped_images_come_and_go_too():
    bad = X[:6].copy()
    bad[[1, 4]] = np.nan
    gallery = NearestImageRetriever(1, on_invalid="skip").fit(bad, ids=list("abcdef"))
    gallery.partial_fit(np.stack([X[6], 0 * X[6]]), ids=["g", "h"])
    assert gallery.skipped_.tolist() == [1, 4, 7]
    assert gallery.ids_.tolist() == list("abcdefgh")
    assert gallery.retrieve(X[[6]])["id"].tolist() == ["g"]
    gallery.remove(["a", "b"])
    assert gallery.skipped_.tolist() == [2, 5]
    assert gallery.retrieve(X[[2]])["id"].tolist() == ["c"]
    gallery.compact()
    assert gallery.skipped_.tolist() == [2, 5]
    assert gallery.retrieve(X[[2]])["id"].tolist() == ["c"]
    assert gallery.partial_fit(X[[4]], ids=["e"]).skipped_.tolist() == [4]


def test_compacting_changes_no_result(monkeypatch):
    gallery = fitted(30).remove([3, 4, 5]).partial_fit(**rest())
    before = gallery.retrieve(X, 10)
    assert gallery._gallery.n_rows == 40
    gallery.compact()
    assert gallery._gallery.n_rows == 37
    pd.testing.assert_frame_equal(gallery.retrieve(X, 10), before)
    monkeypatch.setattr(_dynamic, "_FEW", 3)
    assert gallery.remove(np.arange(10, 25))._gallery.n_rows == 22


def test_auto_chooses_the_engine_anew_when_it_compacts(monkeypatch):
    from sklearn_psp._indexes import _select

    gallery = NearestImageRetriever(3, random_state=0).fit(X[:30])
    monkeypatch.setattr(_select, "EXACT_UP_TO", 100)
    assert gallery.algorithm_ == "exact"
    assert gallery.compact().algorithm_ == "pynndescent"


def test_mixed_types_of_ids_and_labels_stay_what_they_are():
    gallery = NearestImageRetriever(1).fit(X[:3], [1, 2, 3], ids=[1, 2, 3]).partial_fit(X[3:4], ["x"], ids=["1"])
    assert gallery.ids_.tolist() == [1, 2, 3, "1"]
    assert gallery.labels_.tolist() == [1, 2, 3, "x"]
    assert gallery.remove(["1"]).ids_.tolist() == [1, 2, 3]


def test_searching_goes_on_while_images_come_and_go():
    """Each search sees one state: the neighbour it finds has the label and metadata of its id."""
    gallery = fitted(30)
    wrong, stop = [], threading.Event()

    def search():
        while not stop.is_set():
            found = gallery.retrieve(X, 5)
            wrong.extend(found[found["id"] != found["n"]]["id"])
            wrong.extend(found[found["label"].to_numpy() != y[found["n"]]]["id"])

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        gallery.partial_fit(**rest()).remove(np.arange(30, 40))
        gallery.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_shallow_copies_change_apart():
    import copy

    one = NearestImageRetriever(1).fit(X[:5])
    other = copy.copy(one)
    one.partial_fit(X[[10]])
    other.partial_fit(X[[20]])
    assert one.retrieve(X[[10]])[["id", "distance"]].values.tolist() == [[5, 0.0]]
    assert other.retrieve(X[[20]])[["id", "distance"]].values.tolist() == [[5, 0.0]]


class Slow(Doubler):
    def transform(self, X):
        raise AssertionError("images were described although their ids do not fit")


@pytest.mark.parametrize("wrong", [{"ids": [1]}, {"y": ["owl"]}, {"metadata": META[:1]}, {"ids": [1, 1]}])
def test_what_belongs_to_images_is_checked_before_they_are_described(wrong):
    with pytest.raises(ValueError, match=r"each of the 2 images|must be unique"):
        NearestImageRetriever(1, featurizer=Slow()).fit([1.0, 2.0], **wrong)
    gallery = NearestImageRetriever(1, featurizer=Doubler()).fit([5.0, 6.0], ids=[5, 6])
    gallery.featurizer_ = Slow()
    with pytest.raises(ValueError, match=r"each of the 2 images|must be unique|has no|pass ids"):
        gallery.partial_fit([1.0, 2.0], **wrong)


def test_numbers_go_on_after_a_image_was_replaced_by_its_number():
    gallery = NearestImageRetriever(1).fit(X[:3]).partial_fit(X[[10]], ids=[1]).partial_fit(X[[11]])
    assert gallery.ids_.tolist() == [0, 2, 1, 3]
    gallery.partial_fit(X[[12]], ids=["own"])
    with pytest.raises(ValueError, match="pass ids="):
        gallery.partial_fit(X[[13]])
