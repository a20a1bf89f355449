"""Losses, metrics and optimizers of a training: by the names people know, or as objects of the user's own."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score, recall_score
from torch import nn

from sklearn_psp.utils._names import did_you_mean

__all__ = [
    "LOSSES",
    "METRICS",
    "OPTIMIZERS",
    "AdditiveAngularMargin",
    "is_margin_loss",
    "make_loss",
    "make_metrics",
    "make_optimizer",
]


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
    r"""Cross-entropy in which easy images count less: :math:`-(1 - p_y)^\gamma \log p_y`.

    Parameters
    ----------
    gamma : float, default=2.0
        How much less: 0 is the cross-entropy.

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
        # A power below 1 has an infinite gradient at 0, where the image is classified perfectly.
        left = (-torch.expm1(log_share)).clamp_min(1e-12)
        return -(left**self.gamma) * log_share


# The reduction is ours: weights of images and classes apply to a number for each image.
LOSSES: dict[str, Callable[..., nn.Module]] = {
    "categorical_crossentropy": lambda **params: nn.CrossEntropyLoss(reduction="none", **params),
    "label_smoothing": lambda label_smoothing=0.1, **params: nn.CrossEntropyLoss(
        reduction="none", label_smoothing=label_smoothing, **params
    ),
    "arcface": AdditiveAngularMargin,
    "focal": FocalLoss,
}


def is_margin_loss(loss: Any) -> bool:
    """Tell whether the scores that a loss takes are cosines."""
    return loss == "arcface" or isinstance(loss, AdditiveAngularMargin) or loss is AdditiveAngularMargin


def make_loss(loss: Any, params: dict[str, Any] | None = None) -> nn.Module:
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


def _of_predictions(score: Callable, **options: Any) -> Callable[..., float]:
    return lambda y_true, y_pred, n_better: float(score(y_true, y_pred, **options))


def _recall_by_class(y_true, y_pred):
    # scikit-learn's balanced accuracy warns of a class that is predicted and not there.
    return recall_score(y_true, y_pred, labels=np.unique(y_true), average="macro")


METRICS: dict[str, Callable[..., float]] = {
    "accuracy": _of_predictions(accuracy_score),
    "balanced_accuracy": _of_predictions(_recall_by_class),
    "f1_macro": _of_predictions(f1_score, average="macro", zero_division=0.0),
    "top_5_accuracy": lambda y_true, y_pred, n_better: float((n_better < 5).mean()),
}
# Columns that `history_` has without any metric.
_TAKEN = ("epoch", "loss", "val_loss", "learning_rate")


def make_metrics(metrics: Sequence[str | Callable], classes: np.ndarray) -> dict[str, Callable]:
    """Return functions of an epoch's predictions by their column's name.

    Parameters
    ----------
    metrics : sequence of str or callable
        Keys of `METRICS`, or functions `metric(y_true, y_pred)` of labels, as scikit-learn's.
    classes : ndarray of shape (n_classes,)
        The labels.

    Returns
    -------
    dict of str to callable
        Each takes `(y_true, y_pred, n_better)`, ndarrays of shape (n,), integer: numbers of classes, and how many
        classes have a higher score than the true one.

    Raises
    ------
    ValueError
        If a name is unknown, occurs twice, or is that of another column of `history_`.
    """
    found: dict[str, Callable[..., float]] = {}
    for metric in metrics:
        if isinstance(metric, str):
            if metric not in METRICS:
                hint = did_you_mean(metric, METRICS)
                raise ValueError(f"metrics: {metric!r} is unknown: {hint}It is one of {list(METRICS)}, or a function")
            name, function = metric, METRICS[metric]
        else:
            name = getattr(metric, "__name__", type(metric).__name__)
            function = _of_labels(metric, classes)
        if name in found:
            raise ValueError(f"metrics: {name!r} occurs twice; each is a column of history_")
        if name in _TAKEN:
            raise ValueError(f"metrics: history_ has a column {name!r} already; give the function another name")
        found[name] = function
    return found


def _of_labels(metric, classes):
    return lambda y_true, y_pred, n_better: float(metric(classes[y_true], classes[y_pred]))


OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def make_optimizer(optimizer: Any) -> type[torch.optim.Optimizer]:
    """Return the class of a name of `OPTIMIZERS`, or the class that was given.

    Parameters
    ----------
    optimizer : str or subclass of torch.optim.Optimizer
        The parameter.

    Returns
    -------
    type
        The class.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if not isinstance(optimizer, str):
        return optimizer
    if optimizer.lower() not in OPTIMIZERS:
        hint = did_you_mean(optimizer.lower(), OPTIMIZERS)
        raise ValueError(
            f"optimizer={optimizer!r} is unknown: {hint}It is one of {list(OPTIMIZERS)}, or a class of torch.optim"
        )
    return OPTIMIZERS[optimizer.lower()]
