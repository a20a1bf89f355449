"""Images that a small network can learn to tell apart, and a classifier that learns them at once."""

from __future__ import annotations

import numpy as np

from common.networks import FAST, TinyNet
from sklearn_psp import PSPNetClassifier

NAMES = np.array(["red", "green", "blue"])
_FAST = {name: value for name, value in FAST.items() if name != "batch_size"} | {"random_state": 0}
# By `train`: few steps, at a rate at which the colours are learned in them.
QUICK = {
    "head": {"train": "head", "epochs": 4, "learning_rate": 1e-2},
    "last_stage": {"train": "last_stage", "epochs": 3, "learning_rate": 1e-2, "augment": False},
    "all": {"train": "all", "epochs": 3, "learning_rate": 1e-2, "augment": False},
}


def colours(n, seed=0, n_classes=3):
    """Return images (n, 32, 32, 3) of noise with one channel brighter, and the names of the channels."""
    random = np.random.default_rng(seed)
    classes = np.arange(n) % n_classes
    random.shuffle(classes)
    images = random.integers(0, 60, (n, 32, 32, 3), dtype=np.uint8)
    images[np.arange(n), :, :, classes] += 120
    return images, NAMES[classes]


def quick(train="head", **params):
    """Make a classifier with a tiny network that trains in a moment."""
    params = {"backbone": TinyNet(), **_FAST, **QUICK[train], **params}
    return PSPNetClassifier(**params)


def batches(images, labels, size=8):
    """Cut images and labels into a list of (images, labels) batches."""
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]
