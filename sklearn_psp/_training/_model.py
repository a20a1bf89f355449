"""The network that is trained: trunk, parts, one global feature, and a linear head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_psp._nets import PyramidPooling, Views, normalized, pixel_scale

__all__ = ["PartModel", "Trunk"]


class Trunk(nn.Module):
    """A backbone with its preprocessing: images in, feature maps of every view out.

    Parameters
    ----------
    module : torch.nn.Module
        Maps normalised images to feature maps.
    mean, std : tuple of three floats
        Pixels in [0, 1] become `(pixel - mean) / std`.
    views : Views
        What is seen of an image.
    follows_batches : bool, default=False
        Whether batch normalisation uses the statistics of the batch in training, as a network that starts from random
        weights needs it. Else the network keeps those it has: batches are small.
    """

    def __init__(self, module: nn.Module, mean, std, views: Views, *, follows_batches: bool = False):
        super().__init__()
        self.module = module
        self.follows_batches = follows_batches
        self.views = views
        for name, numbers in zip(("factor", "offset"), pixel_scale(mean, std), strict=True):
            self.register_buffer(name, numbers, persistent=False)

    def train(self, mode: bool = True):
        """Set the mode; without `follows_batches` that of evaluation."""
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
        The parts, how they are pooled and joined, weights and projections to start from.
    center : torch.Tensor of shape (n_features,)
        What is subtracted of the global feature.
    n_classes : int
        Number of classes.
    trunk : Trunk or None, default=None
        What gives feature maps; with None, the model is fed local features.
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
        trunk: Trunk | None = None,
        learn_weights: bool = False,
        learn_projection: bool = False,
        cosine: bool = False,
        dropout: float = 0.0,
        part_dropout: float = 0.0,
    ):
        super().__init__()
        self.trunk = trunk
        self.pooling = pooling
        self.cosine = cosine
        self.dropout = dropout
        self.part_dropout = part_dropout
        self.register_buffer("center", center)
        n_parts = len(pooling.sequence)
        self.log_weights = nn.Parameter(torch.zeros(n_parts)) if learn_weights else None
        if learn_projection:
            pooling.projection = nn.Parameter(pooling.projection)
        self.head = nn.Linear(len(center), n_classes)
        with torch.no_grad():
            self.head.bias.zero_()
            if cosine:
                self.head.bias.requires_grad_(False)
            else:
                self.head.weight.zero_()

    def learned_weights(self) -> torch.Tensor | None:
        """Return the weights w_i that are trained, shape (n_parts,), if they are."""
        if self.log_weights is None:
            return None
        return torch.softmax(self.log_weights, dim=0) * len(self.log_weights)

    def local_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the f_i, averaged over the views, shape (n, n_parts, n_channels)."""
        return self.pooling.average([self.pooling.local_features(maps) for maps in self.trunk(images)])

    def embed(self, parts: torch.Tensor) -> torch.Tensor:
        """Return the global features, centred, of unit length, of local features (n, n_parts, n_channels)."""
        parts = self.pooling.project(parts)
        weights = self._weights(len(parts))
        if self.pooling.aggregation == "concat":
            joined = (parts * weights[..., None]).flatten(1)
        else:
            joined = (weights[..., None, :] @ parts).squeeze(-2)
        return F.normalize(F.normalize(joined, dim=-1) - self.center, dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores (n, n_classes) of images, or of local features (n, n_parts, n_channels) without a trunk."""
        parts = x if self.trunk is None else self.local_features(x)
        # Autocast ends here: the head is small, and a difference of unit vectors needs its digits.
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

    def _weights(self, n):
        """Return the weights of parts, (n_parts,) or, where some are left out, (n, n_parts)."""
        weights = self.pooling.weights
        if self.log_weights is not None:
            weights = weights * self.learned_weights()
        if not (self.training and self.part_dropout):
            return weights
        kept = torch.rand(n, len(weights), device=weights.device) >= self.part_dropout
        kept |= ~kept.any(dim=1, keepdim=True)  # an image of which nothing is left is taken whole
        return weights * kept
