"""`projection`: what it changes in descriptors and parts, and that it goes with a featurizer wherever that goes."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
from common.networks import FAST, TinyNet
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer, load, save
from sklearn_psp._nets import learn_part_weights

RNG = np.random.default_rng(0)
LABELS = np.repeat(["cat", "dog", "emu"], 4)
IMAGES = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
IMAGES //= np.arange(1, 13, dtype=np.uint8)[:, None, None, None]
PROJECTION = RNG.normal(size=(3, 12, 5))
MODULES = {"common.networks.TinyNet": TinyNet()}


def tiny(**params):
    return PSPNetFeaturizer(**({"backbone": TinyNet(), "projection": PROJECTION} | FAST | params))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def parts_by_hand(images, projection=PROJECTION, **params):
    """Multiply the local features by the matrices of their levels, in float64."""
    plain = tiny(projection=None, center=False, **params).fit()
    features = plain.transform_parts(images).astype(np.float64)
    levels = plain.parts_["level"]
    return unit(np.stack([features[:, i] @ projection[level] for i, level in enumerate(levels)], axis=1))


@pytest.mark.parametrize("views", [{}, {"flip": True, "scales": (1.0, 1.5)}], ids=["one view", "four views"])
@pytest.mark.parametrize("order", ["raster", "snake"])
def test_transform_parts_gives_projected_unit_vectors(order, views):
    featurizer = tiny(part_order=order, **views).fit(IMAGES)
    parts = featurizer.transform_parts(IMAGES)
    assert parts.dtype == np.float32
    assert parts.shape == (12, 14, 5)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=2), 1, rtol=1e-5)
    np.testing.assert_allclose(parts, parts_by_hand(IMAGES, part_order=order, **views), atol=1e-5)


@pytest.mark.parametrize("cached", [False, True], ids=["computed", "cached"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_descriptors_follow_the_formula(aggregation, center, cached, folder, forget):
    weights = np.linspace(0.1, 2, 14)
    params = {"aggregation": aggregation, "center": center, "part_weights": weights}
    featurizer = tiny(cache=folder if cached else None, **params).fit(IMAGES)
    parts = parts_by_hand(IMAGES)
    if aggregation == "sum":
        expected = unit(np.einsum("npk,p->nk", parts, weights))
    else:
        n_parts = np.repeat([1, 4, 9], [1, 4, 9])
        expected = unit((parts * (weights / np.sqrt(n_parts))[:, None]).reshape(12, 70))
    if center:
        expected = unit(expected - 12 / 62 * expected.mean(axis=0))
    # A cache holds maps in half precision.
    tolerance = 3e-3 if cached else 1e-5
    rows = featurizer.transform(IMAGES)
    assert featurizer.n_features_out_ == rows.shape[1] == expected.shape[1]
    np.testing.assert_allclose(rows, expected, atol=tolerance)
    np.testing.assert_array_equal(featurizer.transform(IMAGES), rows)
    forget()
    np.testing.assert_array_equal(featurizer.transform(IMAGES), rows)


def test_a_cache_tells_projections_apart_and_runs_the_network_once(folder, seen):
    def described(projection, **params):
        featurizer = tiny(projection=projection, cache=folder, **params).fit(IMAGES)
        return featurizer.transform(IMAGES), featurizer.transform_parts(IMAGES)

    other = PROJECTION.copy()
    other[2, 11, 4] += 1
    for params in ({}, {"aggregation": "concat"}):
        for projection in (PROJECTION, other, None, PROJECTION[:, :, :2]):
            rows, parts = described(projection, **params)
            plain = tiny(projection=projection, **params).fit(IMAGES)
            np.testing.assert_allclose(rows, plain.transform(IMAGES), atol=3e-3)
            np.testing.assert_allclose(parts, plain.transform_parts(IMAGES), atol=3e-3)
            np.testing.assert_array_equal(described(projection, **params)[0], rows)
        assert np.abs(described(PROJECTION, **params)[0] - described(other, **params)[0]).max() > 1e-3
    # Without the cache each of the eight was fitted, and transformed twice.
    assert sum(seen) == len(IMAGES) * (1 + 8 * 3)


def test_cached_rows_have_the_same_bits_one_by_one(folder, forget):
    featurizer = tiny(cache=folder, aggregation="concat").fit(IMAGES)
    rows, parts = featurizer.transform(IMAGES), featurizer.transform_parts(IMAGES)
    for clear in (lambda: None, forget):
        clear()
        for i in range(12):
            np.testing.assert_array_equal(featurizer.transform(IMAGES[i : i + 1])[0], rows[i])
            np.testing.assert_array_equal(featurizer.transform_parts(IMAGES[i : i + 1])[0], parts[i])


def test_names_are_of_components():
    assert tiny().fit(IMAGES).get_feature_names_out().tolist() == [f"psp{i}" for i in range(5)]
    featurizer = tiny(aggregation="concat", center=False, normalize=False).fit()
    names = featurizer.get_feature_names_out().tolist()
    assert len(set(names)) == 14 * 5 == featurizer.n_features_out_
    column = featurizer.transform(IMAGES)[:, names.index("psp_level2_row1_column0_component4")]
    part = featurizer.parts_.query("level == 2 and row == 1 and column == 0").index[0]
    np.testing.assert_allclose(column, featurizer.transform_parts(IMAGES)[:, part, 4] / 3, rtol=1e-5)


def test_pandas_output_has_a_column_a_component():
    frame = tiny().set_output(transform="pandas").fit_transform(IMAGES)
    assert frame.columns.tolist() == [f"psp{i}" for i in range(5)]


@pytest.mark.parametrize("form", ["list", "float32", "large"])
def test_it_survives_clone_pickle_and_save(form, tmp_path):
    projection = {"list": PROJECTION.tolist(), "float32": PROJECTION.astype(np.float32)}.get(form)
    if form == "large":
        projection = RNG.normal(size=(3, 12, 700))
    featurizer = tiny(projection=projection).fit(IMAGES)
    rows, parts = featurizer.transform(IMAGES), featurizer.transform_parts(IMAGES)
    path = tmp_path / "file.skops"
    save(featurizer, path)
    with zipfile.ZipFile(path) as archive:
        stored = sum(member.file_size for member in archive.infolist() if member.filename == "arrays.safetensors")
    # Small matrices stand in the description.
    assert (stored > 3 * 12 * 700 * 8) == (form == "large")
    for again in (
        pickle.loads(pickle.dumps(featurizer)),
        load(path, modules=MODULES),
        clone(featurizer).fit(IMAGES),
    ):
        assert type(again.projection) is type(projection)
        np.testing.assert_array_equal(again.projection, projection)
        np.testing.assert_array_equal(again.transform(IMAGES), rows)
        np.testing.assert_array_equal(again.transform_parts(IMAGES), parts)


@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_weights_are_learned_on_projected_parts(aggregation):
    # Through the first two matrices all images look alike: only the parts of the third level show classes.
    images = IMAGES.copy()
    images[:] = (60 * np.unique(LABELS, return_inverse=True)[1] + 40)[:, None, None, None]
    images += RNG.integers(0, 30, images.shape, dtype=np.uint8)
    blind = np.zeros((3, 12, 5))
    blind[:2, :, 0] = 1
    blind[2] = PROJECTION[2]
    params = {"part_weights": "learned", "aggregation": aggregation}
    learned = tiny(projection=blind, **params).fit(images, LABELS)
    level = learned.parts_["level"].to_numpy()
    assert learned.part_weights_[level == 2].min() > learned.part_weights_[level < 2].max()
    expected = learn_part_weights(
        parts_by_hand(images, blind).astype(np.float32),
        np.repeat([0, 1, 2], 4),
        aggregation=aggregation,
        level_sizes=np.repeat([1, 4, 9], [1, 4, 9]),
        center_share=12 / 62,
    )
    # Near the optimum the loss is flat: the last bits of the parts decide where the search stops.
    np.testing.assert_allclose(learned.part_weights_, expected, atol=5e-3)
    # A projection by the identity changes nothing except the last bits.
    plain = tiny(projection=None, **params).fit(images, LABELS)
    assert np.abs(plain.part_weights_ - expected).max() > 0.1
    same = tiny(projection=np.broadcast_to(np.eye(12), (3, 12, 12)), **params).fit(images, LABELS)
    np.testing.assert_allclose(same.part_weights_, plain.part_weights_, atol=5e-3)


def test_a_grid_search_in_processes_takes_projections_as_values(folder):
    # Large enough for joblib to hand it to its workers as read-only memory.
    large = RNG.normal(size=(3, 12, 8_000))
    search = Pipeline([("psp", tiny(cache=folder)), ("retriever", NearestImageRetriever(n_neighbors=1))])
    grid = GridSearchCV(search, {"psp__projection": [None, large]}, cv=StratifiedKFold(2), n_jobs=2, refit=False)
    with_cache = grid.fit(IMAGES, LABELS).cv_results_["mean_test_score"]
    without = clone(grid).set_params(estimator__psp__cache=None, n_jobs=1).fit(IMAGES, LABELS)
    assert np.isfinite(with_cache).all()
    np.testing.assert_allclose(with_cache, without.cv_results_["mean_test_score"], atol=1e-3)
