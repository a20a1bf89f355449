"""The model of a classifier: before training, with a head to begin with, and as it was fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sklearn_psp._featurizer import PSPNetFeaturizer, shrunk_mean
from sklearn_psp._nets import PyramidPooling
from sklearn_psp._training import PartBatches, PartModel, Training
from sklearn_psp.utils._validation import check_bin_sizes

__all__ = ["initial_model", "restored_model", "train_head"]

# Images that projections start from.
_MOST_PROJECTED_FROM = 2000
_EMBEDDED_AT_ONCE = 1024
# What a network that is to be trained begins with: a head trained on its features as they are.
_HEAD_EPOCHS, _HEAD_LEARNING_RATE, _HEAD_BATCH_SIZE = 30, 1e-3, 32


def initial_model(classifier, frozen: PSPNetFeaturizer, n_classes: int, parts: np.ndarray | None = None):
    """Make the model before training.

    Parameters
    ----------
    classifier : PSPNetClassifier
        Whose parameters it takes.
    frozen : PSPNetFeaturizer
        The featurizer before training.
    n_classes : int
        Number of classes.
    parts : ndarray or None, default=None
        What `describe` returned, for the centre and the projections; None where a checkpoint has them.

    Returns
    -------
    PartModel
        Without a trunk; its head gives every class the same score.
    """
    n_features = frozen.n_features_out_
    if classifier._needs_parts():
        projection = None
        if classifier.reduce_dim is not None:
            projection = _initial_projection(classifier, frozen, parts)
            n_features = n_features // frozen.backbone_info_["n_channels"] * classifier.reduce_dim
        pooling = PyramidPooling(
            bin_sizes=check_bin_sizes(classifier.bin_sizes),
            part_order=classifier.part_order,
            pooling=classifier.pooling,
            gem_power=classifier.gem_power,
            projection=projection,
            part_weights=frozen.part_weights_,
            aggregation=classifier.aggregation,
        )
    else:
        pooling = PyramidPooling(bin_sizes=((1, 1),))
    model = PartModel(
        pooling,
        torch.zeros(n_features),
        n_classes,
        learn_weights=classifier._learns_weights(),
        learn_projection=classifier.reduce_dim is not None,
        cosine=classifier._is_cosine(),
        dropout=classifier.dropout,
        part_dropout=classifier.part_dropout,
    ).eval()
    if parts is not None:
        with torch.no_grad():
            blocks = torch.from_numpy(parts).split(_EMBEDDED_AT_ONCE)
            features = torch.cat([model.embed(block.float()) for block in blocks])
        model.center.copy_(torch.from_numpy(shrunk_mean(features.numpy())))
    return model


def restored_model(classifier, frozen: PSPNetFeaturizer):
    """Make the model of a fitted classifier, without a trunk.

    Parameters
    ----------
    classifier : PSPNetClassifier
        The classifier.
    frozen : PSPNetFeaturizer
        The featurizer before training.

    Returns
    -------
    PartModel
        Which gives the scores that the classifier gives.
    """
    model = initial_model(classifier, frozen, len(classifier.classes_))
    trained = classifier.featurizer_
    with torch.no_grad():
        model.center.copy_(torch.from_numpy(trained.center_))
        if model.log_weights is not None:
            model.log_weights.copy_(torch.from_numpy(trained.part_weights_).clamp_min(1e-12).log())
        if classifier.reduce_dim is not None:
            model.pooling.projection.copy_(torch.from_numpy(trained.projection))
        model.set_linear_head(torch.from_numpy(classifier.coef_), torch.from_numpy(classifier.intercept_))
    return model


def _initial_projection(classifier, frozen, parts):
    """Return the directions of each level along which its local features are longest, (n_levels, channels, dim)."""
    n_channels, dim = frozen.backbone_info_["n_channels"], classifier.reduce_dim
    if dim > n_channels:
        raise ValueError(f"reduce_dim={dim} is more than the {n_channels} channels of the feature maps; use fewer")
    levels = frozen.parts_["level"].to_numpy()
    if parts is None:
        return np.zeros((levels.max() + 1, n_channels, dim), dtype=np.float32)
    some = torch.from_numpy(parts[np.linspace(0, len(parts) - 1, min(len(parts), _MOST_PROJECTED_FROM)).astype(int)])
    projections = []
    for level in range(levels.max() + 1):
        features = some[:, torch.from_numpy(levels == level)].flatten(0, 1).float()
        directions = torch.linalg.eigh(features.T @ features).eigenvectors.flip(1)[:, :dim]
        # An eigenvector's sign is nobody's choice: the largest element is positive.
        largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
        projections.append((directions * largest.sign()).numpy())
    # One layout in memory, as a pickle and a checkpoint have it: products are summed in the same order.
    return np.ascontiguousarray(np.stack(projections))


def train_head(model, parts: np.ndarray, codes: np.ndarray, weights: np.ndarray, settings) -> None:
    """Train the head on features as they are, before the network is trained with it: what is far off would spoil it.

    Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", ICLR 2022.
    """
    settings = replace(
        settings,
        epochs=_HEAD_EPOCHS,
        learning_rate=_HEAD_LEARNING_RATE,
        optimizer="adam",
        optimizer_params=None,
        schedule="cosine",
        callbacks=(),
        metrics={},
        patience=None,
        precision="float32",
    )
    Training(model, settings).run(PartBatches(parts, codes, weights, _HEAD_BATCH_SIZE), epochs=_HEAD_EPOCHS)
