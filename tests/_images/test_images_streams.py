"""Iterables of batches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from common.ids import without_addresses
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sklearn_psp._images import as_images, read_batches
from sklearn_psp.exceptions import ImageInputError, ImageReadError

SIZE = (8, 9)


def read(X, batch_size=4):
    return list(read_batches(X, batch_size=batch_size, image_size=SIZE))


@pytest.fixture(scope="module")
def expected(noise):
    return np.stack([noise(*SIZE, 3, seed=i) for i in range(10)])


@pytest.fixture(scope="module")
def batches(expected):
    return [expected[:3], expected[3:6], expected[6:]]


def nchw(batch):
    return torch.from_numpy(batch).permute(0, 3, 1, 2)


class Labelled(Dataset):
    """(image, label) pairs, as torchvision's data sets give."""

    def __init__(self, images):
        self._images = images

    def __len__(self):
        return len(self._images)

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        return torch.from_numpy(self._images[i]).permute(2, 0, 1), i


class ArrayLike:
    """An array of another library."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        return self._array


STREAMS = {
    "arrays": iter,
    "tensors": lambda b: (nchw(x) for x in b),
    "lists of images": lambda b: (list(x) for x in b),
    "tuples of images": lambda b: (tuple(x) for x in b),
    "lists of PIL images": lambda b: ([Image.fromarray(y) for y in x] for x in b),
    "object Series": lambda b: (pd.Series(list(x)) for x in b),
    "(array, labels)": lambda b: ((x, np.zeros(len(x))) for x in b),
    "[tensor, labels]": lambda b: ([nchw(x), torch.zeros(len(x))] for x in b),
    "(list, labels, more)": lambda b: ((list(x), [0] * len(x), None) for x in b),
    "arrays of another library": lambda b: (ArrayLike(x) for x in b),
    "pairs of another library": lambda b: ((ArrayLike(x), ArrayLike(np.zeros(len(x)))) for x in b),
    "with an empty batch": lambda b: iter([b[0], b[0][:0], *b[1:]]),
    "DataLoader": lambda b: DataLoader(TensorDataset(nchw(np.concatenate(b))), batch_size=3),
    "DataLoader with labels": lambda b: DataLoader(Labelled(np.concatenate(b)), batch_size=3),
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("batch_size", [4, 1, 64])
def test_streams_give_the_same_pixels_in_batches_of_the_size_asked_for(batches, expected, stream, batch_size):
    read_back = read(STREAMS[stream](batches), batch_size)
    assert [batch.start for batch in read_back] == list(range(0, 10, batch_size))
    assert {len(batch.images) for batch in read_back[:-1]} <= {batch_size}
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in read_back]), expected)


def test_grey_batches_with_labels_are_not_two_images(noise):
    grey = noise(5, *SIZE)
    for pair in ((grey, np.arange(5)), [torch.from_numpy(grey), torch.arange(5)]):
        (batch,) = read(iter([pair]), 8)
        np.testing.assert_array_equal(batch.images[..., 0], grey)


def test_a_list_of_two_images_is_two_images(expected):
    for two in (list(expected[:2]), tuple(expected[:2]), [nchw(expected)[0], nchw(expected)[1]]):
        (batch,) = read(iter([two]))
        np.testing.assert_array_equal(batch.images, expected[:2])


def test_length_of_a_stream_is_unknown_and_its_items_come_in_order_only(batches):
    images = as_images(iter(batches))
    assert images.n_images is None
    with pytest.raises(TypeError, match="only be read in order"):
        images.get(0)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("a.jpg", r"item 1 is no batch. It is a single image \('a.jpg'\): pass list\(...\) of a generator of single"),
        (b"123", "single image.*yield batches"),
        (np.zeros((8, 9, 3)), "single image.*yield batches"),
        (np.zeros((8, 9)), "single image.*yield batches"),
        (torch.zeros(3, 8, 9), "single image.*yield batches"),
        (Image.new("RGB", (2, 2)), "single image.*yield batches"),
        ((np.zeros((8, 9, 3)), 4), "single image with its label.*DataLoader"),
        ({"image": np.zeros((2, 8, 9, 3))}, r"It is a dict with the keys \['image'\]: yield the batch"),
        (17, "It is of type int: yield lists, arrays or tensors"),
        (np.zeros((2, 3, 8, 9)), r"item 1 is no batch.*transpose\(0, 2, 3, 1\)"),
    ],
    ids=without_addresses,
)
def test_items_that_are_no_batches_are_refused_with_the_remedy(expected, item, message):
    with pytest.raises(ImageInputError, match=message):
        read(iter([expected[:2], item]))


def test_an_exhausted_generator_is_said_to_be_empty():
    with pytest.raises(ImageInputError, match=r"Found array with 0 sample\(s\).*can be read only once"):
        read(iter([]))


def test_bad_image_in_a_stream_is_named_by_its_position_in_x(expected):
    with pytest.raises(ImageReadError, match=r"X\[4\] \('none.jpg'\) could not be decoded: there is no such file"):
        read(iter([list(expected[:3]), [expected[3], "none.jpg"]]))


def test_error_of_the_users_generator_passes_through(expected):
    def broken():
        yield expected[:3]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        read(broken())
