"""The training loop: skorch's, with images read by us, weighted losses, mixed precision and a seed for each epoch."""

from __future__ import annotations

from contextlib import closing, contextmanager

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import PassthroughScoring
from torch.nn.utils import clip_grad_norm_

from sklearn_psp.exceptions import TrainingDivergedError

__all__ = ["PartNet", "epoch_seed", "seeded"]

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
        What the trunk computes in.
    clip_norm : float or None, default=None
        Longest gradient.
    seed : int, default=0
        Decides order, dropout and augmentation, epoch by epoch.
    pass_size : int or None, default=None
        Most images that go through the network at a time; the gradients of a batch are added up. None: the batch.
    total_epochs : int or None, default=None
        Epochs after which the learning rate has come down to 0, along a cosine; None leaves it.
    **options
        Those of `skorch.NeuralNet`.
    """

    def __init__(
        self,
        module,
        criterion,
        *,
        precision="float32",
        clip_norm=None,
        pass_size=None,
        seed=0,
        total_epochs=None,
        **options,
    ):
        self.precision = precision
        self.clip_norm = clip_norm
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

    def initialize(self):
        """Make the optimizer and the callbacks anew."""
        super().initialize()
        self.epoch = self.first_epoch = 0
        self.stopped = False
        self.scaler = torch.amp.GradScaler(self.device_.type, enabled=self.precision == "float16")
        self.base_rates = [group["lr"] for group in self.optimizer_.param_groups]
        return self

    @property
    def device_(self):
        """The device, as torch has it."""
        return torch.device(self.device)

    def train_epoch(self, data, validation=None):
        """Train for one epoch, and evaluate; random states are left as they were."""
        with seeded(epoch_seed(self.seed, self.epoch), self.device_):
            self.train_split = None if validation is None else (lambda dataset: (dataset, validation))
            self.fit_loop(data, epochs=1)
        # The loss of the last step was finite, but that was before the step.
        if not all(torch.isfinite(parameter).all() for parameter in self.module_.parameters()):
            raise self._diverged("a weight is not finite")
        self.epoch += 1

    def run_single_epoch(self, iterator, **kwargs):
        """Go through the batches; whatever happens, the threads that read them end."""
        if iterator is not None:
            with closing(iterator):
                super().run_single_epoch(iterator, **kwargs)

    def notify(self, method_name, **cb_kwargs):
        """Tell the callbacks; at the end of an epoch they stop the training by a KeyboardInterrupt, as in skorch."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            if method_name != "on_epoch_end":
                raise
            self.stopped = True

    def get_iterator(self, dataset, training=False):
        """Return the batches of this epoch."""
        return dataset.batches(epoch_seed(self.seed, self.epoch) if training else None)

    def infer(self, x, **fit_params):
        """Return the scores of a batch, one pass after the other where no gradients are needed."""
        if torch.is_grad_enabled() or not self.pass_size:
            return self._pass(x)
        return torch.cat([self._pass(some) for some in x.split(self.pass_size)])

    def _pass(self, x):
        dtype = _DTYPES.get(self.precision)
        x = x.to(self.device_, non_blocking=True)
        with torch.autocast(self.device_.type, dtype=dtype, enabled=dtype is not None):
            return self.module_(x)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the weighted loss of a batch, and refuse to go on from what is not a number."""
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

    def train_step_single(self, batch, **fit_params):
        """Compute loss and gradients."""
        self._set_training(True)
        self._set_rate(len(batch[1][0]))
        losses, scores = [], []
        n = self.pass_size or len(batch[0])
        for some in zip(batch[0].split(n), *(labels.split(n) for labels in batch[1]), strict=True):
            y_pred = self._pass(some[0])
            loss = self.get_loss(y_pred, some[1:], training=True) * (len(y_pred) / len(batch[0]))
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
            scores.append(y_pred.detach())
        return {"loss": sum(losses), "y_pred": torch.cat(scores)}

    def train_step(self, batch, **fit_params):
        """Take one step."""
        self._zero_grad_optimizer()
        step = self.train_step_single(batch, **fit_params)
        self.scaler.unscale_(self.optimizer_)
        if self.clip_norm is not None:
            clip_grad_norm_(self.module_.parameters(), self.clip_norm)
        named = list(self.module_.named_parameters())  # an iterator would be empty for all callbacks but the first
        self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        self.scaler.step(self.optimizer_)
        self.scaler.update()
        return step

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Count the epoch's images from 0."""
        super().on_epoch_begin(net, dataset_train=dataset_train, dataset_valid=dataset_valid, **kwargs)
        self._n_seen = 0
        self._n_images = dataset_train.n_images

    def _diverged(self, what):
        rate = self.base_rates[0]
        return TrainingDivergedError(
            f"{what} in epoch {self.epoch + 1}: learning_rate={rate:g} is too high, or the loss is not defined for "
            f"some image; try learning_rate={rate / 10:g}, or clip_norm=1.0"
        )

    def _set_rate(self, n):
        """Bring the learning rate down along half a cosine."""
        if self.total_epochs is not None:
            done = self.epoch - self.first_epoch + (self._n_seen / self._n_images if self._n_images else 0)
            factor = 0.5 * (1 + np.cos(np.pi * min(1.0, done / self.total_epochs)))
            for group, rate in zip(self.optimizer_.param_groups, self.base_rates, strict=True):
                group["lr"] = float(rate * factor)
        self._n_seen += n


@contextmanager
def seeded(seed: int, device: torch.device | None = None):
    """Seed torch within a block, and leave its random states as they were."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed would seed every GPU, also those that nobody puts back.
        torch.default_generator.manual_seed(seed)
        for used in devices:
            with torch.cuda.device(used):
                torch.cuda.manual_seed(seed)
        yield


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch: other seeds have other orders in every epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
