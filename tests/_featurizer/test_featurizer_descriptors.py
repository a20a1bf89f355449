"""What PSPNetFeaturizer computes: the descriptors and the parts, against their formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common.networks import TinyNet
from common.photographs import CHINA, crops
from PIL import Image
from torchvision.transforms.v2 import functional as vision

from sklearn_psp import PSPNetFeaturizer

FAST = {"image_size": 32, "scales": (1.0,), "precision": "float32", "batch_size": 8, "device": "cpu"}


def tiny(**params):
    return PSPNetFeaturizer(TinyNet(), **(FAST | {"runtime": "torch"} | params))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def photographs():
    return crops(n_crops=3)[0]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_same_image_as_path_bytes_pil_and_array_gives_bitwise_equal_descriptors(tmp_path, suffix):
    path = CHINA
    if suffix == "png":
        path = tmp_path / "china.png"
        with Image.open(CHINA) as image:
            image.save(path)
    with Image.open(path) as image:
        array = np.asarray(image.convert("RGB"))
    featurizer = PSPNetFeaturizer(**(FAST | {"image_size": 96})).fit([CHINA, CHINA.with_name("flower.jpg")])
    expected = featurizer.transform([str(path)])
    with Image.open(path) as image:
        sources = [path, path.read_bytes(), image, array, array / 255, torch.from_numpy(array.copy()).permute(2, 0, 1)]
        for source in sources:
            np.testing.assert_array_equal(featurizer.transform([source]), expected, err_msg=str(type(source)))
    np.testing.assert_array_equal(featurizer.transform(array[None]), expected)


@pytest.mark.parametrize(
    "featurizer",
    [
        PSPNetFeaturizer(image_size=96, precision="float32", device="cpu"),
        tiny(image_size=96, scales="auto", aggregation="concat"),
        tiny(image_size=96, scales="auto", center=False, flip=True),
    ],
    ids=["default backbone", "concat", "flip"],
)
def test_batch_sizes_give_the_same_descriptors(photographs, featurizer):
    one = featurizer.set_params(batch_size=1).fit_transform(photographs)
    for batch_size in (7, 64):
        rows = featurizer.set_params(batch_size=batch_size).fit_transform(photographs)
        error = np.linalg.norm(rows - one, axis=1) / np.linalg.norm(one, axis=1)
        assert error.max() <= 1e-4


def expected_parts(featurizer, network, images):
    """The local features of images that already have the size of the network, in float64."""
    pixels = torch.from_numpy(images / 255).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = network.double().eval()(pixels).numpy()
    height, width = maps.shape[2:]
    reduce = {
        "max": lambda part: part.max(axis=(2, 3)),
        "avg": lambda part: part.mean(axis=(2, 3)),
        "gem": lambda part: (part**featurizer.gem_power).mean(axis=(2, 3)) ** (1 / featurizer.gem_power),
    }[featurizer.pooling]
    parts = []
    for box in featurizer.parts_.itertuples():
        rows = slice(int(np.floor(box.top * height + 1e-9)), int(np.ceil(box.bottom * height - 1e-9)))
        columns = slice(int(np.floor(box.left * width + 1e-9)), int(np.ceil(box.right * width - 1e-9)))
        parts.append(reduce(maps[:, :, rows, columns]))
    return unit(np.stack(parts, axis=1))


@pytest.mark.parametrize("pooling", ["max", "avg", "gem"])
def test_parts_are_pooled_from_the_boxes_of_parts_(photographs, pooling):
    images = np.ascontiguousarray(photographs[:, :64, :96])
    featurizer = tiny(image_size=(64, 96), pooling=pooling, gem_power=2.5, bin_sizes=(1, (2, 3), 5)).fit(images)
    parts = featurizer.transform_parts(images)
    assert parts.dtype == np.float32
    assert parts.shape == (len(images), featurizer.n_parts_, 12) == (18, 32, 12)
    np.testing.assert_allclose(parts, expected_parts(featurizer, TinyNet(), images), atol=2e-6)


@pytest.mark.parametrize("params", [{}, {"flip": True, "scales": (1.0, 1.5)}], ids=["one view", "views"])
def test_without_normalisation_one_part_is_the_plain_average_of_the_maps(photographs, params):
    images = photographs[:4]
    featurizer = tiny(image_size=96, bin_sizes=(1,), pooling="avg", center=False, normalize=False, **params).fit()
    network = TinyNet().eval()
    views = [torch.from_numpy(images / 255).permute(0, 3, 1, 2).float()]
    if params:
        sizes = [(96, 96), (144, 144)]
        larger = vision.resize(torch.from_numpy(images).permute(0, 3, 1, 2), sizes[1], antialias=True)
        views = [larger.float() / 255, vision.resize(larger.float() / 255, sizes[0], antialias=True)]
        views += [view.flip(-1) for view in views]
    with torch.inference_mode():
        expected = sum(network(view).mean((2, 3)) for view in views) / len(views)
    atol = 0.02 if params else 1e-5  # images are resized by other means
    np.testing.assert_allclose(featurizer.transform(images), expected, atol=atol)
    np.testing.assert_allclose(featurizer.transform_parts(images)[:, 0], expected, atol=atol)


def test_without_normalisation_projected_parts_are_products(photographs):
    matrices = np.random.default_rng(0).normal(size=(3, 12, 5))
    parts = tiny(normalize=False, center=False).fit().transform_parts(photographs)
    projected = tiny(normalize=False, center=False, projection=matrices).fit()
    expected = np.stack([parts[:, i] @ matrices[level] for i, level in enumerate([0] + [1] * 4 + [2] * 9)], axis=1)
    np.testing.assert_allclose(projected.transform_parts(photographs), expected, atol=1e-5)
    np.testing.assert_allclose(projected.transform(photographs), expected.sum(axis=1), atol=1e-4)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("aggregation", ["sum", "concat"])
@pytest.mark.parametrize("weights", ["uniform", np.arange(14.0)], ids=["uniform", "given"])
def test_descriptors_follow_the_formula(photographs, weights, aggregation, center, normalize):
    training, queries = photographs[:14], photographs[14:]
    featurizer = tiny(part_weights=weights, aggregation=aggregation, center=center, normalize=normalize).fit(training)
    w = np.ones(14) if isinstance(weights, str) else weights

    def joined(images):
        parts = featurizer.transform_parts(images).astype(np.float64)
        if aggregation == "sum":
            rows = sum(w[i] * parts[:, i] for i in range(14))
        else:
            n_parts = np.repeat([1, 4, 9], [1, 4, 9])
            rows = np.concatenate([w[i] * parts[:, i] / np.sqrt(n_parts[i]) for i in range(14)], axis=1)
        return unit(rows) if normalize else rows

    centre = 14 / (14 + 50) * joined(training).mean(axis=0) if center else 0
    expected = joined(queries) - centre
    expected = unit(expected) if normalize else expected
    actual = featurizer.transform(queries)
    assert actual.dtype == np.float32
    assert featurizer.n_features_out_ == actual.shape[1]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(featurizer.center_, np.broadcast_to(centre, len(featurizer.center_)), atol=1e-6)
    np.testing.assert_array_equal(featurizer.part_weights_, w)


def test_one_image_is_not_the_zero_vector_and_two_are_not_opposite(photographs):
    one = tiny().fit_transform(photographs[:1])
    np.testing.assert_allclose(np.linalg.norm(one), 1, rtol=1e-6)
    two = tiny().fit_transform(photographs[[0, 1]])
    assert two[0] @ two[1] > 0.5  # two crops of one photograph


def test_parts_of_a_level_cover_the_image(photographs):
    parts = tiny(bin_sizes=(1, (2, 3), (6, 1))).fit(photographs).parts_
    assert len(parts) == 1 + 6 + 6
    assert parts["level"].tolist() == [0] + [1] * 6 + [2] * 6
    assert parts.loc[4, ["row", "column", "n_rows", "n_columns"]].tolist() == [1, 0, 2, 3]
    assert parts.loc[4, ["top", "bottom", "left", "right"]].tolist() == pytest.approx([1 / 2, 1, 0, 1 / 3])
    areas = (parts["bottom"] - parts["top"]) * (parts["right"] - parts["left"])
    assert areas.groupby(parts["level"]).sum().tolist() == pytest.approx([1, 1, 1])
    for _, level in parts.groupby("level"):
        assert level[["top", "left"]].min().tolist() == [0, 0]
        assert level[["bottom", "right"]].max().tolist() == [1, 1]


@pytest.mark.parametrize("order", ["column", "snake"])
def test_part_order_permutes_parts_and_changes_no_distance(photographs, order):
    cell = ["level", "row", "column"]
    for aggregation in ("sum", "concat"):
        params = {"aggregation": aggregation, "bin_sizes": (1, 3, (2, 4))}
        raster = tiny(**params).fit(photographs)
        other = tiny(part_order=order, **params).fit(photographs)
        where = {tuple(row): i for i, row in enumerate(raster.parts_[cell].to_numpy())}
        permutation = [where[tuple(row)] for row in other.parts_[cell].to_numpy()]
        assert sorted(permutation) == list(range(18))
        assert permutation != list(range(18))
        expected = raster.transform_parts(photographs)[:, permutation]
        np.testing.assert_array_equal(other.transform_parts(photographs), expected)
        a, b = (f.transform(photographs).astype(np.float64) for f in (raster, other))
        np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-5)


@pytest.mark.parametrize(
    ("order", "cells"),
    [
        ("raster", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]),
        ("column", [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]),
        ("snake", [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]),
    ],
)
def test_part_order_is_the_one_named(photographs, order, cells):
    parts = tiny(part_order=order, bin_sizes=((2, 3),)).fit(photographs).parts_
    assert list(zip(parts["row"], parts["column"], strict=True)) == cells


def test_feature_names_of_a_sum_are_numbered(photographs):
    names = tiny().fit(photographs).get_feature_names_out()
    assert names.dtype == object
    assert names.tolist() == [f"psp{i}" for i in range(12)]


def test_feature_names_of_a_concatenation_say_part_and_channel(photographs):
    params = {"aggregation": "concat", "part_order": "column", "center": False, "normalize": False}
    featurizer = tiny(**params).fit(photographs)
    names = featurizer.get_feature_names_out().tolist()
    assert names[0] == "psp_level0_row0_column0_channel0"
    assert len(set(names)) == 14 * 12 == featurizer.n_features_out_
    column = featurizer.transform(photographs)[:, names.index("psp_level2_row2_column1_channel7")]
    part = featurizer.parts_.query("level == 2 and row == 2 and column == 1").index[0]
    expected = featurizer.transform_parts(photographs)[:, part, 7] / 3
    np.testing.assert_allclose(column, expected, rtol=1e-5)


def test_scales_are_averaged_over_local_features(photographs):
    images = np.ascontiguousarray(photographs[:, :48, :48])
    # The smaller scale is made from the larger one, which here is the image itself.
    smaller = vision.resize(torch.from_numpy(images).permute(0, 3, 1, 2), [32, 32], antialias=True)
    smaller = np.ascontiguousarray(smaller.permute(0, 2, 3, 1).numpy())
    large = tiny(image_size=48).fit(images).transform_parts(images)
    small = tiny(image_size=32).fit(smaller).transform_parts(smaller)
    both = tiny(scales=(1.0, 1.5)).fit(images)
    assert both.scales_ == (1.0, 1.5)
    np.testing.assert_allclose(both.transform_parts(images), unit((large + small) / 2), atol=1e-5)


def test_flip_averages_a_part_and_its_mirror_image(photographs):
    plain = tiny(bin_sizes=(1, (2, 4))).fit(photographs)
    mirrored = plain.transform_parts(photographs[:, :, ::-1])
    # Part (row, column) of the mirror image shows (row, n_columns - 1 - column) of the image.
    order = [0] + [1 + 4 * row + 3 - column for row in range(2) for column in range(4)]
    expected = unit((plain.transform_parts(photographs) + mirrored[:, order]) / 2)
    flipped = tiny(bin_sizes=(1, (2, 4)), flip=True).fit(photographs)
    np.testing.assert_allclose(flipped.transform_parts(photographs), expected, atol=1e-5)


def test_default_scales_are_two(photographs):
    machine = {"device": "cpu", "precision": "float32", "batch_size": 8, "runtime": "torch"}
    featurizer = PSPNetFeaturizer(TinyNet(), **machine).fit(photographs[:2])
    assert featurizer.scales_ == (0.8, 1.15)


def test_default_backbone_says_what_it_is(photographs):
    featurizer = PSPNetFeaturizer(**FAST).fit(photographs)
    info = featurizer.backbone_info_
    assert (info["name"], info["licence"], info["n_channels"]) == ("efficientnet_lite0", "Apache-2.0", 1280)
    assert info["sha256"].startswith("57934424")
    assert featurizer.n_features_out_ == 1280
    assert featurizer.device_ == "cpu"


def test_precision_and_batch_size_are_decided_once(photographs):
    first, second = (PSPNetFeaturizer(image_size=32, scales=(1.0,), device="cpu").fit(photographs) for _ in range(2))
    assert first.precision_ in ("float32", "bfloat16")
    assert first.batch_size_ in (1, 2, 4, 8, 16, 32)
    assert (first.precision_, first.batch_size_) == (second.precision_, second.batch_size_)
    np.testing.assert_array_equal(first.transform(photographs), second.transform(photographs))


def test_half_precision_stays_close_and_gives_float32(photographs):
    params = FAST | {"image_size": 64}
    full = PSPNetFeaturizer(**params).fit_transform(photographs)
    half = PSPNetFeaturizer(**(params | {"precision": "bfloat16"})).fit_transform(photographs)
    assert half.dtype == np.float32
    assert (full * half).sum(axis=1).min() > 0.97
