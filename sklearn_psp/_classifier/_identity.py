"""What a training run is of, so that a checkpoint is only gone on with where it belongs."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from sklearn_psp._classifier._labelled import Labelled
from sklearn_psp._featurizer import PSPNetFeaturizer

__all__ = ["identity_of"]


def identity_of(classifier, frozen: PSPNetFeaturizer, data: Labelled) -> dict[str, str]:
    """Say in short strings what a training run is of: parameters, weights, pictures and labels."""
    ignored = {"cache", "cache_size", "callbacks", "checkpoint", "n_jobs", "runtime", "verbose", "warm_start"}
    params = {name: value for name, value in classifier.get_params(deep=False).items() if name not in ignored}
    identity = {name: _short(value) for name, value in params.items()}
    identity["weights of the backbone"] = frozen.backbone_info_["sha256"]
    labels = [] if data.labels is None else data.labels.tolist()
    identity["pictures and labels"] = _digest([data.sources(), labels])
    return identity


def _short(value: Any) -> str:
    """Say what a value is, the same in every process."""
    if value is None or isinstance(value, str | int | float | bool):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_short(item)}' for name, item in value.items())}}}"
    if isinstance(value, np.ndarray):
        return f"array {_digest(value.tolist())}"
    named = value if isinstance(value, type) or callable(value) else type(value)
    return getattr(named, "__qualname__", type(value).__qualname__)


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
