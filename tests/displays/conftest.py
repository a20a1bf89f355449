"""Tiny images, a cheap featurizer, and figures that are closed again."""

import matplotlib
import numpy as np
import pytest
from common.transformers import ColourGrid
from PIL import Image

from sklearn_psp import NearestImageRetriever

matplotlib.use("Agg")

LABELS = ["red", "red", "blue", "blue", "grey", "grey"]
IDS = ["r1", "r2", "b1", "b2", "g1", "g2"]


@pytest.fixture(autouse=True)
def closed_figures():
    """Close what a test has drawn."""
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="session")
def images():
    """Six images, two of a colour, of different sizes."""
    colours = [(250, 10, 10), (220, 30, 30), (10, 10, 250), (30, 30, 220), (120, 120, 120), (140, 140, 140)]
    shapes = [(8, 8), (8, 30), (30, 8), (9, 8), (8, 9), (300, 600)]
    noise = np.random.default_rng(0)
    return [
        (np.full((*shape, 3), colour) + noise.integers(-9, 9, (*shape, 3))).clip(0, 255).astype(np.uint8)
        for colour, shape in zip(colours, shapes, strict=True)
    ]


@pytest.fixture(scope="session")
def paths(images, tmp_path_factory):
    """The images as files."""
    folder = tmp_path_factory.mktemp("images")
    paths = [str(folder / f"{name}.png") for name in IDS]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture(scope="session")
def descriptors(images):
    """Mean colours."""
    return np.array([image.mean(axis=(0, 1)) for image in images]) - 100


@pytest.fixture(scope="session")
def gallery(paths):
    """A gallery of images with labels and ids."""
    return NearestImageRetriever(featurizer=ColourGrid()).fit(paths, LABELS, ids=IDS)


@pytest.fixture(scope="session")
def bare(descriptors):
    """A gallery of descriptors with labels and ids."""
    return NearestImageRetriever().fit(descriptors, LABELS, ids=IDS)
