"""One model in training: epochs, history, the best of them, and what a checkpoint needs to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from sklearn_psp._training._callbacks import BestModel, EpochMetrics, Patience, Progress
from sklearn_psp._training._checkpoint import Checkpoint
from sklearn_psp._training._data import _Batches
from sklearn_psp._training._losses import make_loss
from sklearn_psp._training._model import PartModel
from sklearn_psp._training._net import PartNet
from sklearn_psp.utils._names import did_you_mean
from sklearn_psp.utils._progress import progress

__all__ = ["OPTIMIZERS", "Settings", "Training", "make_optimizer"]

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

# The maps of more images do not fit the processor's cache: benchmarks/learning.py prints what that costs.
_CPU_PASS_SIZE = 8


@dataclass(frozen=True)
class Settings:
    """How a model is trained; the parameters of `PSPNetClassifier` of these names.

    Attributes
    ----------
    loss, loss_params, optimizer, optimizer_params, learning_rate, schedule, epochs, clip_norm, patience, callbacks
        As there.
    metrics : dict of str to callable
        As `make_metrics` returns them.
    device : torch.device
        Where.
    precision : {"float32", "bfloat16", "float16"}
        In which the trunk computes.
    seed : int
        Of everything random.
    """

    loss: Any
    learning_rate: float
    epochs: int
    device: torch.device
    seed: int
    loss_params: dict | None = None
    optimizer: Any = "adam"
    optimizer_params: dict | None = None
    schedule: str = "cosine"
    clip_norm: float | None = None
    patience: int | None = None
    metrics: dict[str, Callable] = field(default_factory=dict)
    callbacks: Sequence = ()
    precision: str = "float32"


class Training:
    """A model, its optimizer, and what happened so far.

    Parameters
    ----------
    model : PartModel
        The model; trained in place, on the settings' device.
    settings : Settings
        How.

    Attributes
    ----------
    history : list of dict
        A row per epoch.
    best_epoch : int or None
        The epoch, from 1, whose model `restore_best` takes; None without validation data.
    epochs : int
        How many there are to be in all.
    kept : dict
        What else a checkpoint keeps, as plain values.
    """

    def __init__(self, model: PartModel, settings: Settings):
        self.settings = settings
        self.history: list[dict[str, float]] = []
        self.epochs = settings.epochs
        self.kept: dict[str, Any] = {}
        self.best = BestModel()
        callbacks = [EpochMetrics(settings.metrics), self.best]
        if settings.patience is not None:
            callbacks.append(Patience(settings.patience, self.best))
        self.net = PartNet(
            model,
            make_loss(settings.loss, settings.loss_params),
            optimizer=make_optimizer(settings.optimizer),
            lr=settings.learning_rate,
            callbacks=[*callbacks, *settings.callbacks],
            device=str(settings.device),
            precision=settings.precision,
            clip_norm=settings.clip_norm,
            pass_size=_pass_size(model, settings.device),
            seed=settings.seed,
            total_epochs=settings.epochs if settings.schedule == "cosine" else None,
            **{f"optimizer__{name}": value for name, value in (settings.optimizer_params or {}).items()},
        )
        self.net.initialize()

    @property
    def model(self) -> PartModel:
        """The model."""
        return self.net.module_

    @property
    def best_epoch(self):
        return self.best.epoch_

    def run(
        self,
        data: _Batches,
        validation: _Batches | None = None,
        *,
        epochs: int,
        checkpoint: Checkpoint | None = None,
        on_epoch: Callable[[Callable[[], None]], bool] | None = None,
        description: str = "training",
        verbose: int = 0,
    ) -> None:
        """Train until there are so many epochs, or something stops it.

        Parameters
        ----------
        data, validation : _Batches
            What is learned from, and what the model is judged by.
        epochs : int
            How many epochs there are to be in all.
        checkpoint : Checkpoint or None, default=None
            Where the state is kept after every epoch.
        on_epoch : callable or None, default=None
            Called for each epoch with a function that trains it; returns whether to stop.
        description : str, default="training"
            Of the bar.
        verbose : int, default=0
            Above 0, a bar is shown.
        """
        net = self.net
        left = max(0, epochs - net.epoch)
        total = None if data.n_images is None else left * data.n_images
        net.stopped = False  # what ended an earlier run does not end this one
        train = partial(self._train_epoch, data, validation)
        net.notify("on_train_begin", X=data, y=None)
        with progress(total, description, "image", verbose) as bar:
            others = [item for item in net.callbacks_ if not isinstance(item[1], Progress)]
            net.callbacks_ = [*others, ("bar", Progress(bar))]
            while net.epoch < epochs and not net.stopped:
                stop = train() if on_epoch is None else on_epoch(train)
                net.stopped = net.stopped or bool(stop)
                if checkpoint is not None:
                    checkpoint.save(self.state(finished=net.stopped or net.epoch >= epochs))
        net.notify("on_train_end", X=data, y=None)

    def linear_head(self) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients (n_classes, n_features) and intercepts (n_classes,) on the embedding, float32."""
        # A margin loss scales cosines by itself.
        head = self.model.linear_head(getattr(self.net.criterion_, "scale", 1.0))
        coef, intercept = (tensor.detach().cpu().numpy().copy() for tensor in head)
        return coef, intercept

    def restore_best(self) -> None:
        """Take the model of the best epoch, where there is one."""
        if self.best.state_ is not None:
            self.model.load_state_dict(self.best.state_)

    def state(self, *, finished: bool) -> dict[str, Any]:
        """Return all that is needed to go on, as tensors and plain values."""
        return {
            **self.kept,
            "finished": finished,
            "epoch": self.net.epoch,
            "history": self.history,
            "model": self.model.state_dict(),
            "loss": self.net.criterion_.state_dict(),
            "optimizer": self.net.optimizer_.state_dict(),
            "scaler": self.net.scaler.state_dict(),
            "best": self.best.state_dict(),
            "rates": self.net.base_rates,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.net.criterion_.load_state_dict(state["loss"])
        self.net.optimizer_.load_state_dict(state["optimizer"])
        self.net.scaler.load_state_dict(state["scaler"])
        self.net.base_rates = state["rates"]
        self.best.load_state_dict(state["best"])
        self.history = state["history"]
        self.net.epoch = state["epoch"]

    def restart(self, epochs: int) -> None:
        """Let there be so many epochs more, with a learning rate that starts anew."""
        self.epochs = self.net.epoch + epochs
        self.net.first_epoch = self.net.epoch
        self.net.total_epochs = epochs if self.settings.schedule == "cosine" else None
        self.best.forget()

    def _train_epoch(self, data, validation):
        self.net.train_epoch(data, validation)
        row = self.net.history[-1]
        names = ["loss", *self.settings.metrics]
        found = {name: float(row[f"train_{name}"]) for name in names}
        if validation is not None:
            found |= {f"val_{name}": float(row[f"valid_{name}"]) for name in names}
        self.history.append(
            {"epoch": self.net.epoch, **found, "learning_rate": self.net.optimizer_.param_groups[0]["lr"]}
        )


def _pass_size(model, device):
    """Return how many images go through the network at a time; batch statistics are of a whole batch."""
    if device.type != "cpu" or model.trunk is None or model.trunk.follows_batches:
        return None
    return _CPU_PASS_SIZE


def make_optimizer(optimizer) -> type[torch.optim.Optimizer]:
    """Return the class of a name of `OPTIMIZERS`, or the class that was given.

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
