"""Features of a classifier: its featurizer before and after training, and the model that is trained between the two."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch

from sklearn_psp import _nets
from sklearn_psp._classifier._labelled import Labelled, source_keys
from sklearn_psp._classifier._settings import ClassifierSettings, FittedModel
from sklearn_psp._featurizer import PSPNetFeaturizer, model_of, set_fitted, shrunk_mean
from sklearn_psp._images import Images, ImageStream, SomeImages, raise_missing
from sklearn_psp._nets import PyramidPooling
from sklearn_psp._training import ImageBackbone, PartModel, fingerprint, trainable_copy
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.utils._descriptions import failures_frame
from sklearn_psp.utils._libraries import progress
from sklearn_psp.utils._validation import check_bin_sizes

__all__ = [
    "Described",
    "add_backbone",
    "check_unchanged",
    "describe",
    "frozen_featurizer",
    "image_size_of",
    "initial_model",
    "restored_model",
    "trained_featurizer",
]

# Parameters that decide what the parts of an image are. Weights of parts are not among them: they may be learned.
_OF_PARTS = (
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
    "aggregation",
)
# Images whose local features are in memory in float32 at a time; they are kept in float16.
_DESCRIBED_AT_ONCE = 1024
# Images from which the directions of `reduce_dim` are computed.
_MOST_PROJECTED_FROM = 2000
_EMBEDDED_AT_ONCE = 1024


def frozen_featurizer(settings: ClassifierSettings, previous: FittedModel | None = None) -> PSPNetFeaturizer:
    """Make the fitted featurizer from whose features a training starts: neither weighted nor centred.

    Parameters
    ----------
    settings : ClassifierSettings
        The parameters.
    previous : FittedModel or None, default=None
        The fitted model that training continues from.

    Returns
    -------
    PSPNetFeaturizer
        Its local features are those of the network as it is before any training.
    """
    params = settings.featurizer | {"center": False, "normalize": True, "verbose": 0}
    if settings.featurizer["weights"] is None and not isinstance(settings.random_state, Integral):
        # Random weights are drawn once: the trained featurizer, and later calls, must find the same network.
        params["random_state"] = settings.draw_seed() if previous is None else previous.featurizer.random_state
    if isinstance(params["part_weights"], str):
        params["part_weights"] = "uniform"
    return set_fitted(PSPNetFeaturizer(**params))


def trained_featurizer(settings: ClassifierSettings, frozen: PSPNetFeaturizer, model: PartModel) -> PSPNetFeaturizer:
    """Make the fitted featurizer of a trained model.

    Parameters
    ----------
    settings : ClassifierSettings
        The parameters.
    frozen : PSPNetFeaturizer
        The featurizer before training, whose plan it takes.
    model : PartModel
        The model.

    Returns
    -------
    PSPNetFeaturizer
        Its `transform` gives the features to which the model's head is applied.
    """
    params = settings.featurizer | {"random_state": frozen.random_state}
    weights = model.learned_weights()
    if weights is not None:
        params["part_weights"] = weights.detach().cpu().numpy()
    if settings.reduce_dim is not None:
        params["projection"] = model.projection.detach().cpu().numpy().copy()
    if model.backbone is not None:
        module = model.backbone.module
        if isinstance(params["backbone"], str):
            params["weights"] = _nets.trained_weights(module)
        else:
            params |= {"backbone": _nets.with_trained(params["backbone"], module), "weights": "default"}
    center = model.center.cpu().numpy().astype(np.float32)
    return set_fitted(PSPNetFeaturizer(**params), center=center, plan=model_of(frozen).plan)


def check_unchanged(settings: ClassifierSettings, previous: FittedModel, frozen: PSPNetFeaturizer) -> None:
    """Refuse to go on from a fitted model with parameters that make other features.

    Parameters
    ----------
    settings : ClassifierSettings
        The parameters as they are now.
    previous : FittedModel
        The model.
    frozen : PSPNetFeaturizer
        The featurizer before training, of these parameters.

    Raises
    ------
    ValueError
        If one of them has changed.
    """
    fitted = previous.featurizer
    trained = fitted.backbone_info_["sha256"] != frozen.backbone_info_["sha256"]
    if trained and settings.train == "head":
        raise ValueError(
            "train='head' does not go on from a network that was trained: its features are not those of the frozen "
            "one; set train back, or warm_start=False"
        )
    names = [name for name in _OF_PARTS if not (name == "weights" and trained)]
    if not settings.learns_weights:
        names.append("part_weights")
    changed = [name for name in names if not _same(getattr(fitted, name), settings.featurizer[name])]
    if settings.reduce_dim != (None if fitted.projection is None else fitted.projection.shape[2]):
        changed.append("reduce_dim")
    if changed:
        raise ValueError(
            f"warm_start=True and partial_fit cannot change the features, and since the last fit "
            f"{', '.join(changed)} changed; set that back, or set warm_start=False and call fit"
        )


def _same(one: Any, other: Any) -> bool:
    # Of a network of the user's only its class: its weights are those that were trained.
    return fingerprint(_kind(one)) == fingerprint(_kind(other))


def _kind(value: Any) -> Any:
    return type(value) if hasattr(value, "state_dict") or hasattr(value, "get_weights") else value


@dataclass(frozen=True)
class Described:
    """Images as the frozen network describes them.

    Attributes
    ----------
    parts : ndarray of shape (n, n_parts, n_channels), float16, or (n, 1, n_features), float32
        Local features; or the global one in their place, where nothing between the two is trained.
    data : Labelled
        Without the images that could not be read.
    failures : DataFrame
        Those images, as of `Descriptions`.
    left_out : list of int
        Their places in the data.
    """

    parts: np.ndarray
    data: Labelled
    failures: pd.DataFrame
    left_out: list[int] = field(default_factory=list)

    def without_parts(self) -> Described:
        """Give up the features, which take more memory than all else."""
        return replace(self, parts=np.empty((0, 0, 0), dtype=np.float16))


def describe(
    featurizer: PSPNetFeaturizer, data: Labelled, *, aggregated: bool, with_keys: bool = False, verbose: int = 0
) -> Described:
    """Run the frozen network once.

    Parameters
    ----------
    featurizer : PSPNetFeaturizer
        As `frozen_featurizer` makes it.
    data : Labelled
        The images.
    aggregated : bool
        Whether the global feature is enough.
    with_keys : bool, default=False
        Whether the images of a stream are to be known by their content afterwards.
    verbose : int, default=0
        Above 0, a bar is shown.

    Returns
    -------
    Described
        Their features.

    Raises
    ------
    ImageReadError
        If none of them could be read.
    """
    if data.images is not None and featurizer.on_error == "raise":
        raise_missing(data.images)  # at once, not block by block
    model = model_of(featurizer)
    feature = model.global_features if aggregated else model.local_features
    blocks: list[np.ndarray] = []
    failed: list[pd.DataFrame] = []
    seen = _Seen(data, with_keys)
    n_images = None if data.images is None else data.images.n_images
    with progress(n_images, "describing images", "image", verbose) as bar:
        for images in seen.blocks():
            features, failures = model.extract(images, feature)
            blocks.append(features[:, None] if aggregated else features.astype(np.float16))
            failed.append(failures)
            bar.update(len(features))
    parts = np.concatenate(blocks)
    data = seen.data()
    failures = pd.concat(failed, ignore_index=True) if any(map(len, failed)) else failures_frame()
    if failures.empty:
        return Described(parts, data, failures)
    left_out = np.flatnonzero(np.isnan(parts[:, 0, 0])).tolist()
    if len(left_out) == len(parts):
        raise ImageReadError("none of the images could be read, there is nothing to fit", failures)
    return Described(np.delete(parts, left_out, axis=0), data.without(left_out), failures, left_out)


class _Seen:
    """One reading of labelled images, block by block; of a stream it notes labels and keys."""

    def __init__(self, data: Labelled, with_keys: bool):
        self._data = data
        self._with_keys = with_keys
        self._labels: list[np.ndarray] = []
        self._keys: list[str] = []

    def blocks(self) -> Any:
        """Yield images; those of a stream all at once, for it can be read only in order."""
        images = self._data.images
        if images is None:
            yield ImageStream(self._data.open(), self._note)
            return
        for start in range(0, len(self._data.labels), _DESCRIBED_AT_ONCE):
            yield SomeImages(images, range(start, min(start + _DESCRIBED_AT_ONCE, len(self._data.labels))))

    def data(self) -> Labelled:
        """Return the images with what was noted."""
        if self._data.images is not None:
            return self._data
        return replace(self._data, labels=np.concatenate(self._labels), keys=self._keys if self._with_keys else None)

    def _note(self, position: int, batch: tuple[Images, np.ndarray]) -> Images:
        images, labels = batch
        self._labels.append(labels)
        if self._with_keys:
            self._keys += source_keys(images)
        return images


def image_size_of(featurizer: PSPNetFeaturizer) -> tuple[int, int]:
    """Return (height, width) of the images that the network is trained on: those of the largest scale."""
    return model_of(featurizer).views.sizes[0]


def initial_model(
    settings: ClassifierSettings, frozen: PSPNetFeaturizer, n_classes: int, parts: np.ndarray | None = None
) -> PartModel:
    """Make the model before training, without a backbone.

    Parameters
    ----------
    settings : ClassifierSettings
        The parameters.
    frozen : PSPNetFeaturizer
        The featurizer before training.
    n_classes : int
        Number of classes.
    parts : ndarray or None, default=None
        Features, for the centre and the projections; None where both are loaded afterwards.

    Returns
    -------
    PartModel
        The model; its head gives every class the same score.
    """
    n_features = frozen.n_features_out_
    if settings.needs_parts:
        projection = None
        if settings.reduce_dim is not None:
            projection = _initial_projection(settings.reduce_dim, frozen, parts)
            n_features = n_features // frozen.backbone_info_["n_channels"] * settings.reduce_dim
        pooling = PyramidPooling(
            bin_sizes=check_bin_sizes(settings.featurizer["bin_sizes"]),
            part_order=settings.featurizer["part_order"],
            pooling=settings.featurizer["pooling"],
            gem_power=settings.featurizer["gem_power"],
            projection=projection,
            part_weights=frozen.part_weights_,
            aggregation=settings.featurizer["aggregation"],
        )
    else:
        pooling = PyramidPooling(bin_sizes=((1, 1),))
    model = PartModel(
        pooling,
        torch.zeros(n_features),
        n_classes,
        learn_weights=settings.learns_weights,
        learn_projection=settings.reduce_dim is not None,
        cosine=settings.is_cosine,
        dropout=settings.dropout,
        part_dropout=settings.part_dropout,
    ).eval()
    if parts is not None:
        with torch.no_grad():
            blocks = torch.from_numpy(parts).split(_EMBEDDED_AT_ONCE)
            features = torch.cat([model.embed(block.float()) for block in blocks])
        model.center.copy_(torch.from_numpy(shrunk_mean(features.numpy())))
    return model


def restored_model(settings: ClassifierSettings, frozen: PSPNetFeaturizer, previous: FittedModel) -> PartModel:
    """Make the model that a fitted one came from.

    Parameters
    ----------
    settings : ClassifierSettings
        The parameters.
    frozen : PSPNetFeaturizer
        The featurizer before training.
    previous : FittedModel
        The fitted model.

    Returns
    -------
    PartModel
        The model, without a backbone; it gives the scores that the fitted one gives.
    """
    model = initial_model(settings, frozen, len(previous.classes))
    trained = previous.featurizer
    with torch.no_grad():
        model.center.copy_(torch.from_numpy(trained.center_))
        if model.log_weights is not None:
            model.log_weights.copy_(torch.from_numpy(trained.part_weights_).clamp_min(1e-12).log())
        if settings.reduce_dim is not None:
            model.projection.copy_(torch.from_numpy(trained.projection))
        model.set_linear_head(torch.from_numpy(previous.coef), torch.from_numpy(previous.intercept))
    return model


def add_backbone(
    model: PartModel, settings: ClassifierSettings, frozen: PSPNetFeaturizer, source: PSPNetFeaturizer
) -> None:
    """Give a model a copy of a network that is to be trained with it.

    Parameters
    ----------
    model : PartModel
        The model, changed in place.
    settings : ClassifierSettings
        The parameters.
    frozen : PSPNetFeaturizer
        The featurizer before training, for the scales and mirror images that are seen.
    source : PSPNetFeaturizer
        The featurizer whose network is copied.
    """
    backbone = model_of(source).backbone
    module = trainable_copy(backbone.module, backbone.image_size, settings.train)
    # Statistics of random weights say nothing: a network that starts from them follows its batches.
    follows_batches = settings.featurizer["weights"] is None
    mean, std = backbone.spec.mean, backbone.spec.std
    model.backbone = ImageBackbone(module, mean, std, model_of(frozen).views, follows_batches=follows_batches)


def _initial_projection(dim: int, frozen: PSPNetFeaturizer, parts: np.ndarray | None) -> np.ndarray:
    """Return the directions of each level along which its local features are longest, (n_levels, channels, dim)."""
    n_channels = frozen.backbone_info_["n_channels"]
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
        # The sign of an eigenvector is arbitrary, and differs between machines: the largest element is made positive.
        largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
        projections.append((directions * largest.sign()).numpy())
    # In the memory layout of a pickle and a checkpoint, so that products are summed in the same order.
    return np.ascontiguousarray(np.stack(projections))
