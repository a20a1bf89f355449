"""Small runs: local features of three classes that can be told apart, and models for them."""

from __future__ import annotations

import numpy as np
import torch

from sklearn_psp._nets import PyramidPooling
from sklearn_psp._training import PartBatches, PartModel, Training, TrainingSettings, make_metrics

CPU = torch.device("cpu")
N_CLASSES, N_CHANNELS, BINS = 3, 8, (1, 2)
CLASSES = np.array(["a", "b", "c"])


def features(n=30, seed=0):
    """Return local features (n, 5, 8) of unit length, and their classes."""
    random = np.random.default_rng(seed)
    classes = np.arange(n) % N_CLASSES
    middles = np.random.default_rng(99).normal(size=(N_CLASSES, 5, N_CHANNELS))
    parts = middles[classes] + random.normal(size=(n, 5, N_CHANNELS))
    return (parts / np.linalg.norm(parts, axis=-1, keepdims=True)).astype(np.float32), classes


def part_batches(n=30, seed=0, weights=None, batch_size=8):
    """Return the batches of these features."""
    parts, classes = features(n, seed)
    return PartBatches(parts, classes, np.ones(n) if weights is None else weights, batch_size)


def part_model(seed=0, **options):
    """Return a model of these features, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pooling = PyramidPooling(BINS)
        return PartModel(pooling, 0.1 * torch.randn(N_CHANNELS), N_CLASSES, **options)


def make_training(model=None, **settings):
    """Return a training of a model of these features."""
    options = {
        "loss": "categorical_crossentropy",
        "learning_rate": 0.01,
        "epochs": 4,
        "device": CPU,
        "seed": 0,
        "metrics": make_metrics(["accuracy"], CLASSES),
    }
    return Training(part_model() if model is None else model, TrainingSettings(**(options | settings)))


def weights_of(training):
    """Return copies of the weights of a training's model."""
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


def assert_same_weights(one, other):
    """Every weight is the same, bit for bit."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
