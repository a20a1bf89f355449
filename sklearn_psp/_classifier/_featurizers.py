"""The featurizers of a classifier: the one that is there before training, and the one that was trained."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from sklearn_psp._classifier._identity import short
from sklearn_psp._featurizer import PSPNetFeaturizer, model_of, set_fitted

__all__ = ["SHARED", "check_goes_on", "frozen_featurizer", "trained_featurizer"]

# Parameters that a classifier hands to its featurizer as they are.
SHARED = (
    "backbone",
    "weights",
    "output_stride",
    "image_size",
    "resize",
    "scales",
    "flip",
    "bin_sizes",
    "part_order",
    "pooling",
    "gem_power",
    "part_weights",
    "aggregation",
    "image_shape",
    "on_error",
    "device",
    "precision",
    "runtime",
    "n_jobs",
    "cache",
    "cache_size",
    "random_state",
    "verbose",
)
# Those that decide what the parts of an image are.
_OF_PARTS = (*SHARED[: SHARED.index("part_weights")], "aggregation")


def frozen_featurizer(classifier, *, fresh: bool) -> PSPNetFeaturizer:
    """Make a fitted featurizer that gives the local features a classifier starts from: neither weighted nor centred."""
    params = _params(classifier) | {"center": False, "normalize": True, "verbose": 0}
    if classifier.weights is None and not isinstance(classifier.random_state, Integral):
        # Random weights are drawn once: the trained featurizer, and later calls, must find the same network.
        goes_on = hasattr(classifier, "featurizer_") and not fresh
        params["random_state"] = classifier.featurizer_.random_state if goes_on else classifier._seed()
    if isinstance(classifier.part_weights, str):
        params["part_weights"] = "uniform"
    return set_fitted(PSPNetFeaturizer(**params))


def trained_featurizer(classifier, frozen: PSPNetFeaturizer, model) -> PSPNetFeaturizer:
    """Make a fitted featurizer of a trained model.

    Parameters
    ----------
    classifier : PSPNetClassifier
        Whose parameters it takes.
    frozen : PSPNetFeaturizer
        The featurizer before training; how its network is run is known.
    model : PartModel
        The model.

    Returns
    -------
    PSPNetFeaturizer
        Its `transform` gives what the model's head gets.
    """
    from sklearn_psp import _nets

    params = _params(classifier) | {"random_state": frozen.random_state}
    weights = model.learned_weights()
    if weights is not None:
        params["part_weights"] = weights.detach().cpu().numpy()
    if classifier.reduce_dim is not None:
        params["projection"] = model.pooling.projection.detach().cpu().numpy().copy()
    if model.trunk is not None:
        trained = _nets.trained_weights(model.trunk.module)
        if isinstance(classifier.backbone, str):
            params["weights"] = trained
        else:
            params |= {"backbone": _nets.with_trained(classifier.backbone, model.trunk.module), "weights": "default"}
    center = model.center.cpu().numpy()
    return set_fitted(PSPNetFeaturizer(**params), center=center.astype(np.float32), plan=model_of(frozen).plan)


def check_goes_on(classifier, frozen: PSPNetFeaturizer) -> None:
    """Refuse to go on with a fitted classifier whose parameters ask for other features by now.

    Raises
    ------
    ValueError
        If one of them has changed.
    """
    fitted, asked = classifier.featurizer_, _params(classifier)
    trained = fitted.backbone_info_["sha256"] != frozen.backbone_info_["sha256"]
    if trained and classifier.train == "head":
        raise ValueError(
            "train='head' does not go on from a network that was trained: its features are not those of the frozen "
            "one; set train back, or warm_start=False"
        )
    kept = [name for name in _OF_PARTS if not (name == "weights" and trained)]
    if not classifier._learns_weights():
        kept.append("part_weights")
    changed = [name for name in kept if short(getattr(fitted, name)) != short(asked[name])]
    if classifier.reduce_dim != (None if fitted.projection is None else fitted.projection.shape[2]):
        changed.append("reduce_dim")
    if changed:
        raise ValueError(
            f"a model that is gone on with keeps its parts, but since the last fit {', '.join(changed)} changed; set "
            "that back, or warm_start=False"
        )


def _params(classifier):
    params = {name: getattr(classifier, name) for name in SHARED}
    if classifier.train != "head" and isinstance(params["scales"], str):
        params["scales"] = (1.0,)  # every step of training would take as many passes as there are scales
    return params
