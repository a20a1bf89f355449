"""A training that was killed is resumed, and ends as if nothing had happened."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from common.colours import batches, quick
from common.killing import KillsAtStep
from common.networks import TinyNet
from PIL import Image
from skorch.callbacks import Callback
from torchvision.transforms import v2

from sklearn_psp.exceptions import CheckpointError, ImageReadWarning

RUN = """
import sys
import torch
from common.colours import colours, quick
from common.killing import KillsAtStep
from common.networks import TinyNet
from PIL import Image
from skorch.callbacks import Callback
from torchvision.transforms import v2

torch.set_num_threads(1)
params = eval(sys.argv[2])
model = quick(**params, checkpoint=sys.argv[1], callbacks=[KillsAtStep()])
model.fit(*colours(30), validation_data=colours(18, seed=1))
"""
# Ten images a step, three steps an epoch. The killed one ends in the middle of its third epoch.
RUNS = {
    "head": {"batch_size": 10, "epochs": 5, "reduce_dim": 4, "part_weights": "learned", "dropout": 0.2},
    "all": {"train": "all", "batch_size": 10, "epochs": 4, "augment": True, "optimizer": "adamw"},
}


@pytest.fixture
def checkpoint(tmp_path):
    """Where the run is kept."""
    return tmp_path / "run.checkpoint"


def kept(checkpoint):
    """Return the state in a checkpoint, behind a line and a checksum."""
    content = checkpoint.read_bytes().partition(b"\n")[2][32:]
    return torch.load(io.BytesIO(content), weights_only=True)["state"]


class Counts:
    """An augmentation that changes nothing and counts the images."""

    n_images = 0

    def __call__(self, image):
        """Return the image."""
        Counts.n_images += 1
        return image


def same_model(one, other):
    assert one.history_.equals(other.history_)
    np.testing.assert_array_equal(one.coef_, other.coef_)
    np.testing.assert_array_equal(one.intercept_, other.intercept_)
    assert one.best_epoch_ == other.best_epoch_


@pytest.mark.parametrize("run", RUNS)
def test_after_a_kill_the_result_is_the_same_to_the_bit(training, held_out, checkpoint, run):
    params, tests = RUNS[run], str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run(
        [sys.executable, "-c", RUN, str(checkpoint), repr(params)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "KILL_AT_STEP": "8"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert kept(checkpoint)["epoch"] == 2
    X = held_out[0]
    expected = quick(**params).fit(*training, validation_data=held_out)
    model = quick(**params, checkpoint=checkpoint, callbacks=[KillsAtStep()]).fit(*training, validation_data=held_out)
    same_model(model, expected)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


def broken_off(checkpoint, training, held_out, monkeypatch, at, **params):
    """Start a run that ends with an error in epoch `at`, before its end."""
    from sklearn_psp._training import Training

    epoch = Training._train_epoch

    def breaks(self, *data):
        epoch(self, *data)
        if self.net.epoch == at and self.settings.seed:  # not that of the head before the network
            raise RuntimeError("broken off")

    monkeypatch.setattr(Training, "_train_epoch", breaks)
    with pytest.raises(RuntimeError, match="broken off"):
        quick(**params, checkpoint=checkpoint).fit(*training, validation_data=held_out)
    monkeypatch.undo()


def opposite(data):
    names, codes = np.unique(data[1], return_inverse=True)
    return data[0], np.roll(names, 1)[codes]


@pytest.mark.parametrize("train", ["head", "all"])
def test_the_best_epoch_is_not_lost(training, held_out, checkpoint, monkeypatch, train):
    wrong = opposite(held_out)  # the first epoch is the best
    params = {"train": train, "epochs": 6, "early_stopping": 4}
    if train == "head":
        broken_off(checkpoint, training, wrong, monkeypatch, 3, **params)
        assert kept(checkpoint)["epoch"] == 2
    model = quick(**params, checkpoint=checkpoint).fit(*training, validation_data=wrong)
    assert model.best_epoch_ == 1
    assert len(model.history_) == 5
    same_model(model, quick(**params).fit(*training, validation_data=wrong))
    same_model(quick(**params, checkpoint=checkpoint).fit(*training, validation_data=wrong), model)


def test_a_share_that_is_held_out_is_the_same_after_a_kill(training, checkpoint, monkeypatch):
    params = {"validation_fraction": 0.3, "random_state": None, "epochs": 4}
    broken_off(checkpoint, training, None, monkeypatch, 3, **params)
    first = kept(checkpoint)["history"]
    model = quick(**params, checkpoint=checkpoint).fit(*training)
    assert model.history_[:2].to_dict("records") == first
    same_model(quick(**params, checkpoint=checkpoint).fit(*training), model)


@pytest.mark.parametrize("train", ["head", "all"])
def test_a_finished_run_is_taken_without_training(training, checkpoint, train):
    augment = Counts() if train == "all" else "auto"
    params = {"train": train, "augment": augment, "checkpoint": str(checkpoint)}
    model = quick(**params).fit(*training)
    Counts.n_images, written = 0, checkpoint.read_bytes()
    same_model(quick(**params).fit(*training), model)
    assert Counts.n_images == 0
    assert checkpoint.read_bytes() == written
    taken = quick(**params).fit(*training).partial_fit(*training)
    assert len(taken.history_) == len(model.history_) + 1


def test_a_finished_run_of_files_reads_none(training, paths, checkpoint, tmp_path):
    copies = [tmp_path / f"{i}.png" for i in range(30)]
    for copy, path in zip(copies, paths, strict=True):
        copy.write_bytes(Path(path).read_bytes())
    model = quick(checkpoint=checkpoint).fit(copies, training[1])
    for copy in copies:
        copy.unlink()
    same_model(quick(checkpoint=checkpoint).fit(copies, training[1]), model)


CHANGES = {
    "epochs": {"epochs": 5},
    "epochs of numpy": {"epochs": np.int64(6)},
    "learning_rate": {"learning_rate": 0.02},
    "bin_sizes": {"bin_sizes": (1, (2, 1))},
    "optimizer_params": {"optimizer_params": {"weight_decay": 0.1}},
    "part_weights": {"part_weights": np.arange(1.0, 15)},
    "loss": {"loss": torch.nn.CrossEntropyLoss},
    "random_state": {"random_state": 1},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_with_other_parameters_is_refused_by_name(training, checkpoint, change):
    quick(checkpoint=checkpoint).fit(*training)
    written = checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match=rf"is of another run \({change.split()[0]}: .* there, .* here\)"):
        quick(checkpoint=checkpoint, **CHANGES[change]).fit(*training)
    assert checkpoint.read_bytes() == written


def by(factor):
    return lambda y_true, y_pred: factor * float((y_true == y_pred).mean())


class Frees(Callback):
    """Changes gradients, as a callback may."""

    def __init__(self, factor):
        self.factor = factor

    def on_grad_computed(self, net, named_parameters, **kwargs):
        """Multiply them."""
        for _, parameter in named_parameters:
            if parameter.grad is not None:
                parameter.grad *= self.factor


# Parameters whose values share a name and differ in their content.
ALIKE = {
    "loss": (torch.nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(label_smoothing=0.5)),
    "metrics": ([by(1)], [by(2)]),
    "callbacks": ([Frees(1.0)], [Frees(0.5)]),
    "augment": (lambda image: image, lambda image: image // 2),
    "augment ": (v2.RandomHorizontalFlip(0.0), v2.RandomHorizontalFlip(1.0)),
    "optimizer_params": ({"betas": (0.9, 0.999)}, {"betas": (0.8, 0.999)}),
    "class_weight": ({"red": 1.0, "green": 1.0, "blue": 1.0}, {"red": 2.0, "green": 1.0, "blue": 1.0}),
    "random_state": (np.random.RandomState(0), np.random.RandomState(1)),
}


@pytest.mark.parametrize("change", ALIKE)
def test_values_of_one_name_are_told_apart_by_their_content(training, checkpoint, change):
    name, train = change.strip(), "all" if change.startswith("augment") else "head"
    one, other = ALIKE[change]
    model = quick(train, checkpoint=checkpoint, **{name: deepcopy(one)}).fit(*training)
    same_model(quick(train, checkpoint=checkpoint, **{name: deepcopy(one)}).fit(*training), model)
    with pytest.raises(CheckpointError, match=rf"is of another run \({name}: .* there, .* here\)"):
        quick(train, checkpoint=checkpoint, **{name: other}).fit(*training)


def test_a_network_of_the_same_weights_and_another_structure_is_refused(training, checkpoint):
    class Doubled(TinyNet):
        def forward(self, images):
            return 2 * super().forward(images)

    quick(checkpoint=checkpoint).fit(*training)
    with pytest.raises(CheckpointError, match=r"is of another run \(backbone: TinyNet \w+ there, .*Doubled \w+ here\)"):
        quick(checkpoint=checkpoint, backbone=Doubled()).fit(*training)


def test_what_cannot_be_told_apart_gets_no_checkpoint(training, checkpoint):
    lock = threading.Lock()

    def guarded(y_true, y_pred):
        with lock:
            return 1.0

    with pytest.raises(
        CheckpointError, match=r"metrics is or holds a lock, which cannot be pickled .*: another run coul"
    ):
        quick(checkpoint=checkpoint, metrics=[guarded]).fit(*training)
    assert not checkpoint.exists()
    model = quick(metrics=[guarded]).fit(*training)
    assert len(model.partial_fit(*training).history_) == 5


def test_a_run_of_another_stream_is_refused(training, held_out, checkpoint):
    X, y = training
    brighter = X.copy()
    brighter[3, 0, 0, 0] += 1
    quick(checkpoint=checkpoint).fit(batches(X, y), validation_data=batches(*held_out))
    for named, given, validation in (
        ("images and labels", batches(brighter, y), batches(*held_out)),
        ("images and labels", batches(X, np.roll(y, 1)), batches(*held_out)),
        ("images and labels", batches(X, y)[::-1], batches(*held_out)),
        ("validation_data", batches(X, y), batches(*opposite(held_out))),
        ("validation_data", batches(X, y), None),
    ):
        with pytest.raises(CheckpointError, match=rf"is of another run \({named}: "):
            quick(checkpoint=checkpoint).fit(given, validation_data=validation)


def test_images_in_memory_are_told_apart_by_their_pixels(training, checkpoint):
    X, y = training
    brighter = X.copy()
    brighter[3, 0, 0, 0] += 1
    quick(checkpoint=checkpoint).fit([Image.fromarray(image) for image in X], y)
    with pytest.raises(CheckpointError, match=r"is of another run \(images and labels: "):
        quick(checkpoint=checkpoint).fit([Image.fromarray(image) for image in brighter], y)


def test_numbers_of_numpy_are_numbers(training, checkpoint):
    quick(checkpoint=checkpoint, epochs=np.int64(4), learning_rate=np.float64(0.01)).fit(*training)
    quick(checkpoint=checkpoint, epochs=4, learning_rate=0.01).fit(*training)
    with pytest.raises(CheckpointError, match="epochs: 4 there, 5 here"):
        quick(checkpoint=checkpoint, epochs=np.int64(5)).fit(*training)


def test_parameters_that_do_not_matter_may_change(training, checkpoint, folder):
    model = quick(checkpoint=checkpoint).fit(*training)
    same_model(quick(checkpoint=str(checkpoint), n_jobs=1, cache=folder).fit(*training), model)


def test_a_run_of_other_data_is_refused(training, held_out, paths, checkpoint):
    X, y = training
    weights = np.linspace(1, 2, 30)

    def fit(X, y, sample_weight=None, validation_data=None):
        return quick(checkpoint=checkpoint).fit(X, y, sample_weight, validation_data)

    fit(X, y, weights, held_out)
    fit(X.copy(), y.tolist(), weights.tolist(), (held_out[0].copy(), held_out[1]))
    brighter = X.copy()
    brighter[3, 0, 0, 0] += 1
    for named, given in {
        "images and labels": (brighter, y, weights, held_out),
        "images and labels ": (X[::-1], y, weights, held_out),
        "images and labels  ": (X, np.roll(y, 1), weights, held_out),
        "images and labels   ": (paths, y, weights, held_out),
        "sample_weight": (X, y, weights[::-1], held_out),
        "sample_weight ": (X, y, None, held_out),
        "validation_data": (X, y, weights, opposite(held_out)),
        "validation_data ": (X, y, weights, None),
    }.items():
        with pytest.raises(CheckpointError, match=rf"is of another run \({named.strip()}: "):
            fit(*given)


def test_a_run_of_other_weights_is_refused(training, checkpoint):
    quick(checkpoint=checkpoint).fit(*training)
    network = quick().backbone
    with torch.no_grad():
        network.convolution.weight[0, 0, 0, 0] += 1
    with pytest.raises(CheckpointError, match=r"is of another run \(weights of the backbone: "):
        quick(checkpoint=checkpoint, backbone=network).fit(*training)


@pytest.mark.parametrize("train", ["head", "all"])
def test_images_that_were_left_out_stay_out(training, bad_paths, checkpoint, train):
    model = quick(train, on_error="nan", checkpoint=checkpoint)
    with pytest.warns(ImageReadWarning):
        model.fit(bad_paths, training[1])
    other = quick(train, on_error="nan", checkpoint=checkpoint)
    with pytest.warns(ImageReadWarning, match="2 images could not be read"):
        other.fit(bad_paths, training[1])
    same_model(other, model)
    assert other.errors_.equals(model.errors_)


@pytest.mark.parametrize("train", ["head", "all"])
def test_a_stream_has_checkpoints_too(training, checkpoint, train):
    stream = batches(*training)
    model = quick(train, checkpoint=checkpoint).fit(stream)
    same_model(quick(train, checkpoint=checkpoint).fit(stream), model)


def test_warm_start_writes_no_checkpoint_and_needs_none(training, checkpoint):
    model = quick(warm_start=True, checkpoint=checkpoint).fit(*training)
    written = checkpoint.read_bytes()
    assert len(model.fit(*training).history_) == 8
    assert checkpoint.read_bytes() == written


def test_files_that_are_none_of_ours_are_left_alone(training, tmp_path):
    other = tmp_path / "thesis.txt"
    other.write_text("all I have")
    with pytest.raises(CheckpointError, match=r"thesis.txt' is no checkpoint of this version"):
        quick(checkpoint=other).fit(*training)
    assert other.read_text() == "all I have"
    with pytest.raises(CheckpointError, match="is a folder"):
        quick(checkpoint=tmp_path).fit(*training)
    with pytest.raises(CheckpointError, match="which does not exist"):
        quick(checkpoint=tmp_path / "nowhere" / "run").fit(*training)
