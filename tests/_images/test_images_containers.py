"""Containers of images: what X may be, tables whose rows are images, and what is refused with which remedy."""

from __future__ import annotations

import pathlib
from collections import deque

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sklearn_psp._images import as_images, read_batches
from sklearn_psp._images._containers import squarest_shape
from sklearn_psp.exceptions import ImageInputError

SIZE = (8, 9)


def read(X, **options):
    options = {"batch_size": 5, "image_size": SIZE} | options
    return np.concatenate([batch.images for batch in read_batches(X, **options)])


@pytest.fixture(scope="module")
def expected(noise):
    return np.stack([noise(*SIZE, 3, seed=i) for i in range(12)])


@pytest.fixture(scope="module")
def paths(expected, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    names = [str(folder / f"{i}.png") for i in range(12)]
    for name, pixels in zip(names, expected, strict=True):
        Image.fromarray(pixels).save(name)
    return names


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "str array": np.array,
    "object array": lambda p: np.array(p, dtype=object),
    "column of an object array": lambda p: np.array(p, dtype=object)[:, None],
    "list of Path": lambda p: [pathlib.Path(name) for name in p],
    "str Series": pd.Series,
    "object Series": lambda p: pd.Series(p, dtype=object, index=range(100, 112)),
    "string Series": lambda p: pd.Series(p, dtype="string"),
    "categorical Series": lambda p: pd.Series(p, dtype="category"),
    "Index": pd.Index,
    "one-column DataFrame": lambda p: pd.DataFrame({"path": p}),
    "object one-column DataFrame": lambda p: pd.DataFrame({"path": pd.Series(p, dtype=object)}),
    "Series of bytes": lambda p: pd.Series([pathlib.Path(name).read_bytes() for name in p]),
    "list of bytes": lambda p: [pathlib.Path(name).read_bytes() for name in p],
    "list of PIL images": lambda p: [Image.open(name).copy() for name in p],
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_of_images_give_the_same_pixels(paths, expected, container):
    np.testing.assert_array_equal(read(CONTAINERS[container](paths)), expected)


def test_kinds_may_be_mixed(paths, expected):
    mixed = [paths[0], pathlib.Path(paths[1]), expected[2], torch.from_numpy(expected[3]).permute(2, 0, 1)]
    np.testing.assert_array_equal(read([*mixed, Image.fromarray(expected[4])]), expected[:5])
    column = np.empty(4, dtype=object)
    column[:] = mixed
    np.testing.assert_array_equal(read(pd.Series(column)), expected[:4])


def test_arrays_memmaps_and_tensors_give_the_same_pixels(tmp_path, expected):
    np.save(tmp_path / "images.npy", expected)
    memmap = np.load(tmp_path / "images.npy", mmap_mode="r")
    tensor = torch.from_numpy(expected).permute(0, 3, 1, 2)
    floats = expected / np.float32(255)
    for name, X in {
        "array": expected,
        "memmap": memmap,
        "fortran": np.asfortranarray(expected),
        "float array": floats,
        "uint16 array": expected.astype(np.uint16) * 257,
        "tensor": tensor,
        "contiguous tensor": tensor.contiguous(),
        "float tensor": torch.from_numpy(floats).permute(0, 3, 1, 2).requires_grad_(),
        "list of arrays": list(expected),
    }.items():
        images = read(X)
        assert images.flags.c_contiguous, name
        np.testing.assert_array_equal(images, expected, err_msg=name)


def test_grey_stacks(expected):
    grey = expected[..., 0]
    repeated = np.repeat(grey[..., None], 3, axis=3)
    for X in (grey, grey[..., None], torch.from_numpy(grey.copy()), torch.from_numpy(grey.copy())[:, None]):
        np.testing.assert_array_equal(read(X), repeated)


def test_bfloat16_tensors_are_read():
    ones = torch.ones(2, 3, *SIZE, dtype=torch.bfloat16)
    assert (read(ones) == 255).all()


def test_finished_arrays_are_handed_out_without_a_copy_and_memmaps_with_one(tmp_path, expected):
    batches = list(read_batches(expected, batch_size=5, image_size=SIZE))
    assert [batch.start for batch in batches] == [0, 5, 10]
    assert all(np.shares_memory(batch.images, expected) for batch in batches)
    np.save(tmp_path / "images.npy", expected)
    memmap = np.load(tmp_path / "images.npy", mmap_mode="r")
    for batch in read_batches(memmap, batch_size=5, image_size=SIZE):
        assert type(batch.images) is np.ndarray
        assert not np.shares_memory(batch.images, memmap)


def test_describe_names_the_source(paths, expected):
    images = as_images([paths[0], pathlib.Path(paths[1]), b"12345" * 1024, expected[0], Image.fromarray(expected[0])])
    assert images.n_images == 5
    assert [images.describe(i) for i in range(5)] == [
        paths[0],
        paths[1],
        "<bytes, 5,120 long>",
        "<array (8, 9, 3) uint8>",
        "<PIL.Image RGB 9x8>",
    ]
    assert as_images([torch.zeros(3, 2, 2)]).describe(0) == "<tensor (3, 2, 2) float32>"
    assert as_images(expected).describe(3) == "<array (8, 9, 3) uint8>"
    assert as_images([None]).describe(0) == "<missing value>"
    assert as_images(images) is images


REFUSED = {
    "str": ("a.jpg", r"single image \('a.jpg'\): pass \[X\]"),
    "Path": (pathlib.Path("a.jpg"), r"single image \('a.jpg'\): pass \[X\]"),
    "bytes": (b"123", r"single image \(<bytes, 3 long>\): pass \[X\]"),
    "PIL": (Image.new("L", (3, 2)), r"single image \(<PIL.Image L 3x2>\): pass \[X\]"),
    "(h, w, 3)": (np.zeros((8, 9, 3)), r"single image \(h, w, 3\): pass \[X\], or X\[..., None\]"),
    "(3, h, w) tensor": (torch.zeros(3, 8, 9), r"single image \(3, h, w\): pass X\[None\], or X\[:, None\]"),
    "NCHW array": (np.zeros((2, 3, 8, 9)), r"got \(2, 3, 8, 9\): pass X.transpose\(0, 2, 3, 1\)"),
    "NHWC tensor": (torch.zeros(2, 8, 9, 3), r"got \(2, 8, 9, 3\): pass X.permute\(0, 3, 1, 2\)"),
    "5-D": (np.zeros((1, 2, 3, 4, 5)), "got the 5-D shape"),
    "5-D tensor": (torch.zeros(1, 2, 3, 4, 5), "got the 5-D shape"),
    "1-D numbers": (np.zeros(5), "got the 1-D shape"),
    "0-D": (np.array(5.0), "got the 0-D shape"),
    "scalar": (np.float64(5), "got float64"),
    "2-D": (np.zeros((5, 64)), r"pass image_shape=\(h, w\) or X.reshape\(-1, h, w\); .*one grey image, pass \[X\]"),
    "2-D tensor": (torch.zeros(5, 64), r"pass image_shape=\(h, w\)"),
    "complex": (np.zeros((2, 8, 9), complex), "dtype complex128: images are uint8"),
    "S array": (np.array([b"ab", b"c"]), r"strips the trailing NUL bytes.*pass a list of bytes"),
    "wide object array": (np.array([["a", "b"]], dtype=object), "pass one column of images"),
    "no pixels": (np.zeros((2, 0, 5, 3)), "without pixels"),
    "frame": (pd.DataFrame({"n": [1], "path": ["a"]}), r"2 columns \('n', 'path'\).*pass the column.*df\['path'\]"),
    "numeric frame": (pd.DataFrame(np.zeros((2, 12))), r"12 columns .*, \.\.\.\).*pass image_shape=\(h, w\)"),
    "columnless frame": (pd.DataFrame(index=[0, 1]), "pass the column that holds the images"),
    "numeric Series": (pd.Series([1.0, 2.0]), "column of dtype float64, not of images"),
    "numeric column": (pd.DataFrame({"a": [1, 2]}), "column of dtype int64, not of images"),
    "dict": ({"a": "b"}, r"X is a dict: pass its images, for example list\(X.values\(\)\)"),
    "set": ({"a.jpg"}, "X is a set, which has no order: pass a list"),
    "sparse": (scipy.sparse.eye(3).tocsr(), r"pass X.toarray\(\)"),
    "None": (None, "got NoneType"),
    "torch Dataset": (torch.utils.data.TensorDataset(torch.zeros(2, 3, 4, 4)), "pass a DataLoader over it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_holds_no_images_is_refused_with_the_remedy(case):
    X, message = REFUSED[case]
    with pytest.raises(ImageInputError, match=message):
        as_images(X)


@pytest.mark.parametrize(
    "X",
    [
        [],
        (),
        np.array([], dtype=object),
        np.zeros((0, 8, 9, 3), np.uint8),
        np.zeros((0, 8, 9)),
        pd.Series([], dtype=object),
        pd.Series([], dtype=float),
        pd.DataFrame({"path": []}),
        torch.zeros(0, 3, 8, 9),
    ],
    ids=lambda X: f"{type(X).__name__}",
)
def test_empty_is_said_in_scikit_learns_words(X):
    with pytest.raises(ImageInputError, match=r"X is empty: Found array with 0 sample\(s\)"):
        as_images(X)


def test_missing_values_are_named():
    X = pd.Series([np.zeros((2, 2)), None])
    with pytest.raises(
        ValueError, match=r"X\[1\] \(<missing value>\) could not be decoded: it is a missing value \(None\)"
    ):
        read(X)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([np.uint8, np.uint16, np.bool_, np.float16, np.float32, np.float64]),
    st.integers(1, 4),
    st.integers(5, 7),
    st.integers(5, 7),
    st.sampled_from([None, 1, 3, 4]),
    st.booleans(),
)
def test_array_tensor_and_list_agree_for_all_dtypes_and_shapes(dtype, n, h, w, channels, flip):
    rng = np.random.default_rng(n * 100 + h * 10 + w)
    shape = (n, h, w) if channels is None else (n, h, w, channels)
    values = rng.random(shape)
    X = values.astype(dtype) if dtype().dtype.kind == "f" else (values * 255).astype(dtype)
    X = X[:, ::-1] if flip else X
    from_list = read(list(X), image_size=(6, 6), batch_size=3)
    np.testing.assert_array_equal(read(X, image_size=(6, 6)), from_list)
    tensor = torch.from_numpy(np.ascontiguousarray(X))
    if channels is None and n in (1, 3, 4):
        tensor = tensor[:, None]
    elif channels is not None:
        tensor = tensor.permute(0, 3, 1, 2)
    np.testing.assert_array_equal(read(tensor, image_size=(6, 6)), from_list)


def read_rows(X, image_shape, image_size=(6, 8), batch_size=4):
    batches = read_batches(X, batch_size=batch_size, image_size=image_size, image_shape=image_shape)
    return np.concatenate([batch.images for batch in batches])


def test_squarest_shape_has_the_smallest_difference_of_sides():
    for n in range(1, 400):
        candidates = [(h, n // h) for h in range(1, n + 1) if n % h == 0 and h <= n // h]
        assert squarest_shape(n) == min(candidates, key=lambda shape: shape[1] - shape[0])


def test_uint8_rows_are_ordinary_images(noise):
    X = noise(5, 48)
    images = read_rows(X, (6, 8))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, np.repeat(X.reshape(5, 6, 8, 1), 3, axis=3))
    np.testing.assert_array_equal(read_rows(X, "auto"), images)
    np.testing.assert_array_equal(read_rows(torch.from_numpy(X), "auto"), images)
    np.testing.assert_array_equal(read_rows(pd.DataFrame(X), "auto"), images)
    np.testing.assert_array_equal(read_rows(X > 99, "auto"), (images > 99) * np.uint8(255))


def test_colour_rows(noise):
    X = noise(5, 48)
    np.testing.assert_array_equal(read_rows(X, (4, 4, 3), (4, 4)), X.reshape(5, 4, 4, 3))
    np.testing.assert_allclose(read_rows(X / 255, (4, 4, 3), (4, 4)), X.reshape(5, 4, 4, 3), atol=1e-4)


def test_colour_rows_with_alpha_are_composed_on_white(noise):
    X = noise(5, 64)
    np.testing.assert_allclose(read_rows(X / 255, (4, 4, 4), (4, 4)), read_rows(X, (4, 4, 4), (4, 4)), atol=0.51)


def test_float_rows_are_scaled_neither_rounded_nor_checked():
    X = np.random.default_rng(0).normal(size=(5, 48))
    images = read_rows(X, (6, 8))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[..., 0], X.reshape(5, 6, 8) * 255, rtol=1e-6)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_integer_rows_are_levels(noise):
    X = noise(5, 48).astype(np.int64)
    images = read_rows(X, (6, 8))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[..., 0], X.reshape(5, 6, 8))


@pytest.mark.parametrize("convert", [np.asarray, lambda X: X.tolist(), lambda X: list(X), lambda X: X.astype(object)])
def test_rows_do_not_depend_on_their_batch(convert):
    X = np.random.default_rng(0).random((9, 48))
    images = read_rows(convert(X), "auto", (5, 5), batch_size=9)
    np.testing.assert_array_equal(read_rows(X, "auto", (5, 5), batch_size=2), images)
    np.testing.assert_array_equal(read_rows(X[::-1], "auto", (5, 5))[::-1], images)


def test_image_shape_does_not_touch_images(folder):
    paths, pixels = folder
    batch = next(read_batches(paths, batch_size=1, image_size=(8, 9), image_shape="auto"))
    np.testing.assert_array_equal(batch.images[0], pixels[0])


@pytest.mark.parametrize(
    ("image_shape", "message"),
    [
        ((5, 5), r"image_shape=\(5, 5\) has 25 values, but the rows of X have 48; .* image_shape=\(6, 8\)"),
        ((4, 6, 2), r'must be "auto", \(h, w\) or \(h, w, 1 \| 3 \| 4\), got \(4, 6, 2\)'),
        ((48,), "must be"),
        ((-6, -8), "must be"),
        ("square", "got 'square'"),
        (7, "got 7"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(image_shape, message):
    with pytest.raises(ImageInputError, match=message):
        as_images(np.zeros((2, 48)), image_shape=image_shape)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 0)), r"0 feature\(s\)"),
        (np.array([["a", "b"]], dtype=object), "rows must be numbers"),
        (np.zeros((2, 4), complex), "must be real numbers"),
        (np.zeros((0, 4)), r"0 sample\(s\)"),
    ],
)
def test_tables_of_anything_else_are_refused(X, message):
    with pytest.raises(ImageInputError, match=message):
        as_images(X, image_shape="auto")
