"""A run on disk: written whole or not at all, of one run, and resumed bit by bit."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_psp._training import Checkpoint
from sklearn_psp._training._checkpoint import _HEADER
from sklearn_psp.exceptions import CheckpointError

from .runs import assert_same_weights, make_training, part_batches, part_model, weights_of

IDENTITY = {"loss": "focal", "data": "30 images, sha256 ab12"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_what_was_saved_is_loaded(path):
    checkpoint = Checkpoint(path, IDENTITY)
    assert checkpoint.load() is None
    state = {"epoch": 3, "weights": {"a": torch.arange(3.0)}, "history": [{"loss": 0.5}], "best": None}
    checkpoint.save({"epoch": 2})
    checkpoint.save(state)
    loaded = Checkpoint(str(path), dict(IDENTITY)).load()
    assert torch.equal(loaded["weights"].pop("a"), state["weights"].pop("a"))
    assert loaded == state
    assert names(path.parent) == ["run.ckpt"]


@pytest.mark.parametrize(
    ("identity", "named"),
    [
        (IDENTITY | {"loss": "arcface"}, r"\(loss: focal there, arcface here\)"),
        (IDENTITY | {"seed": "1"}, r"\(seed: None there, 1 here\)"),
        ({"data": IDENTITY["data"]}, r"\(loss: focal there, None here\)"),
    ],
    ids=["other", "more", "less"],
)
def test_another_run_is_refused_by_what_differs_and_its_file_left(path, identity, named):
    Checkpoint(path, IDENTITY).save({"epoch": 1})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=rf"run\.ckpt' is of another run {named}; give another name, or remove"):
        Checkpoint(path, identity).load()
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["half", "empty", "text"])
def test_a_damaged_file_is_refused_and_left(path, damage):
    Checkpoint(path, IDENTITY).save({"epoch": 1})
    content = path.read_bytes()
    before = {"half": content[: len(content) // 2], "empty": b"", "text": b"not a checkpoint"}[damage]
    path.write_bytes(before)
    with pytest.raises(
        CheckpointError, match=r"of this version, or damaged \(\w+\); it is left as it is: give another"
    ):
        Checkpoint(path, IDENTITY).load()
    assert path.read_bytes() == before


def written(path, content):
    """Write something in the form of a checkpoint."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(_HEADER + hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())


@pytest.mark.parametrize("write", [written, lambda path, content: torch.save(content, path)], ids=["ours", "torch's"])
@pytest.mark.parametrize("content", [{"format": "sklearn_psp training 1"}, {"state": 1}, [1, 2], torch.ones(3)])
def test_a_file_of_something_else_is_refused(path, content, write):
    write(path, content)
    with pytest.raises(CheckpointError, match="is no checkpoint of this version"):
        Checkpoint(path, IDENTITY).load()


class Bomb:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return print, ("executed",)


def test_nothing_is_executed(path, capsys):
    written(path, {"identity": IDENTITY, "state": Bomb()})
    with pytest.raises(CheckpointError):
        Checkpoint(path, IDENTITY).load()
    assert capsys.readouterr().out == ""


def test_folders_are_refused_at_once(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder: give the name of a file"):
        Checkpoint(tmp_path, IDENTITY)
    with pytest.raises(CheckpointError, match="no', which does not exist: give the name of a file"):
        Checkpoint(tmp_path / "no" / "run.ckpt", IDENTITY)
    assert names(tmp_path) == []


def test_a_name_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Checkpoint("run.ckpt", IDENTITY).save({"epoch": 1})
    assert names(tmp_path) == ["run.ckpt"]


@pytest.mark.parametrize("when", ["os.fsync", "os.replace"])
def test_a_write_that_fails_leaves_the_last_epoch(path, monkeypatch, when):
    checkpoint = Checkpoint(path, IDENTITY)
    checkpoint.save({"epoch": 1})

    def fail(*args):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(when, fail)
        with pytest.raises(OSError, match="no space left"):
            checkpoint.save({"epoch": 2})
    assert checkpoint.load() == {"epoch": 1}
    assert names(path.parent) == ["run.ckpt"]


class Learned(nn.Module):
    """A loss with a parameter of its own, which is trained as well."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, scores, classes):
        """Return the cross-entropy of scaled scores."""
        return nn.functional.cross_entropy(self.log_scale.exp() * scores, classes, reduction="none")


RUNS = {
    "adam": {},
    "sgd with momentum": {"optimizer": "sgd", "optimizer_params": {"momentum": 0.9}, "learning_rate": 0.1},
    "nadam, constant": {"optimizer": "nadam", "schedule": "constant"},
    "loss with a parameter": {"loss": Learned(), "learning_rate": 0.1},
}
N_EPOCHS = 4


def fresh(settings):
    model = part_model(dropout=0.2, part_dropout=0.3, learn_weights=True)
    return make_training(model, epochs=N_EPOCHS, **settings)


def whole(settings, validated):
    training = fresh(settings)
    training.run(part_batches(), part_batches(9, seed=1) if validated else None, epochs=N_EPOCHS)
    return training


class KilledError(Exception):
    """What ends a run in these tests."""


@pytest.mark.parametrize("n_done", range(1, N_EPOCHS))
@pytest.mark.parametrize("validated", [False, True], ids=["without validation", "with validation"])
@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
def test_a_run_that_was_killed_after_an_epoch_ends_as_if_it_had_not_been(path, settings, validated, n_done):
    expected = whole(settings, validated)
    validation = part_batches(9, seed=1) if validated else None
    checkpoint = Checkpoint(path, IDENTITY)

    def until_killed(train):
        if len(killed.history) == n_done:
            raise KilledError
        train()

    killed = fresh(settings)
    killed.kept = {"seed": 17}
    with pytest.raises(KilledError):
        killed.run(part_batches(), validation, epochs=N_EPOCHS, checkpoint=checkpoint, on_epoch=until_killed)
    state = checkpoint.load()
    assert (state["finished"], state["epoch"], state["seed"]) == (False, n_done, 17)
    assert len(state["history"]) == n_done
    training = fresh(settings)
    with torch.no_grad():  # what it starts from is of no consequence
        training.model.center.fill_(0.5)
        training.model.head.weight.fill_(7)
    training.resume(state)
    training.run(part_batches(), validation, epochs=N_EPOCHS, checkpoint=checkpoint)
    assert training.history == expected.history
    assert_same_weights(weights_of(training), weights_of(expected))
    assert training.best_epoch == expected.best_epoch
    training.restore_best()
    expected.restore_best()
    assert_same_weights(weights_of(training), weights_of(expected))
    assert checkpoint.load()["finished"]


def test_a_run_that_ended_early_is_finished(path):
    training = fresh({})
    checkpoint = Checkpoint(path, IDENTITY)
    training.run(part_batches(), epochs=N_EPOCHS, checkpoint=checkpoint, on_epoch=lambda train: train() or True)
    state = checkpoint.load()
    assert (state["epoch"], state["finished"]) == (1, True)


def test_the_best_epoch_may_lie_before_the_kill(path):
    """Patience goes on counting where it was."""
    settings = {"learning_rate": 3.0, "optimizer": "sgd", "patience": 2, "schedule": "constant"}
    checkpoint = Checkpoint(path, IDENTITY)
    first = make_training(part_model(), epochs=12, **settings)
    first.run(part_batches(), part_batches(9, seed=1), epochs=12)
    assert first.net.stopped
    assert first.best_epoch == len(first.history) - 2
    second = make_training(part_model(), epochs=12, **settings)
    n_done = len(first.history) - 1
    second.run(part_batches(), part_batches(9, seed=1), epochs=n_done, checkpoint=checkpoint)
    third = make_training(part_model(), epochs=12, **settings)
    third.resume(checkpoint.load())
    third.run(part_batches(), part_batches(9, seed=1), epochs=12)
    assert third.history == first.history
    assert third.best_epoch == first.best_epoch


def test_every_damaged_byte_is_noticed(path):
    training = fresh({})
    training.run(part_batches(), epochs=1, checkpoint=(checkpoint := Checkpoint(path, IDENTITY)))
    content = path.read_bytes()
    places = np.unique(np.r_[np.arange(60), np.linspace(0, len(content) - 1, 140).astype(int)])
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is no checkpoint of this version"):
            checkpoint.load()
    assert len(places) >= 100
    for shorter in (content[:-1], content + b"\0"):
        path.write_bytes(shorter)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load()
    path.write_bytes(content)
    assert checkpoint.load()["epoch"] == 1


def test_a_checkpoint_from_before_there_was_a_checksum_is_refused_and_left(path):
    torch.save({"format": "sklearn_psp training 1", "identity": IDENTITY, "state": {"epoch": 1}}, path)
    before = path.read_bytes()
    message = "is no checkpoint of this version: it has no checksum, .*it is left as it is: give another name"
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(path, IDENTITY).load()
    assert path.read_bytes() == before
