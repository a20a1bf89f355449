"""Weights in memory, which stand where a path stands: out of a saved file, or out of training."""

from __future__ import annotations

import hashlib

import numpy as np

from sklearn_psp.exceptions import WeightsError

__all__ = ["SavedWeights", "TrainedWeights", "hash_tensors"]


class SavedWeights:
    """Weights in memory that are known by the hash of the file they were read from.

    Parameters
    ----------
    tensors : ndarray of shape (n_bytes,), uint8
        The tensors, as the bytes of a safetensors file. Not to be changed.
    origin : str
        The path they were read from.
    sha256 : str
        Hash of that file.
    own_sha256 : str or None, default=None
        Hash of `tensors`; None computes it.
    """

    def __init__(self, tensors, origin, sha256, own_sha256=None):
        self.tensors = tensors
        self.origin = origin
        self.sha256 = sha256
        self.own_sha256 = own_sha256 or hash_tensors(tensors)

    def check(self):
        """Refuse tensors that changed on the way.

        Raises
        ------
        WeightsError
            If their hash is another.
        """
        if hash_tensors(self.tensors) != self.own_sha256:
            raise WeightsError(f"the weights of {self.origin!r} in the file are damaged; save them again")

    def __eq__(self, other):
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self):
        return hash(self._key())

    def __repr__(self):
        return f"<weights of {self.origin!r} from a saved file>"

    def __deepcopy__(self, memo):
        return self

    def _key(self):
        return self.own_sha256, self.sha256


class TrainedWeights(SavedWeights):
    """Weights of a network up to its feature maps, as they are after training.

    Parameters
    ----------
    tensors : ndarray of shape (n_bytes,), uint8
        The tensors, as the bytes of a safetensors file. Not to be changed.
    sha256 : str or None, default=None
        Their hash; None computes it.
    """

    def __init__(self, tensors, sha256=None):
        sha256 = sha256 or hash_tensors(tensors)
        super().__init__(tensors, "training", sha256, sha256)

    def __repr__(self):
        return f"<trained weights, sha256 {self.sha256[:8]}>"


def hash_tensors(tensors):
    """Hash the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(tensors)).hexdigest()
