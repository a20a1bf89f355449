"""The featurizers of a classifier: the one that is there before training, and the one that was trained."""

from __future__ import annotations

import numpy as np

from sklearn_psp._featurizer import PSPNetFeaturizer

__all__ = ["SHARED", "frozen_featurizer", "trained_featurizer"]

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


def frozen_featurizer(classifier) -> PSPNetFeaturizer:
    """Make a fitted featurizer that gives the local features a classifier starts from: neither weighted nor centred."""
    params = _params(classifier) | {"center": False, "normalize": False, "verbose": 0}
    if isinstance(classifier.part_weights, str):
        params["part_weights"] = "uniform"
    return PSPNetFeaturizer(**params)._set_fitted()


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

    params = _params(classifier)
    weights = model.learned_weights()
    if weights is not None:
        params["part_weights"] = weights.detach().cpu().numpy()
    if classifier.reduce_dim is not None:
        params["projection"] = model.pooling.projection.detach().cpu().numpy()
    if model.trunk is not None:
        trained = _nets.trained_weights(model.trunk.module)
        if isinstance(classifier.backbone, str):
            params["weights"] = trained
        else:
            params |= {"backbone": _nets.with_trained(classifier.backbone, model.trunk.module), "weights": "default"}
    center = model.center.cpu().numpy()
    return PSPNetFeaturizer(**params)._set_fitted(center=center.astype(np.float32), plan=frozen._current_plan())


def _params(classifier):
    params = {name: getattr(classifier, name) for name in SHARED}
    if classifier.train != "head" and isinstance(params["scales"], str):
        params["scales"] = (1.0,)  # every step of training would take as many passes as there are scales
    return params
