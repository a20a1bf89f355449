"""Iterables of (images, labels) batches."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from sklearn_psp._images import as_images, is_labelled_stream, labelled_batches, read_batches
from sklearn_psp.exceptions import ImageInputError

SIZE = (8, 9)
LABELS = [3, 1, 2, 3, 1]


@pytest.fixture(scope="module")
def images(noise):
    return noise(5, *SIZE, 3)


def read(X):
    """Pixels and labels of all batches."""
    decoded, labels = [], []
    for batch, of_batch in labelled_batches(X):
        assert batch.n_images == len(of_batch)
        decoded += [part.images for part in read_batches(batch, batch_size=2, image_size=SIZE)]
        labels.append(of_batch)
    return np.concatenate(decoded), np.concatenate(labels)


def pairs(images, make=lambda y: y):
    return [(images[:3], make(LABELS[:3])), (images[3:], make(LABELS[3:]))]


def loader(images):
    nchw = torch.from_numpy(images).permute(0, 3, 1, 2)
    return DataLoader(TensorDataset(nchw, torch.tensor(LABELS)), batch_size=2)


STREAMS = {
    "DataLoader": loader,
    "list of pairs": pairs,
    "tuple of lists": lambda p: tuple([list(x), y] for x, y in pairs(p)),
    "deque": lambda p: deque(pairs(p)),
    "arrays": lambda p: pairs(p, np.array),
    "columns": lambda p: pairs(p, lambda y: np.array(y)[:, None]),
    "Series": lambda p: pairs(p, lambda y: pd.Series(y, index=range(7, 7 + len(y)))),
    "categorical": lambda p: pairs(p, lambda y: pd.Series(y, dtype="category")),
    "tensors": lambda p: pairs(p, torch.tensor),
    "lists of scalars": lambda p: pairs(p, lambda y: [torch.tensor(label) for label in y]),
    "with an empty batch": lambda p: [(p[:0], []), *pairs(p)],
}


@pytest.mark.parametrize("stream", STREAMS)
def test_images_and_labels_keep_together_epoch_after_epoch(images, stream):
    X = STREAMS[stream](images)
    assert is_labelled_stream(X)
    for _ in range(2):
        decoded, labels = read(X)
        np.testing.assert_array_equal(decoded, images)
        np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    "make",
    [list, tuple, np.array, pd.Series, lambda y: np.array(y, dtype=object), lambda y: [label.encode() for label in y],
     lambda y: np.array(y).astype("S")],
    ids=["list", "tuple", "array", "Series", "object array", "list of bytes", "bytes array"],
)  # fmt: skip
def test_text_stays_text(images, make):
    labels = [label for _, label in labelled_batches([(images[:2], make(["cat", "dog"]))])]
    assert labels[0].tolist() == ["cat", "dog"]
    assert labels[0].dtype.kind == "U"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (lambda p: p, "a batch of images without labels"),
        (lambda p: (p,), "has 1 members"),
        (lambda p: (p, LABELS, LABELS), r"has 3 members: yield \(images, labels\) alone; weights of samples"),
        (lambda p: list(p), "a batch of images without labels"),
        (lambda p: [p[0], p[1]], "a batch of images without labels"),
        (lambda p: (p[0], 1), "a single image with its label"),
        (lambda p: p[0], "a single image"),
        (lambda p: {"x": p, "y": LABELS}, "a dict"),
        (lambda p: (p, LABELS[:3]), "It has 5 images and 3 labels"),
        (lambda p: (p, None), "labels are of type NoneType"),
        (lambda p: (p, "abcde"), "labels are of type str"),
        (lambda p: (p, 1), r"labels have the shape \(\): yield one for each image"),
        (lambda p: (p, np.eye(5)), r"the shape \(5, 5\), one-hot: pass labels.argmax\(axis=1\)"),
        (lambda p: (p, torch.eye(5)), r"pass labels.argmax\(axis=1\)"),
        (lambda p: (p, np.eye(5).tolist()), r"pass labels.argmax\(axis=1\)"),
        (lambda p: (p, np.zeros((5, 1, 1))), r"the shape \(5, 1, 1\): yield one for each image"),
        (lambda p: (p, [[1], [1, 2], [1], [1], [1]]), "labels are no array"),
        (lambda p: (p, [b"\xff"] * 5), r"label b'\\xff' is no text in UTF-8"),
        (lambda p: (p.transpose(0, 3, 1, 2), LABELS), r"transpose\(0, 2, 3, 1\)"),
    ],
)
def test_what_is_no_pair_is_named_by_its_position(images, item, message):
    with pytest.raises(ImageInputError, match=rf"its item 1 is none\. .*{message}"):
        list(labelled_batches(iter([(images, LABELS), item(images)])))


def test_a_generator_read_before_says_so(images):
    X = (pair for pair in pairs(images))
    read(X)
    with pytest.raises(ImageInputError, match=r"0 sample\(s\).*a generator can be read only once: .* for every epoch"):
        read(X)


def test_no_images_at_all_is_an_error(images):
    for X in ([(images[:0], [])], DataLoader([])):
        with pytest.raises(ImageInputError, match=r"yielded no batch: Found array with 0 sample\(s\)"):
            list(labelled_batches(X))


NO_STREAMS = {
    "array": lambda p: p,
    "tensor": torch.from_numpy,
    "list of arrays": list,
    "list of paths": lambda p: ["a.jpg", "b.jpg"],
    "list of PIL images": lambda p: [Image.fromarray(x) for x in p],
    "rows of a table": lambda p: [[1.0, 2.0], [3.0, 4.0]],
    "Series": lambda p: pd.Series(["a.jpg"]),
    "Index": lambda p: pd.Index(["a.jpg"]),
    "DataFrame": lambda p: pd.DataFrame({"path": ["a.jpg"]}),
    "object array": lambda p: np.array(["a.jpg"], dtype=object),
    "sparse": lambda p: scipy.sparse.eye(3).tocsr(),
    "path": lambda p: Path("a.jpg"),
    "str": lambda p: "a.jpg",
    "bytes": lambda p: b"123",
    "Images": as_images,
    "dict": lambda p: {"a": p},
    "set": lambda p: {"a.jpg"},
    "empty": lambda p: [],
    "None": lambda p: None,
    "number": lambda p: 3,
    "torch Dataset": lambda p: TensorDataset(torch.from_numpy(p)),
}


@pytest.mark.parametrize("case", NO_STREAMS)
def test_collections_of_images_are_no_streams(images, case):
    X = NO_STREAMS[case](images)
    assert not is_labelled_stream(X)
    remedy = "pass a DataLoader over it" if case == "torch Dataset" else "pass images and their labels as X and y"
    with pytest.raises(ImageInputError, match=rf"iterable of \(images, labels\) batches.*; {remedy}"):
        list(labelled_batches(X))


def test_a_generator_is_not_touched(images):
    X = (pair for pair in pairs(images))
    assert is_labelled_stream(X)
    assert len(list(X)) == 2
