"""The model that is trained: a backbone, its parts, one global feature and a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_psp._nets import PyramidPooling, Views, copied, normalized, pixel_scale
from sklearn_psp.exceptions import BackboneError

__all__ = ["ImageBackbone", "PartModel", "trainable_copy", "trainable_layers"]

# Of a network whose maps have one resolution throughout, as those of vision transformers, this share of its layers.
_LAST_SHARE = 0.25


class ImageBackbone(nn.Module):
    """A backbone with its preprocessing: images in, feature maps of every view out.

    Parameters
    ----------
    module : torch.nn.Module
        Maps normalised images to feature maps.
    mean, std : tuple of three floats
        Pixels in [0, 1] become `(pixel - mean) / std`.
    views : Views
        The scales and mirror images at which an image is described.
    follows_batches : bool, default=False
        Whether batch normalisation uses the statistics of the batch in training, as a network that starts from random
        weights needs. Otherwise it keeps the statistics it has, because those of small batches are noisy.
    """

    def __init__(
        self,
        module: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        views: Views,
        *,
        follows_batches: bool = False,
    ):
        super().__init__()
        self.module = module
        self.follows_batches = follows_batches
        self.views = views
        self.factor: torch.Tensor
        self.offset: torch.Tensor
        for name, numbers in zip(("factor", "offset"), pixel_scale(mean, std), strict=True):
            self.register_buffer(name, numbers, persistent=False)

    def train(self, mode: bool = True) -> ImageBackbone:
        """Set the mode: always evaluation without `follows_batches`."""
        return super().train(mode and self.follows_batches)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps of each view of images (n, 3, height, width), uint8 or in [0, 255]."""
        found = []
        for view, mirrored in self.views.of(images):
            maps = self.module(normalized(view, self.factor, self.offset))
            found.append(maps.flip(-1) if mirrored else maps)
        return found


class PartModel(nn.Module):
    r"""From images, or from their local features, to a score for each class.

    .. math::
        F = \sum_i w_i m_i P_i f_i \quad\text{or}\quad F = [w_i m_i P_i f_i]_i, \qquad
        \hat F = \frac{F / \lVert F \rVert - c}{\lVert F / \lVert F \rVert - c \rVert}, \qquad
        z = W \sqrt d \, \hat F + b

    with products :math:`P_i f_i` of unit length, and masks :math:`m_i` that leave parts out while the model is trained.

    Parameters
    ----------
    pooling : PyramidPooling
        The parts, how they are pooled and aggregated, weights and projections to start from.
    center : torch.Tensor of shape (n_features,)
        The centre, which is subtracted from the global feature.
    n_classes : int
        Number of classes.
    backbone : ImageBackbone or None, default=None
        The network that gives feature maps; with None, the model is fed local features.
    learn_weights : bool, default=False
        Whether the weights w_i are trained. They stay positive, and their sum the number of parts.
    learn_projection : bool, default=False
        Whether the projections P are trained.
    cosine : bool, default=False
        Whether the score of a class is the cosine to its row of W, as margin losses ask for, and b is zero.
    dropout : float, default=0.0
        Share of the global feature's elements that are left out in training.
    part_dropout : float, default=0.0
        Share of the parts that are left out in training.
    """

    def __init__(
        self,
        pooling: PyramidPooling,
        center: torch.Tensor,
        n_classes: int,
        *,
        backbone: ImageBackbone | None = None,
        learn_weights: bool = False,
        learn_projection: bool = False,
        cosine: bool = False,
        dropout: float = 0.0,
        part_dropout: float = 0.0,
    ):
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.cosine = cosine
        self.dropout = dropout
        self.part_dropout = part_dropout
        self.center: torch.Tensor
        self.register_buffer("center", center)
        n_parts = len(pooling.sequence)
        self.log_weights = nn.Parameter(torch.zeros(n_parts)) if learn_weights else None
        if learn_projection:
            pooling.projection = nn.Parameter(self.projection)
        self.head = nn.Linear(len(center), n_classes)
        with torch.no_grad():
            self.head.bias.zero_()
            if cosine:
                self.head.bias.requires_grad_(False)
            else:
                self.head.weight.zero_()

    @property
    def projection(self) -> torch.Tensor:
        """The projections P_l of the levels, of a model that has some."""
        return cast(torch.Tensor, self.pooling.projection)

    def learned_weights(self) -> torch.Tensor | None:
        """Return the weights w_i that are trained, shape (n_parts,), if they are."""
        if self.log_weights is None:
            return None
        return torch.softmax(self.log_weights, dim=0) * len(self.log_weights)

    def local_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the f_i, averaged over the views, shape (n, n_parts, n_channels)."""
        assert self.backbone is not None
        return self.pooling.average([self.pooling.local_features(maps) for maps in self.backbone(images)])

    def embed(self, parts: torch.Tensor) -> torch.Tensor:
        """Return the global features, centred, of unit length, of local features (n, n_parts, n_channels)."""
        parts = self.pooling.project(parts)
        weights = self._weights(len(parts))
        if self.pooling.aggregation == "concat":
            aggregated = (parts * weights[..., None]).flatten(1)
        else:
            aggregated = (weights[..., None, :] @ parts).squeeze(-2)
        return F.normalize(F.normalize(aggregated, dim=-1) - self.center, dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores (n, n_classes) of images, or of local features (n, n_parts, n_channels) without a backbone."""
        parts = x if self.backbone is None else self.local_features(x)
        # No autocast from here on: the head is small, and a difference of unit vectors loses its digits in 16 bits.
        with torch.autocast(x.device.type, enabled=False):
            features = F.dropout(self.embed(parts.float()), self.dropout, self.training)
            if self.cosine:
                return F.linear(F.normalize(features, dim=-1), F.normalize(self.head.weight, dim=-1))
            return self.head(features * features.shape[1] ** 0.5)

    def linear_head(self, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (n_classes, n_features) and intercepts (n_classes,) on the embedding."""
        if self.cosine:
            return F.normalize(self.head.weight, dim=-1) * scale, torch.zeros_like(self.head.bias)
        return self.head.weight * self.head.in_features**0.5, self.head.bias

    def set_linear_head(self, coef: torch.Tensor, intercept: torch.Tensor) -> None:
        """Take coefficients and intercepts that `linear_head` gave."""
        with torch.no_grad():
            self.head.weight.copy_(coef if self.cosine else coef / self.head.in_features**0.5)
            self.head.bias.copy_(intercept)

    def _weights(self, n: int) -> torch.Tensor:
        """Return the weights of parts, (n_parts,) or, where some are left out, (n, n_parts)."""
        weights = self.pooling.weights
        learned = self.learned_weights()
        if learned is not None:
            weights = weights * learned
        if not (self.training and self.part_dropout):
            return weights
        kept = torch.rand(n, len(weights), device=weights.device) >= self.part_dropout
        kept |= ~kept.any(dim=1, keepdim=True)  # where no part is left, all of them are used
        return weights * kept


def trainable_copy(module: nn.Module, image_size: tuple[int, int], train: str) -> nn.Module:
    """Copy a network, and let gradients reach the layers that are to be trained.

    Parameters
    ----------
    module, image_size, train
        As of `trainable_layers`.

    Returns
    -------
    torch.nn.Module
        The copy, in eval mode, on the CPU.
    """
    trained = copied(module).requires_grad_(False)
    for name in trainable_layers(trained, image_size, train):
        for parameter in trained.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(True)
    return trained.to(memory_format=torch.channels_last)


def trainable_layers(module: nn.Module, image_size: tuple[int, int], train: str) -> list[str]:
    """Name the layers with weights that are trained.

    Parameters
    ----------
    module : torch.nn.Module
        The network, in eval mode, on the CPU.
    image_size : tuple of two ints
        (height, width) of its images.
    train : {"last_stage", "all"}
        "last_stage" are the layers from the first convolution on whose maps are as coarse as the last ones; where those
        are more than half of all layers, as in vision transformers, the last quarter.

    Returns
    -------
    list of str
        Names of submodules.

    Raises
    ------
    BackboneError
        If the layers cannot be told apart.
    """
    if train == "last_stage" and next(module.parameters(recurse=False), None) is not None:
        raise BackboneError(
            "train='last_stage' needs to see the layers of the backbone, which this one does not show; freeze layers "
            "yourself (in Keras: layer.trainable = False) and use train='all'"
        )
    layers = {name: layer for name, layer in module.named_modules() if list(layer.parameters(recurse=False))}
    if train == "all":
        return list(layers)
    calls = _calls(module, layers, image_size)
    before = {name for name, _ in calls[: _start_of_last_stage([cells for _, cells in calls])]}
    names = list(dict.fromkeys(name for name, _ in calls))
    last = [name for name in names if name not in before]
    if len(last) > len(names) / 2:  # one resolution throughout: there is no last stage
        return names[-max(1, round(_LAST_SHARE * len(names))) :]
    return last


def _start_of_last_stage(cells: list[int | None]) -> int:
    """Return the place of the first convolution from which on no map is finer than the last one; 0 without any."""
    known = [(i, n) for i, n in enumerate(cells) if n is not None]
    if not known:
        return 0
    last = known[-1][1]
    last_finer = max((i for i, n in known if n > last), default=-1)
    # Within a stage maps may be smaller still, where they are padded afterwards, as in dlib's network.
    return next(i for i, n in known if i > last_finer and n <= last)


@torch.no_grad()
def _calls(
    module: nn.Module, layers: dict[str, nn.Module], image_size: tuple[int, int]
) -> list[tuple[str, int | None]]:
    """Run an image; return, in order, the layers that were called, and the cells of the map that a convolution gave."""
    calls: list[tuple[str, int | None]] = []

    def note(name):
        def hook(layer, inputs, output):
            # Only convolutions have known axes: other layers may have the channels last. A map of one cell, as in a
            # squeeze-and-excitation block, says nothing about the stage.
            is_map = isinstance(layer, nn.Conv2d) and max(inputs[0].shape[-2:]) > 1
            calls.append((name, output.shape[-2] * output.shape[-1] if is_map else None))

        return hook

    handles = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    try:
        module(torch.zeros(1, 3, *image_size))
    finally:
        for handle in handles:
            handle.remove()
    return calls
