"""People made up: descriptors of their photographs, images with their faces, and a detector that sees them."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline

from common.networks import FAST, TinyNet
from sklearn_psp import FaceAligner, FaceIdentifier, NearestImageRetriever, PSPNetFeaturizer

METRICS = ("cosine", "euclidean")
# Where eyes, nose and mouth stand in a tile, as shares of it: upright, in the order of MTCNN.
_POINTS = np.array([[0.36, 0.40], [0.64, 0.40], [0.5, 0.56], [0.38, 0.72], [0.62, 0.72]])


def described(people, n_images=1, *, seed=1, noise=0.2, n_features=16):
    """Return descriptors of photographs and the names of who is on them.

    Parameters
    ----------
    people : sequence of int
        Whom; the same number is the same person in every call.
    n_images : int, default=1
        Photographs of each.
    seed : int, default=1
        Of the noise that tells photographs of a person apart.
    noise : float, default=0.2
        Its size, where people are 1 apart in each feature.
    n_features : int, default=16
        Number of features.

    Returns
    -------
    X : ndarray of shape (n, n_features), float32
        Descriptors.
    names : list of str
        "p00", "p01" ...
    """
    faces = np.random.default_rng(0).normal(size=(100, n_features))
    who = np.repeat(np.asarray(people, dtype=int), n_images)
    X = faces[who] + noise * np.random.default_rng(seed).normal(size=(len(who), n_features))
    return X.astype(np.float32), [f"p{i:02d}" for i in who]


def unit(X):
    """Scale rows to unit length."""
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def of_descriptors(metric="cosine", **params):
    """Make an identifier of descriptors whose threshold 10 non-mated probes are enough for."""
    params = {"featurizer": None, "fpir": 0.1, "retriever": NearestImageRetriever(metric=metric), **params}
    return FaceIdentifier(**params)


class TileFaces:
    """A detector of images that are tiles of 64 pixels side by side: a face in each that is not dark."""

    def __call__(self, image):
        """Find the faces, as sure as they are bright."""
        found = []
        for left in range(0, image.shape[1], 64):
            brightness = image[:64, left : left + 64].mean() / 255
            if brightness > 0.1:
                points = _POINTS * 64 + (left, 0)
                found.append(((left + 8, 8, left + 56, 56), points, brightness))
        return found

    def __repr__(self):
        return "TileFaces()"


def tile(person, seed=0):
    """Return a photograph of a face, (64, 64, 3): blocks of colour that are the person's, and some noise."""
    blocks = np.random.default_rng(1000 + person).integers(40, 216, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    noise = np.random.default_rng((person, seed)).integers(-20, 20, (64, 64, 3))
    return (blocks + noise).astype(np.uint8)


NO_FACE = np.zeros((64, 64, 3), dtype=np.uint8)


def side_by_side(*tiles):
    """Return one image with several tiles."""
    return np.concatenate(tiles, axis=1)


def tile_featurizer(**params):
    """Make the `Pipeline` that finds the faces of tiles and describes them by a tiny network."""
    aligner = FaceAligner(TileFaces(), size=32)
    return Pipeline([("aligner", aligner), ("psp", PSPNetFeaturizer(TinyNet(), center=False, **FAST))]).set_params(
        **params
    )
