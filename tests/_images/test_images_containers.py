"""X as a whole: every container, and every refusal with its remedy."""

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
