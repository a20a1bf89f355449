"""Pyramid pooling against torch's adaptive pooling and the equations in float64; the views of an image."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sklearn_psp._nets import PyramidPooling, Views, images_tensor, part_sequence

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
    # As after a ReLU: half of the values are zero. One image is a thousand times as bright as the other.
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
def test_features_of_a_image_do_not_depend_on_its_neighbours(pooling):
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
def test_no_images_are_joined_to_no_rows(aggregation, n_features):
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


def matrices(n_levels, channels=5, n_components=3, seed=7):
    return np.random.default_rng(seed).normal(size=(n_levels, channels, n_components))


def projected_by_hand(features, sequence, projection):
    """Multiply part by part, in float64."""
    products = [features[:, i] @ projection[part.level] for i, part in enumerate(sequence)]
    products = np.stack(products, axis=1)
    return products / np.linalg.norm(products, axis=-1, keepdims=True)


@given(grids=GRIDS, order=st.sampled_from(["raster", "column", "snake"]), seed=st.integers(0, 99))
def test_a_projection_multiplies_each_part_by_the_matrix_of_its_level_in_float64(grids, order, seed):
    x, projection = maps(seed=seed), matrices(len(grids), seed=seed)
    pyramid = PyramidPooling(grids, part_order=order, projection=projection)
    features = pyramid.local_features(x)
    assert torch.equal(features, PyramidPooling(grids, part_order=order).local_features(x))
    expected = projected_by_hand(features.double().numpy(), pyramid.sequence, projection)
    for projected in (pyramid.project(features), pyramid.project(features.numpy())):
        assert type(projected) in (torch.Tensor, np.ndarray)
        np.testing.assert_allclose(projected, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_projected_parts_are_weighted_and_joined(aggregation):
    x, projection, weights = maps(), matrices(2), np.array([0.5, 1.0, 2.0, 0.1, 3.0])
    pyramid = PyramidPooling((1, 2), projection=projection, part_weights=weights, aggregation=aggregation)
    parts = projected_by_hand(pyramid.local_features(x).double().numpy(), pyramid.sequence, projection)
    if aggregation == "sum":
        expected = np.einsum("npk,p->nk", parts, weights)
    else:
        expected = (parts * (weights / [1, 2, 2, 2, 2])[:, None]).reshape(2, 15)
    np.testing.assert_allclose(pyramid(x), expected, rtol=1e-4, atol=1e-5)


def test_without_a_projection_features_are_returned_as_they_are():
    features = PyramidPooling().local_features(maps())
    assert PyramidPooling().project(features) is features
    array = features.numpy()
    assert PyramidPooling().project(array) is array


def test_projected_arrays_have_the_same_bits_however_many_and_tensors_are_close():
    pyramid = PyramidPooling((1, 2, 3), projection=matrices(3, channels=160, n_components=33))
    features = torch.randn(67, 14, 160, generator=torch.Generator().manual_seed(0))
    projected = pyramid.project(features.numpy())
    assert projected.dtype == np.float32
    np.testing.assert_allclose(pyramid.project(features), projected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=-1), 1, rtol=1e-6)
    for start, end in [(0, 1), (1, 2), (5, 12), (3, 67)]:
        np.testing.assert_array_equal(pyramid.project(features[start:end].numpy()), projected[start:end])


def test_a_product_of_zeros_is_a_zero_vector():
    projection = matrices(2)
    projection[0] = 0
    pyramid = PyramidPooling((1, 2), projection=projection)
    features = pyramid.local_features(maps())
    for projected in (pyramid.project(features), pyramid.project(features.numpy())):
        lengths = np.linalg.norm(projected, axis=-1)
        np.testing.assert_allclose(lengths, np.broadcast_to([0, 1, 1, 1, 1], (2, 5)), rtol=1e-6)


def test_no_images_are_projected_to_no_rows():
    pyramid = PyramidPooling((1, 2), projection=matrices(2, channels=6))
    assert pyramid.project(torch.zeros(0, 5, 6)).shape == (0, 5, 3)
    assert pyramid.project(np.zeros((0, 5, 6), np.float32)).shape == (0, 5, 3)


def test_a_projection_is_copied_and_may_be_read_only():
    given_matrices = matrices(1).astype(np.float32)
    given_matrices.setflags(write=False)
    pyramid = PyramidPooling((1,), projection=given_matrices)
    pyramid.projection.zero_()
    assert given_matrices.all()
    assert pyramid.state_dict() == {}


POOLINGS = {
    "max": ({"pooling": "max"}, np.max),
    "avg": ({"pooling": "avg"}, np.mean),
    "gem": ({"pooling": "gem", "gem_power": 3.0},
            lambda cell, axis: np.mean(cell**3, axis=axis) ** (1 / 3)),
    "gem in logarithms": ({"pooling": "gem", "gem_power": 7.5},
                          lambda cell, axis: np.mean(cell**7.5, axis=axis) ** (1 / 7.5)),
}  # fmt: skip


@pytest.mark.parametrize("projected", [False, True], ids=["plain", "projected"])
@pytest.mark.parametrize("aggregation", ["sum", "concat"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_are_those_of_the_equations_in_float64(pooling, aggregation, projected):
    params, reduce = POOLINGS[pooling]
    grids, weights = [(1, 1), (2, 3)], np.linspace(0.5, 2, 7)
    projection = matrices(2, channels=3, n_components=4) if projected else None
    pyramid = PyramidPooling(
        grids, part_order="snake", projection=projection, part_weights=weights, aggregation=aggregation, **params
    )
    x = maps(n=2, channels=3, rows=4, columns=5).abs() + 0.1
    x.requires_grad_()
    features = pyramid(x)
    direction = np.random.default_rng(1).normal(size=features.shape)
    (features * torch.tensor(direction, dtype=torch.float32)).sum().backward()

    def value(array):
        parts = parts_by_hand(torch.from_numpy(array), grids, reduce)[:, pyramid.order]
        if projected:
            parts = projected_by_hand(parts, pyramid.sequence, projection)
        if aggregation == "sum":
            return (np.einsum("npc,p->nc", parts, weights) * direction).sum()
        scaled = weights / np.sqrt([1] + [6] * 6)
        return ((parts * scaled[:, None]).reshape(len(parts), -1) * direction).sum()

    start, expected = x.detach().double().numpy(), np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[place] = 1e-6
        expected[place] = (value(start + step) - value(start - step)) / 2e-6
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(x.grad, expected, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_a_projection_can_be_learned(aggregation):
    pyramid = PyramidPooling((1, 2), projection=matrices(2, channels=4), aggregation=aggregation).double()
    pyramid.projection = torch.nn.Parameter(pyramid.projection)
    assert list(pyramid.state_dict()) == ["projection"]
    features = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)

    def joined(features, projection):
        return torch.func.functional_call(_Joined(pyramid), {"pyramid.projection": projection}, (features,))

    assert torch.autograd.gradcheck(joined, (features, pyramid.projection))
    arrays = pyramid.project(features.detach().numpy())  # still possible while it is being learned
    np.testing.assert_allclose(arrays, pyramid.project(features).detach(), atol=1e-7)


class _Joined(torch.nn.Module):
    def __init__(self, pyramid):
        super().__init__()
        self.pyramid = pyramid

    def forward(self, features):
        return self.pyramid.join(self.pyramid.project(features))


@pytest.mark.parametrize("params", [params for params, _ in POOLINGS.values()], ids=list(POOLINGS))
def test_black_images_get_no_gradient_and_half_precision_maps_a_finite_one(params):
    for dtype in (torch.float32, torch.float16):
        x = maps(channels=6, rows=6, columns=6, dtype=dtype).clamp_min(0)
        x[0] = 0  # and one channel of the other image is silent
        x[1, 2] = 0
        x.requires_grad_()
        PyramidPooling((1, 3), projection=matrices(2, channels=6), **params)(x).sum().backward()
        assert x.grad.abs().max() < 1e3
        assert x.grad[1].any()
        assert not x.grad[0].any()


@pytest.mark.parametrize("power", [0.5, 3.0, 30.0])
@pytest.mark.parametrize("pooling", ["max", "avg", "gem"])
def test_without_normalisation_parts_keep_their_lengths(pooling, power):
    x = maps(rows=6, columns=6).abs() * 40
    reduce = {
        "max": np.max,
        "avg": np.mean,
        "gem": lambda part, axis: np.mean(part**power, axis=axis) ** (1 / power),
    }[pooling]
    pyramid = PyramidPooling((2,), pooling=pooling, gem_power=power, normalize=False)
    cells = x.double().numpy().reshape(2, 5, 2, 3, 2, 3).transpose(0, 2, 4, 1, 3, 5).reshape(2, 4, 5, 9)
    np.testing.assert_allclose(pyramid.local_features(x), reduce(cells, axis=-1), rtol=1e-4)
    np.testing.assert_allclose(pyramid(x), reduce(cells, axis=-1).sum(axis=1), rtol=1e-4)


def test_without_normalisation_products_and_averages_of_views_keep_their_lengths():
    matrix = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    pyramid = PyramidPooling((2,), projection=matrix, normalize=False)
    first, second = pyramid.local_features(maps(seed=0)), pyramid.local_features(maps(seed=1))
    torch.testing.assert_close(pyramid.project(first), first @ torch.from_numpy(matrix[0]))
    np.testing.assert_allclose(pyramid.project(first.numpy()), first.numpy() @ matrix[0], rtol=1e-5)
    torch.testing.assert_close(pyramid.average([first, second]), (first + second) / 2)
    assert pyramid.average([first]) is first
    unit = PyramidPooling((2,)).average([first, second])
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(2, 4))


def image_batch(dtype=torch.uint8, size=(32, 24)):
    return torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0)).to(dtype)


def test_the_largest_size_is_seen_as_it_is():
    x = image_batch()
    ((view, mirrored),) = Views([(32, 24)]).of(x)
    assert view is x
    assert mirrored is False


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-3), (torch.uint8, 1.0)])
def test_a_smaller_size_is_antialiased_bilinear_interpolation(dtype, atol):
    x = image_batch(dtype)
    _, (view, _) = Views([(32, 24), (16, 12)]).of(x)
    expected = F.interpolate(x.double(), (16, 12), mode="bilinear", antialias=True)
    assert view.dtype == dtype
    torch.testing.assert_close(view.double(), expected, rtol=0, atol=atol)


def test_every_size_is_seen_plain_then_mirrored():
    views = list(Views([(32, 24), (16, 12)], flip=True).of(image_batch()))
    assert [mirrored for _, mirrored in views] == [False, True, False, True]
    for (plain, _), (mirror, _) in (views[:2], views[2:]):
        assert torch.equal(mirror, plain.flip(-1))


@pytest.mark.parametrize("flip", [False, True])
def test_length_and_shapes_are_those_of_the_views(flip):
    views = Views([(32, 24), (16, 12)], flip=flip)
    shapes = [tuple(view.shape[-2:]) for view, _ in views.of(image_batch())]
    assert views.shapes() == shapes
    assert len(views) == len(shapes)


def test_images_are_viewed_and_not_copied():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tensor = images_tensor(images)
    assert tensor.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(tensor.numpy(), images.transpose(0, 3, 1, 2))
    assert np.shares_memory(tensor.numpy(), images)


def test_read_only_and_strided_images_are_copied():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    images.flags.writeable = False
    for array in (images, images[:, ::-1], images[::2]):
        tensor = images_tensor(array)
        np.testing.assert_array_equal(tensor.numpy(), array.transpose(0, 3, 1, 2))
        assert not np.shares_memory(tensor.numpy(), images)
