"""The centre of descriptors: a share of their mean, which grows with their number."""

from __future__ import annotations

import numpy as np

__all__ = ["center_share", "shrunk_mean"]

# The centre is n / (n + _CENTER_PRIOR) of the mean: one image must not become the zero vector, nor two each other's
# opposite.
_CENTER_PRIOR = 50


def center_share(n: int) -> float:
    """Return the share of the mean of n descriptors that is subtracted."""
    return n / (n + _CENTER_PRIOR)


def shrunk_mean(features: np.ndarray) -> np.ndarray:
    """Return the centre of descriptors (n, n_features): their mean times n / (n + 50), float32."""
    return (center_share(len(features)) * features.mean(axis=0, dtype=np.float64)).astype(np.float32)
