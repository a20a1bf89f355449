"""Feature maps become half-precision rows and come back."""

import pytest
import torch
from common.networks import TinyNet

from sklearn_psp._nets import BackboneRequest, PyramidPooling, Views, load_backbone
from sklearn_psp._nets._runner import MapRows
from sklearn_psp.exceptions import BackboneError

VIEWS = Views([(32, 24), (16, 8)], flip=True)
GRIDS = [(4, 3), (4, 3), (2, 1), (2, 1)]


@pytest.fixture(scope="module")
def map_rows():
    return MapRows(load_backbone(BackboneRequest(TinyNet(), "default", None, (32, 24))), VIEWS)


def maps(n=3, factor=1.0):
    generator = torch.Generator().manual_seed(0)
    return [factor * torch.randn(n, 12, *grid, generator=generator) for grid in GRIDS]


def test_a_row_holds_the_maps_of_every_view(map_rows):
    assert map_rows.length == 12 * (4 * 3 + 4 * 3 + 2 * 1 + 2 * 1)
    rows = map_rows.pack(maps())
    assert rows.shape == (3, map_rows.length)
    assert rows.dtype == torch.float16


def test_a_row_is_view_after_view_each_with_its_channels_last(map_rows):
    given = maps()
    row = map_rows.pack(given)[1]
    start = 0
    for view, (n_rows, n_columns) in zip(given, GRIDS, strict=True):
        for r in range(n_rows):
            for c in range(n_columns):
                assert torch.equal(row[start : start + 12], view[1, :, r, c].half())
                start += 12
    assert start == len(row)


def test_unpacked_rows_are_the_maps_rounded_to_half_precision(map_rows):
    given = maps()
    for found, view in zip(map_rows.unpack(map_rows.pack(given)), given, strict=True):
        assert torch.equal(found, view.half())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_depend_neither_on_the_memory_format_nor_on_the_dtype_of_the_maps(map_rows, memory_format, dtype):
    given = [view.to(dtype) for view in maps()]
    expected = torch.cat([view.float().permute(0, 2, 3, 1).flatten(1).half() for view in given], dim=1)
    assert torch.equal(map_rows.pack([view.contiguous(memory_format=memory_format) for view in given]), expected)


@pytest.mark.parametrize("pooling", ["max", "avg", "gem"])
def test_pooling_unpacked_rows_is_pooling_the_rounded_maps(map_rows, pooling):
    given = [view.abs() for view in maps()]
    pyramid = PyramidPooling((1, 2), pooling=pooling)
    for found, view in zip(map_rows.unpack(map_rows.pack(given)), given, strict=True):
        rounded = view.half().float()
        torch.testing.assert_close(pyramid(found), pyramid(rounded), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [65520.0, float("inf"), float("nan")])
def test_a_value_beyond_half_precision_is_an_error_that_names_the_remedy(map_rows, value):
    given = maps()
    given[2][1, 5, 1, 0] = value
    with pytest.raises(BackboneError, match=r"backbone='TinyNet' .* beyond the range of half precision .* cache=None"):
        map_rows.pack(given)


def test_the_largest_value_of_half_precision_is_kept(map_rows):
    given = maps()
    given[2][1, 5, 1, 0] = 65504.0
    assert map_rows.unpack(map_rows.pack(given))[2][1, 5, 1, 0] == 65504.0
