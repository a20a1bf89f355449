"""Pyramid pooling against torch's adaptive pooling and the equations in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_psp._nets import PyramidPooling, part_sequence

GRIDS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3)


def maps(n=2, channels=5, rows=7, columns=6, seed=0, dtype=torch.float32):
    return torch.randn(n, channels, rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def parts_by_hand(x, grids, reduce):
    """Pool cell by cell, as the literature defines adaptive boundaries, in float64."""
    x = x.double().numpy()
    height, width = x.shape[2:]
    parts = []
    for rows, columns in grids:
        for r in range(rows):
            for c in range(columns):
                top, bottom = math.floor(r * height / rows), math.ceil((r + 1) * height / rows)
                left, right = math.floor(c * width / columns), math.ceil((c + 1) * width / columns)
                parts.append(reduce(x[:, :, top:bottom, left:right], axis=(2, 3)))
    parts = np.stack(parts, axis=1)
    return parts / np.linalg.norm(parts, axis=-1, keepdims=True)


@given(grids=GRIDS, rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99))
def test_parts_have_the_adaptive_boundaries_of_the_literature(grids, rows, columns, seed):
    x = maps(rows=rows, columns=columns, seed=seed)
    for pooling, reduce in (("max", np.max), ("avg", np.mean)):
        features = PyramidPooling(grids, pooling=pooling).local_features(x)
        np.testing.assert_allclose(features, parts_by_hand(x, grids, reduce), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ["raster", "column", "snake"])
def test_features_stand_in_the_order_of_the_sequence(order):
    x = maps()
    grids = [(1, 1), (3, 2)]
    raster = PyramidPooling(grids)
    ordered = PyramidPooling(grids, part_order=order)
    by_part = dict(zip(raster.sequence, raster.local_features(x).unbind(1), strict=True))
    for part, feature in zip(ordered.sequence, ordered.local_features(x).unbind(1), strict=True):
        assert torch.equal(feature, by_part[part])


@pytest.mark.parametrize("power", [1.0, 3.0, 7.5])
def test_gem_is_the_generalised_mean_of_its_paper_in_float64(power):
    x = maps(rows=6, columns=6).abs()
    features = PyramidPooling((2,), pooling="gem", gem_power=power).local_features(x).numpy()
    cells = x.double().numpy().reshape(2, 5, 2, 3, 2, 3).transpose(0, 2, 4, 1, 3, 5).reshape(2, 4, 5, 9)
    expected = np.mean(cells**power, axis=-1) ** (1 / power)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(features, expected, rtol=1e-5)


def test_gem_grows_from_average_to_maximum():
    x = 50 * maps().abs()
    gem = [PyramidPooling((2,), pooling="gem", gem_power=p).local_features(x) for p in (1.0, 2000.0)]
    torch.testing.assert_close(gem[0], PyramidPooling((2,), pooling="avg").local_features(x))
    torch.testing.assert_close(gem[1], PyramidPooling((2,), pooling="max").local_features(x), rtol=5e-3, atol=1e-4)


@given(grids=GRIDS, rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_gem_parts_have_the_adaptive_boundaries_too(grids, rows, columns):
    x = maps(rows=rows, columns=columns).abs()
    features = PyramidPooling(grids, pooling="gem", gem_power=3.0).local_features(x)
    cubes = parts_by_hand(x, grids, lambda cell, axis: np.mean(cell**3, axis=axis) ** (1 / 3))
    np.testing.assert_allclose(features, cubes, rtol=1e-4, atol=1e-5)


def gem_by_hand(x, grids, power):
    """Pool in float64, with the floor of the paper's implementation."""
    x = x.double().clamp_min(1e-6)
    return parts_by_hand(x, grids, lambda cell, axis: np.mean(cell**power, axis=axis) ** (1 / power))


@pytest.mark.parametrize("power", [1.0, 3.0, 5.0, 5.001, 12.0])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 50.0])
def test_gem_holds_its_equation_on_both_sides_of_the_border_of_its_two_ways(power, scale):
    # As after a ReLU: half of the values are zero. One picture is a thousand times as bright as the other.
    x = scale * maps(channels=16, rows=9, columns=8).clamp_min(0)
    x[1] *= 1e-3
    grids = [(1, 1), (3, 2), (4, 4)]
    features = PyramidPooling(grids, pooling="gem", gem_power=power).local_features(x)
    np.testing.assert_allclose(features, gem_by_hand(x, grids, power), rtol=1e-3, atol=2e-5)


def test_the_two_ways_of_gem_meet():
    x = 20 * maps(channels=16).clamp_min(0)
    below, above = (PyramidPooling((1, 3), pooling="gem", gem_power=p).local_features(x) for p in (5.0, 5.00001))
    torch.testing.assert_close(above, below, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("power", [3.0, 5.0, 5.001])
def test_gem_of_a_dark_part_beside_a_bright_one_holds_its_equation(power):
    x = maps(channels=16, rows=8, columns=8).abs()
    x[:, :, :4] *= 1e-4
    features = PyramidPooling((2,), pooling="gem", gem_power=power).local_features(x)
    np.testing.assert_allclose(features, gem_by_hand(x, [(2, 2)], power), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("power", [1.0, 3.0, 5.0, 5.001])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_gem_of_a_part_without_positive_values_has_unit_length(power, value):
    x = maps(channels=16, rows=8, columns=8).abs()
    x[:, :, :4, :4] = value
    features = PyramidPooling((2,), pooling="gem", gem_power=power).local_features(x)
    np.testing.assert_allclose(features[:, 0], 0.25, rtol=1e-4)


@pytest.mark.parametrize("power", [3.0, 5.0, 5.001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gem_leaves_the_maps_as_they_are(power, dtype):
    x = maps(dtype=dtype)
    before = x.clone()
    PyramidPooling(pooling="gem", gem_power=power).local_features(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("pooling", ["max", "avg", "gem"])
def test_features_of_a_picture_do_not_depend_on_its_neighbours(pooling):
    x = maps(n=5)
    pyramid = PyramidPooling((1, 2, 3), pooling=pooling)
    together = pyramid(x)
    for i in range(5):
        assert torch.equal(pyramid(x[i : i + 1])[0], together[i])


@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_joining_tensors_or_arrays_however_many_gives_the_same_bits(aggregation):
    pyramid = PyramidPooling((1, 2), part_weights=[0.3, 1.7, 0.1, 2.9, 1.1], aggregation=aggregation)
    features = torch.randn(7, 5, 33, generator=torch.Generator().manual_seed(0))
    joined = pyramid.join(features).numpy()
    np.testing.assert_array_equal(pyramid.join(features.numpy()), joined)
    for i in range(7):
        np.testing.assert_array_equal(pyramid.join(features[i : i + 1].numpy())[0], joined[i])


@pytest.mark.parametrize(("aggregation", "n_features"), [("sum", 6), ("concat", 30)])
def test_no_pictures_are_joined_to_no_rows(aggregation, n_features):
    joined = PyramidPooling((1, 2), aggregation=aggregation).join(torch.zeros(0, 5, 6))
    assert joined.shape == (0, n_features)


@given(grids=GRIDS, seed=st.integers(0, 99))
def test_sum_and_concatenation_follow_their_equations_in_float64(grids, seed):
    x = maps(seed=seed)
    counts = np.concatenate([[r * c] * (r * c) for r, c in grids])
    weights = np.random.default_rng(seed).uniform(0, 2, len(counts))
    features = PyramidPooling(grids).local_features(x).numpy().astype(np.float64)
    summed = PyramidPooling(grids, part_weights=weights)(x).numpy()
    np.testing.assert_allclose(summed, np.einsum("npc,p->nc", features, weights), rtol=1e-4, atol=1e-5)
    joined = PyramidPooling(grids, part_weights=weights, aggregation="concat")(x).numpy()
    expected = (features * (weights / np.sqrt(counts))[:, None]).reshape(len(x), -1)
    np.testing.assert_allclose(joined, expected, rtol=1e-4, atol=1e-5)


def test_a_zero_part_gives_a_zero_feature_and_no_nan():
    features = PyramidPooling((1, 2)).local_features(torch.zeros(1, 4, 5, 5))
    assert torch.equal(features, torch.zeros(1, 5, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pooling", [{"pooling": "max"}, {"pooling": "avg"}, {"pooling": "gem"},
                                     {"pooling": "gem", "gem_power": 5.001}])  # fmt: skip
def test_half_precision_maps_are_pooled_in_float32(dtype, pooling):
    x = maps(dtype=dtype).abs()
    features = PyramidPooling(**pooling).local_features(x)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, PyramidPooling(**pooling).local_features(x.float()))


def test_memory_format_changes_no_feature():
    x = maps()
    pooling = PyramidPooling((1, 3))
    assert torch.equal(pooling(x), pooling(x.contiguous(memory_format=torch.channels_last)))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("raster", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]),
        ("column", [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]),
        ("snake", [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]),
    ],
)
def test_part_order(order, expected):
    assert [(part.row, part.column) for part in part_sequence([(2, 3)], order)] == expected


@given(grids=GRIDS, order=st.sampled_from(["raster", "column", "snake"]))
def test_every_order_holds_the_same_parts_level_by_level(grids, order):
    parts = part_sequence(grids, order)
    assert sorted(parts) == sorted(part_sequence(grids))
    assert [part.level for part in parts] == sorted(part.level for part in parts)
