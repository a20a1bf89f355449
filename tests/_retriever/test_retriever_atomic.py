"""What fails or is interrupted changes nothing: neither the gallery, nor the featurizer, nor an attribute."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_psp import NearestImageRetriever, register_engine
from sklearn_psp._retriever import _base
from sklearn_psp.exceptions import ImageReadError, ImageReadWarning
from sklearn_psp.utils._descriptions import Descriptions, Failure, failures_frame

ITEMS = [1.0, 2.0, 3.0, 4.0, 5.0]
META = pd.DataFrame({"n": range(5)})


class Reader(TransformerMixin, BaseEstimator):
    """A featurizer of numbers, with failures as a value: "bad" cannot be read, "stop" is Ctrl-C."""

    def __init__(self, width=2):
        self.width = width

    def fit(self, X, y=None):
        self.fit_describe(X, y)
        return self

    def fit_describe(self, X, y=None, *, on_error="nan"):
        described = self.describe(X)
        self.read_ = len(described.rows)
        return described

    def describe(self, X, *, on_error="nan"):
        if any(x == "stop" for x in X):
            raise KeyboardInterrupt
        rows = np.array([[np.nan if x == "bad" else float(x)] * (self.width - 1) + [1.0] for x in X])
        failures = [Failure(i, f"{x}.jpg", "truncated JPEG (3 bytes)") for i, x in enumerate(X) if x == "bad"]
        rows[[failure.index for failure in failures]] = np.nan
        return Descriptions(rows, failures_frame(failures))

    def transform(self, X):
        return self.describe(X).rows


def snapshot(retriever):
    """All attributes, and what the verbs answer."""
    queries = [[1.5, 1.0], [4.0, 1.0]] if retriever.featurizer is None else [1.5, 4.0]
    return dict(vars(retriever)), retriever.retrieve(queries), retriever.retrieve()


def assert_unchanged(retriever, before):
    attributes, found, own = before
    assert vars(retriever).keys() == attributes.keys()
    for name, value in attributes.items():
        assert vars(retriever)[name] is value, name
    now = snapshot(retriever)
    pd.testing.assert_frame_equal(now[1], found)
    pd.testing.assert_frame_equal(now[2], own)


class Stopping:
    """An engine whose building is interrupted."""

    recall = None
    query = to_arrays = from_arrays = None

    def __init__(self, exact):
        raise KeyboardInterrupt


register_engine("stopping", Stopping)
ROWS = [[float(i), 1.0] for i in range(6)]
IMAGE_FAULTS = {
    "bad image": ({"X": ["bad", 2.0]}, {}, ImageReadError),
    "Ctrl-C in the featurizer": ({"X": [1.0, "stop"]}, {}, KeyboardInterrupt),
    "too few labels": ({"X": ITEMS, "y": [1, 2]}, {}, ValueError),
    "ids twice": ({"X": ITEMS, "ids": [1, 1, 2, 3, 4]}, {}, ValueError),
    "metadata too short": ({"X": ITEMS, "metadata": META[:2]}, {}, ValueError),
    "Ctrl-C in building": ({"X": ITEMS}, {"algorithm": "stopping"}, KeyboardInterrupt),
    "no such engine": ({"X": ITEMS}, {"algorithm": "nosuch"}, ValueError),
    "no such parameter of the engine": ({"X": ITEMS}, {"engine_params": {"nosuch": 1}}, ValueError),
    "no such re-ranker": ({"X": ITEMS}, {"reranker": "nosuch"}, ValueError),
    "nothing to search": ({"X": ["bad", "bad"]}, {"on_invalid": "skip"}, ValueError),
}
ROW_FAULTS = {
    "NaN": ({"X": [[1.0, np.nan]]}, {}, ValueError),
    "one dimension": ({"X": [1.0, 2.0]}, {}, ValueError),
    "images without a featurizer": ({"X": ["a.jpg"]}, {}, ValueError),
    "too few labels": ({"X": ROWS, "y": [1, 2]}, {}, ValueError),
    "Ctrl-C in building": ({"X": ROWS}, {"algorithm": "stopping"}, KeyboardInterrupt),
    "other names and a fault": (
        {"X": pd.DataFrame({"other": [1.0, 2.0], "names": [1.0, 1.0]}), "ids": [1]},
        {},
        ValueError,
    ),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
@pytest.mark.parametrize("fitted", [True, False])
def test_a_fit_with_a_featurizer_that_fails_changes_nothing(fault, fitted):
    given, parameters, error = IMAGE_FAULTS[fault]
    retriever = NearestImageRetriever(2, featurizer=Reader())
    if fitted:
        retriever.fit(ITEMS, [0, 0, 1, 1, 2], metadata=META)
    retriever.set_params(**parameters)
    attributes = dict(vars(retriever))
    before = snapshot(NearestImageRetriever.set_params(retriever, reranker=None)) if fitted else None
    retriever.set_params(**parameters)
    with pytest.raises(error):
        retriever.fit(**given)
    assert vars(retriever) == attributes
    assert retriever.__sklearn_is_fitted__() is fitted
    if fitted:
        retriever.set_params(reranker=None)
        before[0]["reranker"] = None
        assert_unchanged(retriever, before)


@pytest.mark.parametrize("fault", ROW_FAULTS)
@pytest.mark.parametrize("fitted", [True, False])
def test_a_fit_on_descriptors_that_fails_changes_nothing(fault, fitted):
    given, parameters, error = ROW_FAULTS[fault]
    retriever = NearestImageRetriever(2)
    if fitted:
        retriever.fit(ROWS, [0, 0, 1, 1, 2, 2])
    retriever.set_params(**parameters)
    before = snapshot(retriever) if fitted else dict(vars(retriever))
    with pytest.raises(error):
        retriever.fit(**given)
    if fitted:
        assert_unchanged(retriever, before)
    else:
        assert vars(retriever) == before


@pytest.mark.parametrize("form", ["with a featurizer", "on descriptors"])
def test_a_fit_in_the_other_form_that_fails_changes_nothing(form):
    retriever = NearestImageRetriever(2, featurizer=Reader()) if form == "on descriptors" else NearestImageRetriever(2)
    retriever.fit(ITEMS if form == "on descriptors" else ROWS)
    retriever.set_params(featurizer=None if form == "on descriptors" else Reader())
    attributes = dict(vars(retriever))
    with pytest.raises((ValueError, KeyboardInterrupt)):
        retriever.fit([[np.nan, 1.0]] if form == "on descriptors" else ["stop"])
    assert vars(retriever) == attributes


CHANGES = {
    "bad image": lambda r: r.partial_fit(["bad"], [1], metadata=META[:1]),
    "Ctrl-C in the featurizer": lambda r: r.partial_fit(["stop"], [1], metadata=META[:1]),
    "too few labels": lambda r: r.partial_fit([8.0, 9.0], [1], metadata=META[:2]),
    "other metadata": lambda r: r.partial_fit([8.0], [1], metadata=META[:1].add_prefix("x")),
    "ids twice": lambda r: r.partial_fit([8.0, 9.0], [1, 1], ids=[7, 7], metadata=META[:2]),
    "unknown id": lambda r: r.remove([0, 99]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_fails_changes_nothing(change):
    retriever = NearestImageRetriever(2, featurizer=Reader()).fit(ITEMS, [0, 0, 1, 1, 2], metadata=META)
    before = snapshot(retriever)
    with pytest.raises((ValueError, KeyError, KeyboardInterrupt)):
        CHANGES[change](retriever)
    assert_unchanged(retriever, before)


def test_a_change_to_another_width_changes_nothing():
    retriever = NearestImageRetriever(2, featurizer=Reader()).fit(ITEMS)
    before = snapshot(retriever)
    retriever.featurizer_.width = 3
    with pytest.raises(ValueError, match="featurizer_ gave rows of 3 features, but the gallery has 2"):
        retriever.partial_fit([9.0])
    retriever.featurizer_.width = 2
    assert_unchanged(retriever, before)


@pytest.mark.parametrize(
    "change", [lambda r: r.compact(), lambda r: r.remove([0]), lambda r: r.partial_fit([[9.0, 1.0]])]
)
def test_building_anew_that_is_interrupted_changes_nothing(change, monkeypatch):
    retriever = NearestImageRetriever(2).fit(ROWS)
    before = snapshot(retriever)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_base, "build_index", interrupted)
    monkeypatch.setattr(type(retriever._gallery.index), "stale", property(lambda self: True))
    with pytest.raises(KeyboardInterrupt):
        change(retriever)
    assert_unchanged(retriever, before)


def test_an_image_that_cannot_be_used_is_named_with_its_reason():
    retriever = NearestImageRetriever(2, featurizer=Reader())
    with pytest.raises(ImageReadError, match=r"X\[1\] \('bad.jpg'\) cannot be searched: truncated JPEG .*; mend it"):
        retriever.fit([1.0, "bad", 2.0])
    retriever.fit(ITEMS)
    with pytest.raises(ImageReadError, match=r"^X\[0\] .*\(nor can 1 more images.*on_invalid='skip'") as caught:
        retriever.retrieve(["bad", 1.0, "bad"])
    assert caught.value.errors["index"].tolist() == [0, 2]


def test_skipped_images_are_one_warning_at_the_users_line(recwarn):
    from sklearn.pipeline import make_pipeline

    from sklearn_psp import retrieve

    retriever = NearestImageRetriever(2, featurizer=Reader(), on_invalid="skip")
    pipeline = make_pipeline(Reader(), NearestImageRetriever(2, on_invalid="skip"))
    pipeline.fit([1.0, "bad", 2.0])
    calls = {
        "fit": lambda: retriever.fit([1.0, "bad", 2.0]),
        "partial_fit": lambda: retriever.partial_fit(["bad", 3.0]),
        "kneighbors": lambda: retriever.kneighbors(["bad", 3.0]),
        "retrieve": lambda: retriever.retrieve(["bad", 3.0]),
        "radius_neighbors": lambda: retriever.radius_neighbors(["bad", 3.0]),
        "retrieve of a Pipeline": lambda: retrieve(pipeline, ["bad", 3.0]),
        "retrieve of a retriever": lambda: retrieve(retriever, ["bad", 3.0]),
    }
    for name, call in calls.items():
        recwarn.clear()
        call()
        assert [(warning.category, warning.filename) for warning in recwarn] == [(ImageReadWarning, __file__)], name
        assert recwarn[0].message.errors["reason"].tolist() == ["truncated JPEG (3 bytes)"]
    assert retriever.skipped_.tolist() == [1, 3]


def test_a_pipeline_that_does_not_skip_names_the_query():
    from sklearn.pipeline import make_pipeline

    from sklearn_psp import retrieve

    pipeline = make_pipeline(Reader(), NearestImageRetriever(2)).fit(ITEMS)
    with pytest.raises(ImageReadError, match=r"X\[1\] \('bad.jpg'\) cannot be searched: truncated"):
        retrieve(pipeline, [1.0, "bad"])


def test_an_image_that_failed_stays_out_though_a_later_step_makes_numbers_of_it():
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    featurizer = make_pipeline(Reader(), SimpleImputer())
    with pytest.warns(ImageReadWarning, match="1 images cannot be searched and are left out of the gallery"):
        retriever = NearestImageRetriever(2, featurizer=featurizer, on_invalid="skip").fit([1.0, "bad", 2.0, 5.0])
    assert retriever.skipped_.tolist() == [1]


@pytest.mark.parametrize("when", ["fit", "search"])
def test_the_output_that_is_configured_does_not_matter_inside(when, recwarn):
    import sklearn
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    featurizer = make_pipeline(Reader(), StandardScaler())
    retriever = NearestImageRetriever(2, featurizer=featurizer, metric="euclidean")
    expected = retriever.fit(ITEMS).kneighbors([1.5])
    with sklearn.config_context(transform_output="pandas" if when == "fit" else "default"):
        retriever.fit(ITEMS)
    with sklearn.config_context(transform_output="pandas" if when == "search" else "default"):
        found = retriever.kneighbors([1.5])
    for got, wanted in zip(found, expected, strict=True):
        assert_array_equal(got, wanted)
    assert not recwarn.list


def test_a_pipeline_that_was_fitted_with_named_output_is_searched_without_a_warning(recwarn):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from sklearn_psp import retrieve

    class Named(Reader):
        def get_feature_names_out(self, input_features=None):
            return np.array(["a", "b"], dtype=object)

    pipeline = make_pipeline(Named(), StandardScaler(), NearestImageRetriever(2, metric="euclidean"))
    pipeline[:-1].set_output(transform="pandas")
    pipeline.fit(ITEMS)
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b"]
    assert retrieve(pipeline, [1.0])["id"].tolist()[0] == 0
    assert not recwarn.list
