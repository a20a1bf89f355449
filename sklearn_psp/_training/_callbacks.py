"""What happens at the end of an epoch: metrics, the best model, and whether to go on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from skorch.callbacks import Callback

__all__ = ["BestModel", "EpochMetrics", "Patience", "Progress"]


class EpochMetrics(Callback):
    """Metrics of the predictions of an epoch, into skorch's history: `train_accuracy`, `valid_accuracy`, ...

    Parameters
    ----------
    metrics : dict of str to callable
        As `make_metrics` returns them.
    """

    def __init__(self, metrics: dict[str, Callable]):
        self.metrics = metrics

    def on_epoch_begin(self, net, **kwargs):
        """Forget the last epoch."""
        self._seen = {True: [], False: []}

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Note what was predicted."""
        classes = batch[1][0].to(y_pred.device)
        scores = y_pred.detach()
        n_better = (scores > scores.gather(1, classes[:, None])).sum(dim=1)
        self._seen[training].append(torch.stack([classes, scores.argmax(dim=1), n_better]).cpu())

    def on_epoch_end(self, net, **kwargs):
        """Compute the metrics."""
        for training, prefix in ((True, "train"), (False, "valid")):
            if self._seen[training]:
                seen = torch.cat(self._seen[training], dim=1).numpy()
                for name, metric in self.metrics.items():
                    net.history.record(f"{prefix}_{name}", metric(*seen))


class BestModel(Callback):
    """The model of the epoch with the least validation loss.

    Attributes
    ----------
    epoch_ : int or None
        That epoch, from 1.
    loss_ : float
        Its validation loss.
    state_ : dict of str to torch.Tensor
        Its weights, on the CPU.
    """

    def __init__(self):
        self.forget()

    def forget(self):
        """Forget the epochs so far."""
        self.epoch_, self.loss_, self.state_ = None, math.inf, None

    def on_epoch_end(self, net, **kwargs):
        """Keep a better model."""
        loss = net.history[-1].get("valid_loss")
        if loss is not None and loss < self.loss_:
            self.epoch_, self.loss_ = net.epoch + 1, float(loss)  # a checkpoint takes no numpy scalars
            self.state_ = {name: tensor.detach().cpu().clone() for name, tensor in net.module_.state_dict().items()}

    def state_dict(self):
        """Return what a checkpoint keeps."""
        return {"epoch": self.epoch_, "loss": self.loss_, "state": self.state_}

    def load_state_dict(self, state):
        """Take what a checkpoint kept."""
        self.epoch_, self.loss_, self.state_ = state["epoch"], state["loss"], state["state"]


class Patience(Callback):
    """End the training when the validation loss has not become less for some epochs.

    Parameters
    ----------
    patience : int
        How many.
    best : BestModel
        Knows the best epoch so far; called before.
    """

    def __init__(self, patience: int, best: BestModel):
        self.patience = patience
        self.best = best

    def on_epoch_end(self, net, **kwargs):
        """Stop, as skorch's callbacks do."""
        if self.best.epoch_ is not None and net.epoch + 1 - self.best.epoch_ >= self.patience:
            raise KeyboardInterrupt


class Progress(Callback):
    """A bar of images, with the last epoch's figures.

    Parameters
    ----------
    bar : object
        With `update(n)` and `set_postfix_str(text)`, as tqdm's.
    """

    def __init__(self, bar):
        self.bar = bar

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Count images that were trained on."""
        if training:
            self.bar.update(len(batch[1][0]))

    def on_epoch_end(self, net, **kwargs):
        """Show the figures."""
        row = {name: value for name, value in net.history[-1].items() if isinstance(value, float)}
        shown = ", ".join(f"{name} {value:.3f}" for name, value in row.items())
        self.bar.set_postfix_str(f"epoch {net.epoch + 1}: {shown}")
