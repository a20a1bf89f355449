"""What a training run is of, so that a checkpoint is only gone on with where it belongs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sklearn_psp._classifier._labelled import Labelled
    from sklearn_psp._featurizer import PSPNetFeaturizer

__all__ = ["identity_of", "parameters_of", "short"]


def identity_of(
    classifier, frozen: PSPNetFeaturizer, data: Labelled, validation: Labelled | None = None
) -> dict[str, str]:
    """Say in short strings what a training run is of: parameters, weights, images, labels and their weights."""
    identity = parameters_of(classifier)
    identity["weights of the backbone"] = frozen.backbone_info_["sha256"]
    identity["images and labels"] = _of_data(data)
    identity["sample_weight"] = "None" if data.sample_weight is None else _digest(data.sample_weight.tolist())
    identity["validation_data"] = "None" if validation is None else _of_data(validation)
    return identity


def parameters_of(classifier) -> dict[str, str]:
    """Say in short strings the parameters that a training run depends on."""
    ignored = {"cache", "cache_size", "callbacks", "checkpoint", "n_jobs", "runtime", "verbose", "warm_start"}
    params = {name: value for name, value in classifier.get_params(deep=False).items() if name not in ignored}
    return {name: short(value) for name, value in params.items()}


def _of_data(data):
    return _digest([data.sources(), [] if data.labels is None else data.labels.tolist()])


def short(value: Any) -> str:
    """Say what a value is, the same in every process."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(short, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {short(item)}' for name, item in value.items())}}}"
    if isinstance(value, np.ndarray):
        return f"array {_digest(value.tolist())}"
    named = value if isinstance(value, type) or callable(value) else type(value)
    return getattr(named, "__qualname__", type(value).__qualname__)


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
