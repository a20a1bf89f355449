"""The training of one model: its epochs, their history, the best of them, and a state from which it can be resumed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from skorch.callbacks import GradientNormClipping

from sklearn_psp._training._checkpoint import Checkpoint
from sklearn_psp._training._data import Batches
from sklearn_psp._training._model import PartModel
from sklearn_psp._training._net import BestEpoch, EpochMetrics, PartNet, Progress
from sklearn_psp._training._objectives import make_loss, make_optimizer
from sklearn_psp.utils._libraries import progress

__all__ = ["Training", "TrainingSettings"]

# The feature maps of more images do not fit the processor's cache: benchmarks/learning.py prints what that costs.
_CPU_PASS_SIZE = 8


@dataclass(frozen=True)
class TrainingSettings:
    """TrainingSettings of a training; the parameters of `PSPNetClassifier` of these names.

    Attributes
    ----------
    loss, loss_params, optimizer, optimizer_params, learning_rate, schedule, epochs, clip_norm, patience, callbacks
        As there.
    metrics : dict of str to callable
        As `make_metrics` returns them.
    device : torch.device
        The device on which the model is trained.
    precision : {"float32", "bfloat16", "float16"}
        The precision in which the backbone computes.
    seed : int
        The seed of everything random.
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
    """A model, its optimizer, and the epochs so far.

    Parameters
    ----------
    model : PartModel
        The model; trained in place, on the settings' device.
    settings : TrainingSettings
        The settings.

    Attributes
    ----------
    history : list of dict
        A row per epoch.
    best_epoch : int or None
        The epoch, from 1, whose model `restore_best` takes; None without validation data.
    epochs : int
        The number of epochs in all.
    kept : dict
        Other plain values that a checkpoint keeps.
    """

    def __init__(self, model: PartModel, settings: TrainingSettings):
        self.settings = settings
        self.history: list[dict[str, float]] = []
        self.epochs = settings.epochs
        self.kept: dict[str, Any] = {}
        self.best = BestEpoch(settings.patience)
        # Clipping comes before the callbacks of the user, who sees the gradients that the optimizer sees.
        callbacks = [EpochMetrics(settings.metrics), self.best, GradientNormClipping(settings.clip_norm)]
        self.net = PartNet(
            model,
            make_loss(settings.loss, settings.loss_params),
            optimizer=make_optimizer(settings.optimizer),
            lr=settings.learning_rate,
            callbacks=[*callbacks, *settings.callbacks],
            device=str(settings.device),
            precision=settings.precision,
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
    def best_epoch(self) -> int | None:
        """The best epoch."""
        return self.best.epoch

    def run(
        self,
        data: Batches,
        validation: Batches | None = None,
        *,
        epochs: int,
        checkpoint: Checkpoint | None = None,
        on_epoch: Callable[[Callable[[], None]], bool] | None = None,
        description: str = "training",
        verbose: int = 0,
    ) -> None:
        """Train up to a number of epochs, unless a callback stops it before.

        Parameters
        ----------
        data : Batches
            The training images.
        validation : Batches or None, default=None
            The images by which the model is judged after every epoch.
        epochs : int
            The number of epochs in all, those of earlier runs included.
        checkpoint : Checkpoint or None, default=None
            The file in which the state is kept after every epoch.
        on_epoch : callable or None, default=None
            Called for each epoch with a function that trains it; returns whether to stop.
        description : str, default="training"
            The title of the bar.
        verbose : int, default=0
            Above 0, a bar is shown.
        """
        net = self.net
        left = max(0, epochs - net.epoch)
        total = None if data.n_images is None else left * data.n_images
        net.stopped = False  # an earlier run may have been stopped; this one has not
        train = partial(self._train_epoch, data, validation)
        net.notify("on_train_begin", X=data, y=None)
        with progress(total, description, "image", verbose) as bar:
            # The bar of an earlier run is closed. It is told apart by its class: a user's callback may have its name.
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
        # A margin loss multiplies cosines by its own scale; the head of the classifier has to do it.
        head = self.model.linear_head(getattr(self.net.criterion_, "scale", 1.0))
        coef, intercept = (tensor.detach().cpu().numpy().copy() for tensor in head)
        return coef, intercept

    def restore_best(self) -> None:
        """Take the weights of the best epoch, where there is one."""
        if self.best.weights is not None:
            self.model.load_state_dict(self.best.weights)

    def state(self, *, finished: bool) -> dict[str, Any]:
        """Return the state from which `resume` goes on, as tensors and plain values.

        The tensors are those of the model and its optimizer: the next step changes them.

        Parameters
        ----------
        finished : bool
            Whether the training has ended, by the number of its epochs or because it was stopped.

        Returns
        -------
        dict of str to object
            The state.
        """
        return {
            **self.kept,
            "finished": finished,
            "epoch": self.net.epoch,
            "history": list(self.history),
            "model": self.model.state_dict(),
            "loss": self.net.criterion_.state_dict(),
            "optimizer": self.net.optimizer_.state_dict(),
            "scaler": self.net.scaler.state_dict(),
            "best": self.best.state_dict(),
            "rates": self.net.base_rates,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state, which is left as it is: it may be that of a fitted classifier.

        Parameters
        ----------
        state : dict of str to object
            As `state` returned it, of a training with the same settings but for `epochs`.
        """
        self.model.load_state_dict(state["model"])
        self.net.criterion_.load_state_dict(state["loss"])
        # torch takes the tensors of an optimizer's state as they are, and would change them in place.
        self.net.optimizer_.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.net.scaler.load_state_dict(state["scaler"])
        self.net.base_rates = list(state["rates"])
        self.best.load_state_dict(state["best"])
        self.history = list(state["history"])
        self.net.epoch = state["epoch"]

    def continue_from(self, history: list[dict[str, float]]) -> None:
        """Take the epochs of an earlier training whose model this one started from; its optimizer is not known."""
        self.history = list(history)
        self.net.epoch = len(history)

    def restart(self, epochs: int) -> None:
        """Add some epochs, over which the learning rate falls anew, and of which the best is sought."""
        self.epochs = self.net.epoch + epochs
        self.net.first_epoch = self.net.epoch
        self.net.total_epochs = epochs if self.settings.schedule == "cosine" else None
        self.best.forget()

    def keep_rate(self) -> None:
        """Go on without an end: at the first learning rate, with no best epoch."""
        net = self.net
        net.total_epochs = None
        for group, rate in zip(net.optimizer_.param_groups, net.base_rates, strict=True):
            group["lr"] = rate
        self.best.forget()

    def _train_epoch(self, data: Batches, validation: Batches | None) -> None:
        self.net.train_epoch(data, validation)
        row = self.net.history[-1]
        names = ["loss", *self.settings.metrics]
        found = {name: float(row[f"train_{name}"]) for name in names}
        if validation is not None:
            found |= {f"val_{name}": float(row[f"valid_{name}"]) for name in names}
        self.history.append(
            {"epoch": self.net.epoch, **found, "learning_rate": self.net.optimizer_.param_groups[0]["lr"]}
        )


def _pass_size(model: PartModel, device: torch.device) -> int | None:
    """Return how many images go through the network at a time; statistics of batches need the whole batch."""
    if device.type != "cpu" or model.backbone is None or model.backbone.follows_batches:
        return None
    return _CPU_PASS_SIZE
