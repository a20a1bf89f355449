"""Pairs of descriptors and of small images, and transformers that describe such images."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from common.transformers import ColourGrid, DescribingGrid


def descriptor_pairs(n_genuine=30, n_impostor=60, n_features=16, noise=1.0, seed=0):
    """Return pairs (n, 2, n_features) in random order and whether each is genuine; the two kinds overlap."""
    rng = np.random.default_rng(seed)
    same = rng.permutation(np.repeat([True, False], [n_genuine, n_impostor]))
    first, stranger = rng.normal(size=(2, len(same), n_features))
    second = np.where(same[:, None], first, stranger)
    noisy = np.stack([first, second], axis=1) + noise * rng.normal(size=(len(same), 2, n_features))
    return noisy, same


def unit(vectors):
    """Bring vectors to unit length, in float64."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def portraits(n_people=4, n_each=3, seed=0):
    """Return images (n_people * n_each, 8, 8, 3) of uint8, and who is in each: four fields of own colours."""
    rng = np.random.default_rng(seed)
    faces = rng.integers(40, 216, size=(n_people, 2, 2, 3)).repeat(4, axis=1).repeat(4, axis=2)
    images = faces.repeat(n_each, axis=0) + rng.integers(-40, 40, size=(n_people * n_each, 8, 8, 3))
    return images.astype(np.uint8), np.arange(n_people).repeat(n_each)


def all_pairs(images, people):
    """Return a list of all pairs of images, and whether each is genuine."""
    places = list(combinations(range(len(images)), 2))
    return [(images[a], images[b]) for a, b in places], np.array([people[a] == people[b] for a, b in places])


class Remembering(ColourGrid):
    """Remembers what it was fitted with, and how many images it described in each call."""

    def fit(self, X, y=None):
        """Learn the mean."""
        self.y_seen_, self.n_seen_ = y, []
        return super().fit(X)

    def transform(self, X):
        """Describe the images."""
        self.n_seen_.append(len(X))
        return super().transform(X)


class DarkIsNaN(DescribingGrid):
    """Has no descriptor for dark images, and says nothing of it."""

    def rows(self, images):
        """Describe a batch of pixels."""
        rows = super().rows(images)
        rows[images.mean(axis=(1, 2, 3)) < 20] = np.nan
        return rows


class TwoOfEach(ColourGrid):
    """Gives two rows for an image, as an aligner with `select="all"` may."""

    def transform(self, X):
        """Describe the images."""
        return super().transform(X).repeat(2, axis=0)
