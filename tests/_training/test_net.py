"""The loop: rates, gradients, precision, seeds, and what it refuses to go on from."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import sklearn
import torch
from common.networks import TinyNet
from skorch.callbacks import Callback
from torch import nn

from sklearn_psp._images import as_images
from sklearn_psp._nets import PyramidPooling, Views
from sklearn_psp._training import ImageBackbone, ImageBatches, PartModel, seeded, trainable_copy
from sklearn_psp._training._net import epoch_seed
from sklearn_psp._training._objectives import OPTIMIZERS
from sklearn_psp.exceptions import TrainingDivergedError

from .runs import assert_same_weights, features, make_training, part_batches, part_model, weights_of


class Watch(Callback):
    """Notes learning rates and gradients at every step."""

    def __init__(self):
        self.rates, self.lengths, self.scores = [], [], []

    def on_grad_computed(self, net, named_parameters, **kwargs):
        """Note them."""
        gradients = [parameter.grad.flatten() for _, parameter in named_parameters if parameter.grad is not None]
        self.lengths.append(float(torch.cat(gradients).norm()))
        self.rates.append(net.optimizer_.param_groups[0]["lr"])

    def on_batch_end(self, net, training=False, y_pred=None, **kwargs):
        """Note the scores of training."""
        if training:
            self.scores.append(y_pred)


def watched(n=20, epochs=3, **settings):
    watch = Watch()
    training = make_training(callbacks=[watch], epochs=epochs, **settings)
    training.run(part_batches(n), epochs=epochs)
    return training, watch


def test_the_rate_falls_along_half_a_cosine():
    training, watch = watched(n=20, epochs=3, learning_rate=0.5)
    seen = [epoch + done / 20 for epoch in range(3) for done in (0, 7, 14)]  # batches of 7, 7, 6
    np.testing.assert_allclose(watch.rates, 0.25 * (1 + np.cos(np.pi * np.array(seen) / 3)), rtol=1e-6)
    assert [row["learning_rate"] for row in training.history] == watch.rates[2::3]


def test_a_constant_rate_stays():
    training, watch = watched(schedule="constant", learning_rate=0.25)
    assert set(watch.rates) == {0.25}
    assert {row["learning_rate"] for row in training.history} == {0.25}


def test_a_restart_brings_the_rate_back():
    training, watch = watched(n=20, epochs=3)
    first = watch.rates.copy()
    training.restart(3)
    training.run(part_batches(20), epochs=training.epochs)
    np.testing.assert_allclose(watch.rates[9:], first)
    assert [row["epoch"] for row in training.history] == [1, 2, 3, 4, 5, 6]


def test_gradients_are_no_longer_than_clip_norm():
    free = watched(learning_rate=1.0, optimizer="sgd")[1].lengths
    assert max(free) > 0.2
    clipped = watched(learning_rate=1.0, optimizer="sgd", clip_norm=0.05)[1].lengths
    np.testing.assert_allclose(clipped, 0.05, rtol=1e-4)
    np.testing.assert_allclose(watched(clip_norm=100.0)[1].lengths, watched()[1].lengths)


def test_every_callback_sees_the_gradients():
    watches = [Watch(), Watch()]
    make_training(callbacks=watches).run(part_batches(), epochs=1)
    assert watches[0].lengths == watches[1].lengths != []


def test_a_step_is_that_of_the_weighted_loss():
    """One step of gradient descent, by hand: W becomes rate * mean of weight * (own - 1/3) * feature."""
    weights = np.linspace(0.1, 1.9, 9)
    assert np.isclose(weights.mean(), 1)
    training = make_training(optimizer="sgd", learning_rate=0.5, schedule="constant")
    training.run(part_batches(9, weights=weights, batch_size=9), epochs=1)
    parts, classes = features(9)
    joined = parts.astype(np.float64).sum(axis=1)
    center = part_model().center.numpy().astype(np.float64)
    embedded = joined / np.linalg.norm(joined, axis=1, keepdims=True) - center
    embedded *= np.sqrt(8) / np.linalg.norm(embedded, axis=1, keepdims=True)
    wrong = np.eye(3)[classes] - 1 / 3
    step = 0.5 * (weights[:, None, None] * wrong[:, :, None] * embedded[:, None, :]).mean(axis=0)
    np.testing.assert_allclose(training.model.head.weight.detach(), step, atol=1e-6)
    np.testing.assert_allclose(
        training.model.head.bias.detach(), 0.5 * (weights[:, None] * wrong).mean(axis=0), atol=1e-6
    )
    assert training.history[0]["loss"] == pytest.approx(np.log(3), rel=1e-6)


def test_the_loss_of_an_epoch_is_weighted():
    class Number(nn.Module):
        def forward(self, scores, classes):
            return classes + 0 * scores.sum(dim=1)

    weights = np.array([2.0, 0.5, 0.5, 3.0, 0.5, 1.0, 0.0])
    training = make_training(loss=Number())
    training.run(part_batches(7, weights=weights, batch_size=3), part_batches(7, batch_size=3), epochs=1)
    assert training.history[0]["loss"] == pytest.approx((weights * (np.arange(7) % 3)).mean())
    assert training.history[0]["val_loss"] == pytest.approx((np.arange(7) % 3).mean())


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "AdamW", torch.optim.Adamax])
def test_every_optimizer_learns(optimizer):
    training = make_training(optimizer=optimizer, learning_rate=0.03)
    expected = OPTIMIZERS[optimizer.lower()] if isinstance(optimizer, str) else optimizer
    assert type(training.net.optimizer_) is expected
    training.run(part_batches(), epochs=4)
    assert training.history[-1]["loss"] < training.history[0]["loss"] - 0.05


def test_parameters_of_optimizers_reach_them():
    training = make_training(optimizer="sgd", optimizer_params={"momentum": 0.7, "nesterov": True})
    group = training.net.optimizer_.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["lr"]) == (0.7, True, 0.01)


def test_unknown_optimizers_get_a_hint():
    with pytest.raises(ValueError, match=r"optimizer='adm' is unknown: did you mean 'adam'\?") as caught:
        make_training(optimizer="adm")
    assert all(name in str(caught.value) for name in OPTIMIZERS)


def image_training(seen=None, follows_batches=False, **settings):
    """Return a training of a network that notes the dtype of its convolution, and images for it."""
    module = trainable_copy(TinyNet(), (32, 32), "all")
    if seen is not None:
        module.convolution.register_forward_hook(lambda layer, inputs, output: seen.append((len(output), output.dtype)))
    backbone = ImageBackbone(module, (0, 0, 0), (1, 1, 1), Views([(32, 32)]), follows_batches=follows_batches)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PartModel(
            PyramidPooling((1, 2)), torch.zeros(12), 3, backbone=backbone, dropout=settings.pop("dropout", 0.0)
        )
        nn.init.normal_(model.head.weight, std=0.1)
    classes = np.arange(24) % 3
    images = np.random.default_rng(0).integers(0, 100, (24, 32, 32, 3), dtype=np.uint8)
    images[np.arange(24), ..., classes] += 100
    reading = {"image_size": (32, 32), "resize": "stretch", "n_jobs": 1}
    data = ImageBatches(as_images(images), classes, np.linspace(0.5, 1.5, 24), 12, reading=reading)
    return make_training(model, **settings), data


def test_bfloat16_is_for_the_backbone_alone():
    seen, watch = [], Watch()
    training, data = image_training(seen, precision="bfloat16", callbacks=[watch])
    training.run(data, data, epochs=2)
    assert {dtype for _, dtype in seen} == {torch.bfloat16}
    assert {scores.dtype for scores in watch.scores} == {torch.float32}
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}
    plain, data = image_training()
    plain.run(data, data, epochs=2)
    assert training.history[-1]["val_loss"] == pytest.approx(plain.history[-1]["val_loss"], rel=0.05)
    assert training.history[-1]["val_loss"] != plain.history[-1]["val_loss"]


def test_a_network_is_trained_with_its_images():
    training, data = image_training()
    before = weights_of(training)
    training.run(data, epochs=6)
    after = weights_of(training)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    backbone = {f"backbone.module.{name}" for name, _ in TinyNet().named_parameters()}
    assert changed == backbone | {"head.weight", "head.bias"}  # and no statistics of batches
    assert training.history[-1]["loss"] < 0.7 * training.history[0]["loss"]


def test_passes_are_one_batch():
    """On a CPU a batch goes through the network in pieces, whose gradients are added up."""
    seen = []
    training, data = image_training(seen, optimizer="sgd")
    training.run(data, data, epochs=2)
    assert max(n for n, _ in seen) < 12
    whole_seen = []
    whole, data = image_training(whole_seen, optimizer="sgd")
    whole.net.pass_size = None
    whole.run(data, data, epochs=2)
    assert {n for n, _ in whole_seen} == {12}
    for name, tensor in weights_of(whole).items():
        torch.testing.assert_close(weights_of(training)[name], tensor, rtol=1e-4, atol=1e-6)
    for row, other in zip(training.history, whole.history, strict=True):
        assert row == pytest.approx(other, rel=1e-4)


def test_statistics_of_batches_are_of_whole_batches():
    seen = []
    training, data = image_training(seen, follows_batches=True)
    training.run(data, epochs=1)
    assert {n for n, _ in seen} == {12}


class Undefined(nn.Module):
    """Is not a number from some call on."""

    def __init__(self, from_call, only_validation=False):
        super().__init__()
        self.left = from_call
        self.only_validation = only_validation

    def forward(self, scores, classes):
        """Return the loss."""
        counts = not (self.only_validation and self.training)
        self.left -= counts
        factor = float("nan") if self.left < 0 and counts else 1.0
        return nn.functional.cross_entropy(scores, classes, reduction="none") * factor


def test_a_loss_that_is_not_a_number_ends_the_training():
    training = make_training(loss=Undefined(9), learning_rate=0.02)
    with pytest.raises(TrainingDivergedError) as caught:
        training.run(part_batches(32), epochs=4)  # of four batches each
    message = str(caught.value)
    assert message.startswith("the loss is nan in epoch 3: learning_rate=0.02 is too high")
    assert "try learning_rate=0.002, or clip_norm=1.0" in message
    assert [row["epoch"] for row in training.history] == [1, 2]
    assert training.net.epoch == 2


def test_so_does_a_validation_loss():
    training = make_training(loss=Undefined(4, only_validation=True))
    with pytest.raises(TrainingDivergedError, match="the validation loss is nan in epoch 2"):
        training.run(part_batches(32), part_batches(32), epochs=4)
    assert [row["epoch"] for row in training.history] == [1]
    assert training.best_epoch == 1


def test_so_do_weights_that_the_last_step_made_infinite():
    """No loss comes after the last step of the last epoch: nobody else would see it."""
    weights = np.full(8, 1e10)
    training = make_training(learning_rate=1e38, optimizer="sgd")
    with pytest.raises(TrainingDivergedError, match=r"a weight is not finite in epoch 1: learning_rate=1e\+38"):
        training.run(part_batches(8, weights=weights), epochs=1)
    assert training.history == []


def test_so_does_a_rate_that_is_far_too_high():
    training = make_training(learning_rate=1e30, optimizer="sgd", optimizer_params={"weight_decay": 1.0})
    with pytest.raises(TrainingDivergedError, match=r"in epoch \d+: learning_rate=1e\+30 is too high.*1e\+29"):
        training.run(part_batches(), epochs=20)


def test_threads_that_read_end_with_an_error():
    training, data = image_training(loss=Undefined(1))
    before = set(threading.enumerate())
    with pytest.raises(TrainingDivergedError) as caught:
        training.run(data, epochs=2)
    assert not [thread for thread in set(threading.enumerate()) - before if "read" in thread.name]
    assert caught.tb is not None  # which holds the iterator


def test_random_states_are_left_as_they_were():
    training, data = image_training(dropout=0.5)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    training.run(data, data, epochs=2)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_equal(np.random.get_state(), numpy_state)  # noqa: NPY002
    torch.rand(3)
    again, data = image_training(dropout=0.5)
    again.run(data, data, epochs=2)
    assert again.history == training.history


def test_seeds():
    state = torch.get_rng_state()
    with seeded(5):
        one = torch.rand(4)
    with seeded(5, torch.device("cpu")):
        assert torch.equal(torch.rand(4), one)
    with seeded(6):
        assert not torch.equal(torch.rand(4), one)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert torch.equal(torch.rand(4), one)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(RuntimeError), seeded(1):
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), state)
    seeds = {epoch_seed(seed, epoch) for seed in range(20) for epoch in range(20)}
    assert len(seeds) == 400


def test_training_with_metadata_routing():
    plain = make_training()
    plain.run(part_batches(), part_batches(9, seed=1), epochs=2)
    routed = make_training()
    with sklearn.config_context(enable_metadata_routing=True):
        routed.run(part_batches(), part_batches(9, seed=1), epochs=2)
    assert routed.history == plain.history
    assert_same_weights(weights_of(routed), weights_of(plain))
