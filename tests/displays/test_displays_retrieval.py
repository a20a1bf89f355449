"""What is shown: which queries, which images, what is right."""

import os

import numpy as np
import pandas as pd
import pytest
from common.transformers import ColourGrid
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_psp import NearestImageRetriever
from sklearn_psp._images import as_images, thumbnail
from sklearn_psp.displays import RetrievalDisplay
from sklearn_psp.exceptions import ImageInputError

show = RetrievalDisplay.from_estimator


def ids(display):
    return [[result.id for result in query.results] for query in display.queries]


def marks(display):
    return [[result.right for result in query.results] for query in display.queries]


def captions(display):
    return [query.caption for query in display.queries]


def test_gallery_of_images__shows_what_retrieve_finds(gallery, paths, images):
    display = show(gallery, paths[:2], ["red", "blue"], n_neighbors=3)
    results = gallery.retrieve(paths[:2], 3)
    assert ids(display) == results["id"].to_numpy().reshape(2, 3).tolist()
    assert [r.distance for q in display.queries for r in q.results] == results["distance"].tolist()
    assert marks(display) == [[True, True, False], [False, False, display.queries[1].results[2].label == "blue"]]
    assert captions(display) == ["r1.png", "r2.png"]
    assert [query.label for query in display.queries] == ["red", "blue"]
    np.testing.assert_array_equal(display.queries[0].image, images[0])
    np.testing.assert_array_equal(display.queries[0].results[0].image, images[0])


def test_no_queries__searches_the_gallery_for_its_own_images_with_its_own_labels(gallery, images):
    display = show(gallery, n_neighbors=1, n_queries=6)
    assert captions(display) == gallery.ids_.tolist()
    assert ids(display) == [["r2"], ["r1"], ["b2"], ["b1"], ["g2"], ["g1"]]
    assert marks(display) == [[True]] * 6
    np.testing.assert_array_equal(display.queries[3].image, images[3])


def test_no_queries_and_y__y_counts(gallery):
    display = show(gallery, y=["red", "blue", "blue", None, "grey", "grey"], n_neighbors=1, n_queries=4)
    assert marks(display) == [[True], [False], [True], [None]]


def test_no_labels__nothing_is_marked(paths):
    gallery = NearestImageRetriever(featurizer=ColourGrid()).fit(paths)
    for y in (None, ["red"] * 6):
        display = show(gallery, paths, y, n_neighbors=2)
        assert marks(display) == [[None, None]] * 5
        assert {result.label for query in display.queries for result in query.results} == {None}


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_missing_label__equals_nothing_and_is_not_marked(paths, missing):
    labels = np.array(["red", missing, "blue", "blue", "grey", "grey"], dtype=object)
    gallery = NearestImageRetriever(featurizer=ColourGrid()).fit(paths, labels)
    y = np.array(["red", missing], dtype=object)
    display = show(gallery, paths[:2], y, n_neighbors=3)
    assert marks(display)[0][:2] == [True, None]
    assert marks(display)[1] == [None] * 3
    assert display.queries[1].label is None


def test_numbers_as_labels__become_plain_numbers(descriptors, images):
    search = NearestImageRetriever().fit(descriptors, [0, 0, 1, 1, 2, 2])
    display = show(search, gallery_images=images, n_neighbors=1)
    assert marks(display) == [[True]] * 5
    assert type(display.queries[2].label) is int
    assert display.queries[2].results[0].label == 1


def test_one_answer__however_the_search_is_put_together(gallery, paths, images):
    expected = ids(show(gallery, paths, n_neighbors=3))
    pipeline = make_pipeline(ColourGrid(), NearestImageRetriever())
    pipeline = pipeline.fit(paths, gallery.labels_, nearestimageretriever__ids=gallery.ids_)
    by_id = dict(zip(gallery.ids_, images, strict=True))
    for form in (paths, images, by_id, pd.Series(by_id), pd.DataFrame({"image": by_id})):
        display = show(pipeline, paths, n_neighbors=3, gallery_images=form)
        assert ids(display) == expected
        assert all(result.image is not None for query in display.queries for result in query.results)
    grid = GridSearchCV(pipeline, {"nearestimageretriever__metric": ["cosine"]}, cv=2)
    grid = grid.fit(paths, [0, 1, 0, 1, 0, 1])
    display = show(grid, paths, [0, 1, 0, 1, 0, 1], n_neighbors=1, gallery_images=paths)
    assert ids(display) == [[0], [1], [2], [3], [4]]
    assert marks(display) == [[True]] * 5


@pytest.mark.parametrize(
    "form", [list, tuple, pd.Series, lambda x: pd.DataFrame({"x": x}), lambda x: np.array(x, object)]
)
def test_form_of_queries__does_not_matter(gallery, paths, form):
    for select in ("first", "random", "worst"):
        display = show(gallery, form(paths), gallery.labels_, n_neighbors=1, n_queries=3, select=select, random_state=0)
        assert [caption.removesuffix(".png") for caption in captions(display)] == [found for [found] in ids(display)]


def test_stack_of_arrays_and_batches(gallery, images):
    stack = np.stack([images[0], images[0] // 2])
    assert ids(show(gallery, stack, n_neighbors=1)) == ids(show(gallery, list(stack), n_neighbors=1))
    display = show(gallery, iter([stack]), query_images=stack, n_neighbors=1, n_queries=1)
    assert ids(display) == [["r1"]]
    with pytest.raises(ImageInputError, match=r"query_images=.*read only once"):
        show(gallery, iter([stack]))


def test_index_of_queries__names_the_queries_even_twice(gallery, paths):
    queries = pd.Series(paths[:3], index=["a", "b", "a"])
    display = show(gallery, queries, n_neighbors=1)
    assert captions(display) == ["a", "b", "a"]
    assert ids(display) == [["r1"], ["r2"], ["b1"]]


def test_descriptors__with_images_of_both_sides(bare, descriptors, images, paths):
    display = show(bare, descriptors[4:], ["grey", "red"], query_images=paths[4:], gallery_images=paths, n_neighbors=1)
    assert captions(display) == ["g1.png", "g2.png"]
    assert marks(display) == [[True], [False]]
    np.testing.assert_array_equal(display.queries[0].image, images[4])
    series = pd.Series(paths[4:], index=["x", "y"])
    np.testing.assert_array_equal(
        show(bare, descriptors[4:], query_images=series, gallery_images=paths).queries[0].image, images[4]
    )


def test_ids_that_are_paths__are_images(descriptors, paths):
    search = NearestImageRetriever().fit(descriptors, ids=paths)
    display = show(search, n_neighbors=1, n_queries=2)
    assert all(query.image is not None and query.results[0].image is not None for query in display.queries)


def test_worst__has_the_lowest_precision_first(gallery, paths):
    # Of two results r1 and b2 find both, b1 finds none, r2 only a missing label.
    display = show(gallery, paths[:4], ["red", None, "grey", "blue"], n_neighbors=2, n_queries=3, select="worst")
    assert captions(display) == ["b1.png", "r1.png", "b2.png"]
    everything = show(gallery, y=["grey", "red", "blue", "blue", "grey", "grey"], n_neighbors=2, select="worst")
    assert captions(everything)[0] == "r1"


def test_random__repeats_with_its_seed_and_is_in_order(gallery, paths):
    shown = [captions(show(gallery, paths, n_queries=3, select="random", random_state=seed)) for seed in (3, 3, 4, 5)]
    assert shown[0] == shown[1]
    assert len({tuple(names) for names in shown}) > 1
    assert all(names == sorted(names, key=[os.path.basename(path) for path in paths].index) for names in shown)


def test_where__chooses_among_results(gallery, paths):
    assert ids(show(gallery, paths[:1], where=["b1", "g2"])) in ([["b1", "g2"]], [["g2", "b1"]])


def test_image_that_cannot_be_shown__is_none_and_no_error(bare, descriptors, images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not images")
    by_id = {"r1": images[0], "r2": tmp_path / "broken.png", "b1": None, "b2": tmp_path / "gone.png", "g1": 7}
    display = show(bare, gallery_images=by_id, n_queries=6)
    assert [query.image is None for query in display.queries] == [False, True, True, True, True, True]
    assert captions(display) == bare.ids_.tolist()


def test_skipped_query__is_shown_without_results(bare, descriptors, images):
    search = NearestImageRetriever(on_invalid="skip").fit(descriptors)
    rows = np.array([descriptors[0], np.full(3, np.nan), descriptors[2]])
    display = show(search, rows, query_images=images[:3], gallery_images=images, n_neighbors=2)
    assert [len(query.results) for query in display.queries] == [2, 0, 2]


def test_thumbnail__is_small_and_no_view(images):
    assert thumbnail(images[5]).shape == (128, 256, 3)
    assert not np.shares_memory(thumbnail(images[0]), images[0])
    assert thumbnail("no such file.png") is None


def test_from_results__equals_from_estimator(gallery, paths):
    y = ["red", "red", "grey", "blue", "grey", "grey"]
    results = gallery.retrieve(paths, 3)
    by_id = dict(zip(gallery.ids_, paths, strict=True))
    for select in ("first", "worst"):
        one = show(gallery, paths, y, n_neighbors=3, n_queries=4, select=select)
        other = RetrievalDisplay.from_results(results, paths, by_id, y=y, n_queries=4, select=select)
        assert ids(one) == ids(other)
        assert marks(one) == marks(other)
        assert [q.label for q in one.queries] == [q.label for q in other.queries]
    assert captions(one) == captions(other)


def test_from_results__by_name_and_of_the_gallery_itself(gallery, paths):
    named = pd.Series(paths, index=list("abcdef"))
    by_id = pd.Series(paths, index=gallery.ids_)
    display = RetrievalDisplay.from_results(
        gallery.retrieve(named, 2), named, by_id, y=gallery.labels_, n_queries=2, n_neighbors=1
    )
    assert captions(display) == ["a", "b"]
    assert marks(display) == [[True], [True]]
    own = RetrievalDisplay.from_results(gallery.retrieve(n_neighbors=1), gallery_images=by_id, y=gallery.labels_)
    assert captions(own) == ["r1", "r2", "b1", "b2", "g1"]
    assert marks(own) == [[True]] * 5


def test_from_results__takes_rows_as_they_were_chosen(gallery, paths):
    results = gallery.retrieve(paths, 3)
    some = results[results["query"].isin([4, 1]) & (results["rank"] > 1)].sort_values(["query", "rank"])[::-1]
    display = RetrievalDisplay.from_results(some, paths, dict(zip(gallery.ids_, paths, strict=True)))
    assert captions(display) == ["g1.png", "r2.png"]
    assert [len(query.results) for query in display.queries] == [2, 2]
    assert all(a.distance <= b.distance for a, b in (query.results for query in display.queries))


def test_from_results__paths_as_ids_need_no_images(descriptors, paths):
    search = NearestImageRetriever().fit(descriptors, ["a", "a", "b", "b", "c", "c"], ids=paths)
    display = RetrievalDisplay.from_results(search.retrieve(n_neighbors=1), y=["a", "b", "b", "b", "c", "c"])
    assert marks(display)[:2] == [[True], [False]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_neighbors": 0}, ValueError, "n_neighbors"),
        ({"n_queries": 1.5}, ValueError, "n_queries"),
        ({"select": "best"}, ValueError, "select"),
        ({"y": ["red"]}, ValueError, "one label for each of the 6 queries"),
        ({"gallery_images": ["a.png"]}, ValueError, "gallery_images must hold one image for each of the 6"),
        ({"gallery_images": {"x": "a.png"}}, ImageInputError, "none of the ids shown, such as 'r"),
        ({"gallery_images": np.zeros((6, 4))}, ImageInputError, "gallery_images must hold images"),
        ({"gallery_images": iter([])}, ImageInputError, "read only once"),
        ({"gallery_images": pd.Series("a.png", list("aab"))}, ValueError, "index of gallery_images must be unique"),
        ({}, ImageInputError, "images of the gallery are not known, and ids such as 'r.*pass gallery_images="),
        ({"query_images": ["a.png"]}, ImageInputError, "pass its images as gallery_images="),
    ],
)
def test_mistake__is_named(bare, arguments, error, message):
    with pytest.raises(error, match=message):
        show(bare, **arguments)


def test_mistake_of_the_reader__is_quoted_as_it_was_written(bare):
    with pytest.raises(ImageInputError) as read:
        as_images(np.zeros((6, 4)))
    with pytest.raises(ImageInputError) as shown:
        show(bare, gallery_images=np.zeros((6, 4)))
    assert str(shown.value) == f"gallery_images must hold images, with gallery_images as X: {read.value}"


def test_mistake_in_queries__is_named(bare, descriptors, paths):
    for rows in (descriptors, descriptors.tolist(), pd.DataFrame(descriptors)):
        with pytest.raises(ImageInputError, match="pass those of the queries as query_images="):
            show(bare, rows, gallery_images=paths)
    with pytest.raises(ValueError, match="one image for each of the 6 rows of X, got 2"):
        show(bare, descriptors, query_images=paths[:2], gallery_images=paths)
    with pytest.raises(ValueError, match="select='worst' needs the true labels"):
        show(bare, descriptors, query_images=paths, gallery_images=paths, select="worst")
    unlabelled = NearestImageRetriever().fit(descriptors)
    with pytest.raises(ValueError, match="labels on both sides"):
        show(unlabelled, descriptors, bare.labels_, query_images=paths, gallery_images=paths, select="worst")


def test_wrong_estimator__is_named(descriptors):
    with pytest.raises(TypeError, match=r"estimator must be a NearestImageRetriever.*Pipeline ends in Function"):
        show(make_pipeline(FunctionTransformer()).fit(descriptors))
    with pytest.raises(NotFittedError):
        show(NearestImageRetriever())
    with pytest.raises(NotFittedError):
        show(GridSearchCV(NearestImageRetriever(), {}))


def test_wrong_table__is_named(gallery, paths):
    results = gallery.retrieve(paths, 1)
    by_id = dict(zip(gallery.ids_, paths, strict=True))
    from_results = RetrievalDisplay.from_results
    with pytest.raises(TypeError, match="the DataFrame that retrieve returns, got list"):
        from_results([], paths)
    with pytest.raises(ValueError, match="has no column id"):
        from_results(results.drop(columns="id"), paths)
    with pytest.raises(ValueError, match="results is empty"):
        from_results(results[:0], paths)
    with pytest.raises(ImageInputError, match="none of the queries shown, such as 0"):
        from_results(results, {"a": paths[0]}, by_id)
    with pytest.raises(ImageInputError, match="gallery_images has an image for none of the ids"):
        from_results(results, paths, paths)
    with pytest.raises(ImageInputError, match="images of the gallery are not known"):
        from_results(results, paths)
