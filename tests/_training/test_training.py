"""A training: history, the best epoch, and what ends it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sklearn_psp._training import make_metrics
from sklearn_psp._training._net import Progress

from .runs import CLASSES, assert_same_weights, make_training, part_batches, part_model, weights_of

STOCHASTIC = {"dropout": 0.2, "part_dropout": 0.3, "learn_weights": True}


def test_the_loss_goes_down_and_classes_are_learned():
    training = make_training(epochs=15, learning_rate=0.05)
    training.run(part_batches(60), part_batches(60, seed=1), epochs=15)
    losses = [row["loss"] for row in training.history]
    assert losses[-1] < 0.5 * losses[0]
    assert training.history[-1]["val_accuracy"] > 0.8


def run(seed=0, **settings):
    training = make_training(part_model(**STOCHASTIC), seed=seed, epochs=3, **settings)
    training.run(part_batches(), part_batches(9, seed=1), epochs=3)
    return training


def test_the_same_seed_gives_the_same_bits():
    one, other, third = run(3), run(3), run(4)
    assert one.history == other.history
    assert_same_weights(weights_of(one), weights_of(other))
    assert one.history != third.history


def test_rows_of_the_history():
    training = make_training(metrics=make_metrics(["accuracy", "f1_macro"], CLASSES))
    training.run(part_batches(), epochs=2)
    assert [list(row) for row in training.history] == [["epoch", "loss", "accuracy", "f1_macro", "learning_rate"]] * 2
    assert [row["epoch"] for row in training.history] == [1, 2]
    assert all(type(value) in (int, float) for row in training.history for value in row.values())
    training.run(part_batches(), epochs=2)  # there are two already
    assert len(training.history) == 2
    assert training.best_epoch is None


def test_validation_images_are_judged_by_the_model_of_the_epoch_and_teach_nothing():
    training = run()
    parts, (classes, weights) = next(iter(part_batches(9, seed=1, batch_size=9).batches()))
    assert (weights == 1).all()
    with torch.no_grad():
        scores = training.model.eval()(parts)
    expected = nn.functional.cross_entropy(scores, classes).item()
    assert training.history[-1]["val_loss"] == pytest.approx(expected, rel=1e-5)
    without = make_training(part_model(**STOCHASTIC), epochs=3)
    without.run(part_batches(), epochs=3)
    assert_same_weights(weights_of(without), weights_of(training))


class Scripted(nn.Module):
    """A loss whose validation values are known beforehand."""

    def __init__(self, values):
        super().__init__()
        self.values = list(values)

    def forward(self, scores, classes):
        """Return the next value in validation."""
        losses = nn.functional.cross_entropy(scores, classes, reduction="none")
        return losses if self.training else 0 * losses + self.values.pop(0)


class Keep(Callback):
    """Keeps the weights of each epoch."""

    def __init__(self):
        self.states = []

    def on_epoch_end(self, net, **kwargs):
        """Keep them."""
        self.states.append({name: tensor.clone() for name, tensor in net.module_.state_dict().items()})


def scripted(values, **settings):
    training = make_training(loss="categorical_crossentropy", **({"epochs": len(values)} | settings))
    training.net.criterion_.__class__ = Scripted
    training.net.criterion_.values = list(values)
    return training


def test_the_best_epoch_comes_back():
    training = scripted([3.0, 1.0, 2.0, 1.0], callbacks=[Keep()])
    keep = training.net.callbacks_[-1][1]
    training.run(part_batches(), part_batches(8), epochs=4)
    assert [row["val_loss"] for row in training.history] == [3.0, 1.0, 2.0, 1.0]
    assert training.best_epoch == 2  # the first of equals
    assert not torch.equal(keep.states[1]["head.weight"], keep.states[3]["head.weight"])
    assert_same_weights(weights_of(training), keep.states[3])
    training.restore_best()
    assert_same_weights(weights_of(training), keep.states[1])


def test_without_validation_the_last_model_stays():
    training = make_training()
    training.run(part_batches(), epochs=2)
    before = weights_of(training)
    training.restore_best()
    assert training.best_epoch is None
    assert_same_weights(weights_of(training), before)


@pytest.mark.parametrize(
    ("patience", "n_epochs"), [(1, 3), (2, 6), (3, 7), (None, 7)], ids=["1", "2", "never long enough", "none"]
)
def test_patience(patience, n_epochs):
    training = scripted([3.0, 2.0, 2.0, 1.0, 1.5, 1.5, 1.0], patience=patience)
    training.run(part_batches(), part_batches(8), epochs=7)
    assert len(training.history) == n_epochs
    assert training.net.stopped == (n_epochs < 7 or patience == 3)
    assert training.best_epoch == (2 if n_epochs == 3 else 4)


def test_a_restart_forgets_the_best_epoch_and_what_ended_the_training():
    training = scripted([1.0, 2.0, 3.0, 4.0, 5.0], patience=1, epochs=5)
    training.run(part_batches(), part_batches(8), epochs=5)
    assert (len(training.history), training.best_epoch) == (2, 1)
    training.restart(2)
    training.run(part_batches(), part_batches(8), epochs=training.epochs)
    assert [row["val_loss"] for row in training.history] == [1.0, 2.0, 3.0, 4.0]
    assert training.best_epoch == 3


def test_what_ended_a_run_does_not_end_the_next_one():
    training = make_training(epochs=3)
    training.run(part_batches(), epochs=3, on_epoch=lambda train: train() or True)
    assert len(training.history) == 1
    training.run(part_batches(), epochs=2)
    assert len(training.history) == 2


class Told(Callback):
    """Notes the order of what it is told."""

    def __init__(self):
        self.told = []

    def on_train_begin(self, net, X=None, **kwargs):
        """Note it, with the data."""
        self.told.append(("begin", X is not None))

    def on_train_end(self, net, **kwargs):
        """Note it."""
        self.told.append("end")

    def on_epoch_begin(self, net, **kwargs):
        """Note it."""
        self.told.append("epoch")


def test_callbacks_are_told_of_every_run():
    told = Told()
    training = make_training(callbacks=[told])
    training.run(part_batches(), epochs=2)
    training.run(part_batches(), epochs=3)
    assert told.told == [("begin", True), "epoch", "epoch", "end", ("begin", True), "epoch", "end"]


def test_early_stopping_of_skorch():
    stopping = EarlyStopping(monitor="valid_loss", patience=2, sink=lambda text: None)
    training = scripted([1.0, 2.0, 3.0, 4.0, 5.0], callbacks=[stopping])
    ended = []
    training.run(part_batches(), part_batches(8), epochs=5, on_epoch=lambda train: ended.append(train()))
    # Its patience counts the epochs since the best one, that included.
    n_epochs = len(training.history)
    assert n_epochs in (2, 3)
    assert training.net.stopped
    assert len(ended) == n_epochs
    assert training.history[-1]["val_loss"] == n_epochs
    assert training.best_epoch == 1


class Interrupting(Callback):
    """Control-C in the third batch."""

    def __init__(self):
        self.n_batches = 0

    def on_batch_end(self, net, **kwargs):
        """Interrupt."""
        self.n_batches += 1
        if self.n_batches == 7:
            raise KeyboardInterrupt


def test_an_interrupt_within_an_epoch_goes_through():
    training = make_training(callbacks=[Interrupting()])
    with pytest.raises(KeyboardInterrupt):
        training.run(part_batches(32), epochs=4)
    assert [row["epoch"] for row in training.history] == [1]
    assert not training.net.stopped


def test_a_hook_of_epochs_ends_the_training():
    calls = []

    def on_epoch(train):
        train()
        calls.append(len(training.history))
        return len(calls) == 2

    training = make_training()
    training.run(part_batches(), epochs=4, on_epoch=on_epoch)
    assert calls == [1, 2]
    assert len(training.history) == 2


def test_linear_head_gives_the_scores_of_the_model():
    for loss, cosine, scale in (("categorical_crossentropy", False, 1.0), ("arcface", True, 20.0)):
        params = {"scale": scale} if cosine else None
        training = make_training(part_model(cosine=cosine), loss=loss, loss_params=params)
        training.run(part_batches(), epochs=2)
        coef, intercept = training.linear_head()
        assert coef.dtype == intercept.dtype == np.float32
        parts = next(iter(part_batches().batches()))[0]
        with torch.no_grad():
            model = training.model.eval()
            expected = scale * model(parts)
            np.testing.assert_allclose(model.embed(parts).numpy() @ coef.T + intercept, expected, atol=1e-4)
        coef[:] = 0  # a copy
        assert training.model.head.weight.abs().sum() > 0


def test_a_bar_counts_images(capsys):
    training = make_training()
    training.run(part_batches(30), part_batches(9), epochs=2, description="fitting", verbose=1)
    shown = capsys.readouterr().err
    assert "fitting" in shown
    assert "60/60" in shown
    assert "epoch 2: train_loss" in shown
    assert "_best" not in shown
    training.run(part_batches(30), epochs=3)
    assert capsys.readouterr().err == ""


class Bar(Callback):
    """A user's callback that has the name of our bar."""

    n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        """Count."""
        self.n_epochs += 1


def test_a_callback_of_any_name_is_kept():
    bar = Bar()
    training = make_training(callbacks=[("bar", bar)])
    training.run(part_batches(), epochs=1)
    training.run(part_batches(), epochs=2)
    assert bar.n_epochs == 2
    assert sum(isinstance(callback, Progress) for _, callback in training.net.callbacks_) == 1


def test_state_holds_tensors_and_plain_values():
    training = run()
    training.kept = {"seed": 3}
    buffer = io.BytesIO()
    torch.save(training.state(finished=True), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    assert (state["finished"], state["epoch"], state["seed"]) == (True, 3, 3)
    assert state["history"] == training.history
