"""Iterables of (images, labels) batches in the place of X and y."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common.colours import NAMES, batches, quick
from torch.utils.data import DataLoader, TensorDataset

from sklearn_psp.exceptions import ImageInputError, ImageReadError


class EagerBatches:
    """A `tf.data.Dataset` for what is asked of one."""

    element_spec = None

    def __init__(self, items):
        self.items = items
        self.n_passes = 0

    def __iter__(self):
        self.n_passes += 1
        return iter(self.items)

    def batch(self, size):
        """Refuse."""
        raise AssertionError("nobody asked for it")

    def cardinality(self):
        """Return how many batches there are, as TensorFlow does for what it does not know."""
        return np.int64(-2)


STREAMS = {
    "list": batches,
    "tuple": lambda X, y: tuple(batches(X, y)),
    "data set": lambda X, y: EagerBatches(batches(X, y)),
    "contents of a column": lambda X, y: [(list(X[:20]), y[:20, None]), (list(X[20:]), y[20:, None])],
}


@pytest.mark.parametrize("form", STREAMS)
@pytest.mark.parametrize("train", ["head", "all"])
def test_batches_are_images_with_their_labels(training, held_out, train, form):
    X, y = training
    model = quick(train, epochs=8).fit(STREAMS[form](X, y), validation_data=STREAMS[form](*held_out))
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.score(*held_out) == 1.0
    assert len(model.history_) == 8


def test_the_head_of_a_stream_is_that_of_its_images(training):
    stream, together = quick().fit(batches(*training)), quick().fit(*training)
    assert stream.history_.equals(together.history_)
    np.testing.assert_array_equal(stream.coef_, together.coef_)


def test_how_often_a_stream_is_gone_through(training):
    for train, n_passes in {"head": 1, "all": 4}.items():  # of the network: once for the head, and every epoch
        stream = EagerBatches(batches(*training))
        quick(train).fit(stream)
        assert stream.n_passes == n_passes


@pytest.mark.parametrize("train", ["head", "all"])
def test_data_loaders_shuffle_as_they_do(training, held_out, train):
    codes = torch.from_numpy(np.searchsorted(np.sort(NAMES), training[1]))
    images = torch.from_numpy(training[0].transpose(0, 3, 1, 2).copy())
    loader = DataLoader(TensorDataset(images, codes), batch_size=7, shuffle=True)
    model = quick(train, epochs=8).fit(loader)
    np.testing.assert_array_equal(np.sort(NAMES)[model.predict(held_out[0])], held_out[1])


def test_a_generator_can_be_read_once(training, held_out):
    model = quick(epochs=8).fit(iter(batches(*training)), validation_data=iter(batches(*held_out)))
    assert model.history_.equals(quick(epochs=8).fit(*training, validation_data=held_out).history_)
    with pytest.raises(ImageInputError, match="a generator can be read only once: pass what can be iterated again"):
        quick("all").fit(iter(batches(*training)))
    with pytest.raises(ImageInputError, match="a generator can be read only once"):
        quick("all").fit(batches(*training), validation_data=iter(batches(*held_out)))


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (lambda X, y: [X[:9], X[9:]], None, "requires y to be passed, but the target y is None"),
        (lambda X, y: iter([X[:9], X[9:]]), None, "item 0 is none. It is a batch of images without labels"),
        (lambda X, y: iter([X[:9], X[9:]]), "y", r"iterable of batches: let it yield \(images, labels\), or pass a"),
        (lambda X, y: [(X[:9], y[:8])], None, "has 9 images and 8 labels"),
        (lambda X, y: [(X, np.eye(3)[np.unique(y, return_inverse=True)[1]])], None, r"labels.argmax\(axis=1\)"),
        (lambda X, y: [(X[y == "red"], y[y == "red"])], None, r"y has 1 class \('red'\)"),
        (lambda X, y: [(X, y, np.ones(len(y)))], None, "weights of samples are not used"),
    ],
)
@pytest.mark.parametrize("train", ["head", "all"])
def test_streams_of_another_form_are_refused(training, train, X, y, message):
    with pytest.raises(ValueError, match=message):
        quick(train).fit(X(*training), training[1] if y else None)


def test_no_share_of_a_stream_is_held_out(training):
    with pytest.raises(ValueError, match="validation_fraction does not go with an iterable of batches: pass valid"):
        quick(validation_fraction=0.2).fit(batches(*training))
    model = quick(validation_fraction=0.2).fit(batches(*training), validation_data=training)
    assert "val_loss" in model.history_


def test_labels_of_a_stream_that_change_are_refused(training):
    X, y = training

    class Changes(EagerBatches):
        def __iter__(self):
            items = list(super().__iter__())
            return iter(items if self.n_passes == 1 else [(X, np.where(y == "red", "pink", y))])

    with pytest.raises(ValueError, match="labels that are no classes of the training images: 'pink'"):
        quick("all").fit(Changes(batches(X, y)))


def test_partial_fit_takes_a_stream(training):
    model = quick("all")
    for batch in batches(*training):
        model.partial_fit([batch], classes=NAMES)
    assert len(model.history_) == 4


def test_a_image_that_cannot_be_read_is_named(training, bad_paths):
    with pytest.raises(ImageReadError, match=r"broken.png"):
        quick().fit(batches(bad_paths[:10], training[1][:10]))
