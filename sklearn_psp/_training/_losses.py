"""Losses: by the names people know, one number for each image."""

from __future__ import annotations

import copy
import inspect
import math

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_psp.utils._names import did_you_mean

__all__ = ["LOSSES", "AdditiveAngularMargin", "is_margin_loss", "make_loss"]


class AdditiveAngularMargin(nn.Module):
    r"""ArcFace: the angle to the own class has to be smaller by a margin.

    .. math::
        L = -\log \frac{e^{s \cos(\theta_y + m)}}{e^{s \cos(\theta_y + m)} + \sum_{j \ne y} e^{s \cos \theta_j}}

    Parameters
    ----------
    scale : float, default=30.0
        The factor s.
    margin : float, default=0.3
        The margin m, in radians.
    label_smoothing : float, default=0.0
        As of the cross-entropy.

    References
    ----------
    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, equation 3; the paper
    uses s = 64 and m = 0.5 for millions of faces.
    """

    def __init__(self, scale: float = 30.0, margin: float = 0.3, label_smoothing: float = 0.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.label_smoothing = label_smoothing

    def forward(self, scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Return the loss of each image.

        Parameters
        ----------
        scores : torch.Tensor of shape (n, n_classes)
            Cosines.
        classes : torch.Tensor of shape (n,), int64
            The classes.
        """
        cosine = scores.gather(1, classes[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        angle = torch.acos(cosine) + self.margin if self.training else torch.acos(cosine)
        # Beyond pi the cosine rises again: there the loss goes on as a line (as in the authors' code).
        own = torch.where(angle <= torch.pi, torch.cos(angle), cosine - self.margin * math.sin(math.pi - self.margin))
        scores = scores.scatter(1, classes[:, None], own)
        return F.cross_entropy(self.scale * scores, classes, reduction="none", label_smoothing=self.label_smoothing)


class FocalLoss(nn.Module):
    r"""Cross-entropy that leaves the easy images aside: :math:`-(1 - p_y)^\gamma \log p_y`.

    Parameters
    ----------
    gamma : float, default=2.0
        How much.

    References
    ----------
    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4.
    """

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Return the loss of each image."""
        log_share = -F.cross_entropy(scores, classes, reduction="none")
        # Where nothing is left, a power below 1 would have no gradient.
        left = (-torch.expm1(log_share)).clamp_min(1e-12)
        return -(left**self.gamma) * log_share


LOSSES = {
    "categorical_crossentropy": lambda **params: nn.CrossEntropyLoss(reduction="none", **params),
    "label_smoothing": lambda label_smoothing=0.1, **params: nn.CrossEntropyLoss(
        reduction="none", label_smoothing=label_smoothing, **params
    ),
    "arcface": AdditiveAngularMargin,
    "focal": FocalLoss,
}


def is_margin_loss(loss) -> bool:
    """Tell whether a loss wants cosines for scores."""
    return loss == "arcface" or isinstance(loss, AdditiveAngularMargin) or loss is AdditiveAngularMargin


def make_loss(loss, params: dict | None = None) -> nn.Module:
    """Return a loss that gives a number for each image.

    Parameters
    ----------
    loss : str, subclass or instance of torch.nn.Module
        A key of `LOSSES`, or a loss of torch's or your own, `loss(scores, classes)`. If it has a `reduction`, that is
        set to "none" on a copy.
    params : dict or None, default=None
        Parameters of the name or the class.

    Returns
    -------
    torch.nn.Module
        The loss.

    Raises
    ------
    ValueError
        If the name is unknown, or parameters come with an instance.
    """
    params = params or {}
    if isinstance(loss, str):
        if loss not in LOSSES:
            hint = did_you_mean(loss, LOSSES)
            raise ValueError(f"loss={loss!r} is unknown: {hint}It is one of {list(LOSSES)}, or a loss of torch")
        return LOSSES[loss](**params)
    if isinstance(loss, type):
        if "reduction" in inspect.signature(loss).parameters:
            params = {"reduction": "none", **params}
        return loss(**params)
    if params:
        raise ValueError(
            f"loss_params={params!r} are those of a name or a class, but loss is an instance: set them there"
        )
    loss = copy.deepcopy(loss)
    if hasattr(loss, "reduction"):
        loss.reduction = "none"
    return loss
