"""Batches: every image once an epoch, in the order of the seed, with its own class and weight."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sklearn_psp._images import as_images, read_image, resize_image
from sklearn_psp._training import ImageBatches, PartBatches, StreamBatches, make_augmentation, seeded

SIZE = (16, 24)
READING = {"image_size": SIZE, "resize": "stretch", "n_jobs": 2}
N = 11
CLASSES, WEIGHTS = np.arange(N) * 3, np.linspace(0.5, 1.5, N)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Images of several sizes."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i in range(N):
        image = random.integers(0, 256, (20 + i, 40 - i, 3), dtype=np.uint8)
        paths.append(folder / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def by_hand(paths):
    """The images, read one by one, (n, 3, height, width)."""
    images = np.stack([resize_image(read_image(path), SIZE, "stretch") for path in paths])
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def image_batches(paths, batch_size=4, **options):
    return ImageBatches(as_images(paths), CLASSES, WEIGHTS, batch_size, reading=READING, **options)


def part_batches(n=N, batch_size=4):
    parts = np.arange(n * 6, dtype=np.float32).reshape(n, 2, 3)
    return PartBatches(parts, np.arange(n) * 3, np.linspace(0.5, 1.5, n), batch_size)


@pytest.fixture(params=["parts", "images"])
def made(request, paths, by_hand):
    """Batches, and what they are to hold in the order of X."""
    if request.param == "images":
        return image_batches(paths), by_hand
    return part_batches(), torch.arange(N * 6.0).reshape(N, 2, 3)


def drawn(batches, seed=None):
    """Return what an epoch gives, one after the other, and the sizes of its batches."""
    epoch = list(batches.batches(seed))
    x, classes, weights = (torch.cat(some) for some in zip(*((x, *labels) for x, labels in epoch), strict=True))
    assert (classes.dtype, weights.dtype) == (torch.int64, torch.float32)
    return x, classes, weights, [len(x) for x, _ in epoch]


def test_without_a_seed_the_order_is_that_of_the_images(made):
    batches, expected = made
    x, classes, weights, sizes = drawn(batches)
    assert torch.equal(x, expected)
    np.testing.assert_array_equal(classes, CLASSES)
    np.testing.assert_allclose(weights, WEIGHTS, rtol=1e-6)
    assert sizes == [4, 4, 3]
    assert batches.n_images == len(batches) == N


def test_with_a_seed_every_image_comes_once_with_its_class_and_weight(made):
    batches, expected = made
    x, classes, weights, sizes = drawn(batches, seed=1)
    rows = classes // 3
    assert sorted(rows.tolist()) == list(range(N))
    assert rows.tolist() != list(range(N))
    assert torch.equal(x, expected[rows])
    np.testing.assert_allclose(weights, WEIGHTS[rows], rtol=1e-6)
    assert sizes == [4, 4, 3]


def test_the_seed_decides_the_order(made):
    orders = [drawn(made[0], seed=seed)[1].tolist() for seed in (5, 5, 6)]
    assert orders[0] == orders[1] != orders[2]


@given(n=st.integers(1, 200), batch_size=st.integers(1, 40))
def test_batches_are_of_equal_size(n, batch_size):
    sizes = [len(x) for x, _ in part_batches(n, batch_size).batches(0)]
    assert sum(sizes) == n
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-n // batch_size)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 6, 10, 11, 32])
def test_batches_of_images_are_of_equal_size(paths, by_hand, batch_size):
    x, _, _, sizes = drawn(image_batches(paths, batch_size))
    assert torch.equal(x, by_hand)
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-N // batch_size)


def test_parts_in_memory_that_cannot_be_written_to():
    arrays = [np.ones((3, 2, 4), dtype=np.float32), np.arange(3), np.ones(3, dtype=np.float32)]
    for array in arrays:
        array.setflags(write=False)
    x, classes, _, _ = drawn(PartBatches(*arrays, batch_size=2))
    assert x.shape == (3, 2, 4)
    assert classes.tolist() == [0, 1, 2]


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("sklearn_psp-read")]


def test_threads_end_with_the_iterator(paths):
    before = set(readers())
    epoch = image_batches(paths, 2).batches(0)
    next(epoch)
    assert set(readers()) - before
    epoch.close()
    assert not set(readers()) - before


class Stream:
    """Batches as somebody else makes them, which count how often they were opened."""

    def __init__(self, paths, sizes=(4, 4, 3)):
        starts = np.cumsum([0, *sizes])
        self.batches = [slice(*ends) for ends in pairwise(starts)]
        self.paths = paths
        self.n_opened = 0

    def open(self):
        """Yield images and labels."""
        self.n_opened += 1
        for rows in self.batches:
            yield as_images(self.paths[rows]), np.array([f"class {i}" for i in range(N)])[rows]


def encode(labels):
    rows = np.array([int(label.split()[1]) for label in labels])
    return CLASSES[rows], WEIGHTS[rows].astype(np.float32)


def test_a_stream_is_opened_anew_in_each_epoch(paths, by_hand):
    stream = Stream(paths, (5, 1, 5))
    batches = StreamBatches(stream.open, encode, reading=READING, n_images=N)
    for seed in (None, 0, 1):  # the order is the stream's own
        x, classes, weights, sizes = drawn(batches, seed)
        assert torch.equal(x, by_hand)
        np.testing.assert_array_equal(classes, CLASSES)
        np.testing.assert_allclose(weights, WEIGHTS, rtol=1e-6)
        assert sizes == [5, 1, 5]
    assert stream.n_opened == 3
    assert batches.n_images == N


def darker(image):
    return image // 2


@pytest.mark.parametrize("form", ["images", "stream"])
def test_images_are_changed_in_training_only(paths, by_hand, form):
    augment = make_augmentation(darker, SIZE)
    batches = (
        image_batches(paths, augment=augment)
        if form == "images"
        else StreamBatches(Stream(paths).open, encode, reading=READING, augment=augment)
    )
    assert torch.equal(drawn(batches)[0], by_hand)
    x, classes, *_ = drawn(batches, seed=2)
    assert torch.equal(x, by_hand[classes // 3] // 2)


def test_random_changes_come_from_the_seed_of_torch(paths, by_hand):
    batches = image_batches(paths, augment=make_augmentation(True, SIZE))
    epochs = []
    for seed in (1, 1, 2):
        with seeded(seed):
            epochs.append(drawn(batches, seed=0)[0])
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    assert epochs[0].shape == by_hand.shape
    assert epochs[0].dtype == torch.uint8


def test_the_default_change_shows_half_of_the_image_or_more_and_mirrors_every_second_time():
    augment = make_augmentation(True, (32, 32))
    columns = torch.arange(32, dtype=torch.uint8).expand(3, 32, 32).contiguous()
    with seeded(0):
        rises, shares = [], []
        for _ in range(400):
            across = augment(columns)[0, 0].float()
            down = augment(columns.transpose(1, 2).contiguous())[0, :, 0].float()
            rises.append(bool(across[-1] > across[0]))
            shares.append((across.max() - across.min(), down.max() - down.min()))
    assert 0.4 < np.mean(rises) < 0.6
    # A side of share s of the image is at least s * 3/4 ** 0.5 * 0.5 ** 0.5 of it.
    assert min(map(min, shares)) >= 31 * (0.5 * 0.75) ** 0.5 - 2
    assert make_augmentation(False, SIZE) is None


@pytest.mark.parametrize(
    ("augment", "got"),
    [
        (lambda image: image.float() / 255, r"a tensor of torch.float32 and shape \(3, 16, 24\)"),
        (lambda image: image[:, :8], r"a tensor of torch.uint8 and shape \(3, 8, 24\)"),
        (lambda image: image.numpy(), "ndarray"),
        (lambda image: None, "NoneType"),
    ],
    ids=["dtype", "shape", "array", "nothing"],
)
def test_a_change_that_gives_something_else_is_refused(paths, augment, got):
    batches = image_batches(paths, augment=make_augmentation(augment, SIZE))
    with pytest.raises(ValueError, match=f"augment must return images as it gets them.*torch.uint8.*but gave {got}"):
        next(batches.batches(0))


def test_a_change_in_place_does_not_reach_the_arrays_of_the_user():
    X = np.full((4, *SIZE, 3), 100, dtype=np.uint8)
    stream = [(as_images(X), np.arange(4))]
    augment = make_augmentation(lambda image: image.zero_(), SIZE)
    batches = StreamBatches(
        lambda: iter(stream), lambda y: (y, np.ones(4, np.float32)), reading=READING, augment=augment
    )
    assert not drawn(batches, seed=0)[0].any()
    assert (X == 100).all()


def test_images_of_a_table_of_floats_can_be_changed():
    table = np.random.default_rng(0).random((6, 16 * 24 * 3))
    images = as_images(table, image_shape=(16, 24, 3))
    augment = make_augmentation(lambda image: image.flip(-1), SIZE)
    batches = ImageBatches(images, np.arange(6) * 3, np.ones(6), 4, reading=READING, augment=augment)
    x, classes, *_ = drawn(batches, seed=0)
    expected = torch.from_numpy(255 * table.reshape(6, 16, 24, 3)).permute(0, 3, 1, 2).flip(-1)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, expected[classes // 3].float(), rtol=1e-5, atol=1e-3)
