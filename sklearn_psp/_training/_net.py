"""The training loop: skorch's, with batches read by us, weighted losses, mixed precision and a seed for each epoch.

Of skorch's own callbacks the loop uses `EarlyStopping`, for the best epoch too, `GradientNormClipping` and
`PassthroughScoring`. Those that it does not use cannot keep what is promised here:

- `LRScheduler` counts batches, whose number a stream does not tell, and starts anew with every run: the rate here is a
  function of the epoch and of the share of its images that were seen, which a resumed run knows to the bit.
- `EpochScoring` keeps the scores of all classes for a whole epoch on the device: `EpochMetrics` keeps three numbers an
  image. It also takes one array of targets, and these have weights beside them.
- `Checkpoint` and `LoadInitState` write four files one after the other, none of them atomically, and know neither the
  run nor a checksum: see `_checkpoint`.
- `ProgressBar` counts the batches of one epoch: a bar here counts images to the end of the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, PassthroughScoring
from skorch.utils import noop
from torch import nn

from sklearn_psp._training._data import Batches
from sklearn_psp._training._model import PartModel
from sklearn_psp.exceptions import TrainingDivergedError

__all__ = ["BestEpoch", "EpochMetrics", "PartNet", "Progress", "epoch_seed", "seeded"]

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class PartNet(NeuralNet):
    """A `PartModel` in training.

    Parameters
    ----------
    module : PartModel
        The model, taken as it is.
    criterion : torch.nn.Module
        The loss, a number for each image.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        The precision in which the backbone computes.
    seed : int, default=0
        Decides order, dropout and augmentation, epoch by epoch.
    pass_size : int or None, default=None
        Most images that go through the network at a time; the gradients of a batch are summed. None: the whole batch.
    total_epochs : int or None, default=None
        Epochs after which the learning rate has fallen to 0, along a cosine; None leaves it constant.
    **options
        As for `skorch.NeuralNet`.
    """

    def __init__(
        self,
        module: PartModel,
        criterion: nn.Module,
        *,
        precision: str = "float32",
        pass_size: int | None = None,
        seed: int = 0,
        total_epochs: int | None = None,
        **options: Any,
    ):
        self.precision = precision
        self.pass_size = pass_size
        self.seed = seed
        self.total_epochs = total_epochs
        super().__init__(module, criterion, train_split=None, verbose=0, **options)

    @property
    def _default_callbacks(self):
        return [
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
        ]

    def initialize(self) -> PartNet:
        """Make the optimizer and the callbacks anew."""
        super().initialize()
        self.epoch = self.first_epoch = 0
        self.stopped = False
        self.scaler = torch.amp.GradScaler(self.device_.type, enabled=self.precision == "float16")
        self.base_rates = [group["lr"] for group in self.optimizer_.param_groups]
        return self

    @property
    def device_(self) -> torch.device:
        """The device, as an object of torch."""
        return torch.device(self.device)

    def train_epoch(self, data: Batches, validation: Batches | None = None) -> None:
        """Train for one epoch, and evaluate; random states are left as they were."""
        with seeded(epoch_seed(self.seed, self.epoch), self.device_):
            self.train_split = None if validation is None else (lambda dataset: (dataset, validation))
            self.fit_loop(data, epochs=1)
        # The loss of the last step was computed before the step: it cannot show what the step did to the weights.
        if not all(torch.isfinite(parameter).all() for parameter in self.module_.parameters()):
            raise self._diverged("a weight is not finite")
        self.epoch += 1

    def run_single_epoch(self, iterator: Any, **kwargs: Any) -> None:
        """Iterate over the batches; the threads that read them end in any case."""
        if iterator is not None:
            with closing(iterator):
                super().run_single_epoch(iterator, **kwargs)

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks; at the end of an epoch a KeyboardInterrupt of theirs stops the training, as in skorch."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            if method_name != "on_epoch_end":
                raise
            self.stopped = True

    def get_iterator(self, dataset: Batches, training: bool = False) -> Iterator:
        """Return the batches of this epoch."""
        return dataset.batches(epoch_seed(self.seed, self.epoch) if training else None)

    def infer(self, x: torch.Tensor, **fit_params: Any) -> torch.Tensor:
        """Return the scores of a batch, one pass after the other where no gradients are needed."""
        if torch.is_grad_enabled() or not self.pass_size:
            return self._pass(x)
        return torch.cat([self._pass(some) for some in x.split(self.pass_size)])

    def _pass(self, x: torch.Tensor) -> torch.Tensor:
        dtype = _DTYPES.get(self.precision)
        x = x.to(self.device_, non_blocking=True)
        with torch.autocast(self.device_.type, dtype=dtype, enabled=dtype is not None):
            return self.module_(x)

    def get_loss(self, y_pred: torch.Tensor, y_true: Any, X: Any = None, training: bool = False) -> torch.Tensor:
        """Return the weighted loss of a batch; one that is not finite is an error."""
        classes, weights = (tensor.to(self.device_) for tensor in y_true)
        losses = self.criterion_(y_pred, classes)
        if losses.shape != classes.shape:
            raise ValueError(
                f"loss={type(self.criterion_).__name__} gave shape {tuple(losses.shape)} for {len(classes)} images; "
                "it must give a number for each, for weights to apply: use one that knows reduction='none'"
            )
        loss = (losses * weights).mean()
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss is {loss.item()}" if training else f"the validation loss is {loss.item()}")
        return loss

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, torch.Tensor]:
        """Compute loss and gradients."""
        self._set_training(True)
        self._set_rate(len(batch[1][0]))
        losses: list[torch.Tensor] = []
        scores: list[torch.Tensor] = []
        n = self.pass_size or len(batch[0])
        for some in zip(batch[0].split(n), *(labels.split(n) for labels in batch[1]), strict=True):
            y_pred = self._pass(some[0])
            loss = self.get_loss(y_pred, some[1:], training=True) * (len(y_pred) / len(batch[0]))
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
            scores.append(y_pred.detach())
        return {"loss": sum(losses, start=torch.zeros((), device=self.device_)), "y_pred": torch.cat(scores)}

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, torch.Tensor]:
        """Take one step."""
        self._zero_grad_optimizer()
        step = self.train_step_single(batch, **fit_params)
        self.scaler.unscale_(self.optimizer_)  # before gradients are clipped: their length is the true one
        named = list(self.module_.named_parameters())  # an iterator would be used up by the first callback
        self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        self.scaler.step(self.optimizer_)
        self.scaler.update()
        return step

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Count the epoch's images from 0."""
        super().on_epoch_begin(net, dataset_train=dataset_train, dataset_valid=dataset_valid, **kwargs)
        self.history.record("epoch", self.epoch + 1)  # skorch counts the epochs of this object: none before a resume
        self._n_seen = 0
        self._n_images = dataset_train.n_images

    def _diverged(self, what: str) -> TrainingDivergedError:
        rate = self.base_rates[0]
        return TrainingDivergedError(
            f"{what} in epoch {self.epoch + 1}: learning_rate={rate:g} is too high, or the loss is not defined for "
            f"some image; try learning_rate={rate / 10:g}, or clip_norm=1.0"
        )

    def _set_rate(self, n: int) -> None:
        """Set the learning rate of a step of n images, along half a cosine."""
        if self.total_epochs is not None:
            done = self.epoch - self.first_epoch + (self._n_seen / self._n_images if self._n_images else 0)
            factor = 0.5 * (1 + np.cos(np.pi * min(1.0, done / self.total_epochs)))
            for group, rate in zip(self.optimizer_.param_groups, self.base_rates, strict=True):
                group["lr"] = float(rate * factor)
        self._n_seen += n


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch within a block, and restore its random states afterwards."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed would seed every GPU, and only the state of this one is restored.
        torch.default_generator.manual_seed(seed)
        for used in devices:
            with torch.cuda.device(used):
                torch.cuda.manual_seed(seed)
        yield


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch, different for every pair of seed and epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class EpochMetrics(Callback):
    """Metrics of the predictions of an epoch, in skorch's history: `train_accuracy`, `valid_accuracy`, ...

    Parameters
    ----------
    metrics : dict of str to callable
        As `make_metrics` returns them.
    """

    def __init__(self, metrics: dict[str, Callable]):
        self.metrics = metrics

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Forget the last epoch."""
        self._seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, y_pred: Any = None, **kwargs: Any
    ) -> None:
        """Keep the classes, the predictions, and how many classes had a higher score than the true one."""
        classes = batch[1][0].to(y_pred.device)
        scores = y_pred.detach()
        n_better = (scores > scores.gather(1, classes[:, None])).sum(dim=1)
        self._seen[training].append(torch.stack([classes, scores.argmax(dim=1), n_better]).cpu())

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Compute the metrics."""
        for training, prefix in ((True, "train"), (False, "valid")):
            if self._seen[training]:
                seen = torch.cat(self._seen[training], dim=1).numpy()
                for name, metric in self.metrics.items():
                    net.history.record(f"{prefix}_{name}", metric(*seen))


class BestEpoch(EarlyStopping):
    """skorch's early stopping, which keeps the best weights, with a memory that outlasts a run.

    skorch's own forgets at the start of each run and at a pickle: a resumed run would lose its best epoch and wait as
    long again as it had already waited.

    Parameters
    ----------
    patience : int or None
        Epochs without a lower validation loss after which the training stops; None never stops it.
    """

    def __init__(self, patience: int | None):
        super().__init__(patience=math.inf if patience is None else patience, threshold=0.0, load_best=True, sink=noop)
        self.forget()

    @property
    def epoch(self) -> int | None:
        """The best epoch, from 1; None before there is one."""
        return self.best_epoch_ or None

    @property
    def weights(self) -> dict[str, torch.Tensor] | None:
        """The weights of the model after that epoch."""
        return self.best_model_weights_

    def forget(self) -> None:
        """Forget the epochs so far."""
        super().on_train_begin(None)

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Go on where the last run ended."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Keep a better model, or count a miss; without validation data there is nothing to judge by."""
        if net.history[-1].get("valid_loss") is not None:
            super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Leave the last weights in the model: `Training.restore_best` is called when no run follows."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint keeps, as plain values and tensors."""
        return {
            "epoch": self.best_epoch_,
            "loss": float(self.dynamic_threshold_),  # a checkpoint takes no numpy scalars
            "misses": self.misses_,
            "weights": self.best_model_weights_,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state that a checkpoint kept."""
        self.best_epoch_, self.dynamic_threshold_ = state["epoch"], state["loss"]
        self.misses_, self.best_model_weights_ = state["misses"], state["weights"]


class Progress(Callback):
    """A bar of images, with the figures of the last epoch.

    Parameters
    ----------
    bar : object
        With `update(n)` and `set_postfix_str(text)`, as tqdm's.
    """

    def __init__(self, bar: Any):
        self.bar = bar

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        """Count images that were trained on."""
        if training:
            self.bar.update(len(batch[1][0]))

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Show the figures."""
        row = {name: value for name, value in net.history[-1].items() if isinstance(value, float)}
        shown = ", ".join(f"{name} {value:.3f}" for name, value in row.items())
        self.bar.set_postfix_str(f"epoch {net.epoch + 1}: {shown}")
