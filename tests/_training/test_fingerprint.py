"""Fingerprints: equal for equal values, in every process, and for no others."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping, LRScheduler
from torch import nn
from torchvision.transforms import v2

from sklearn_psp._training import UnidentifiedError, fingerprint

FACTOR = 2.0
OTHER_FACTOR = 3.0


def scaled(image):
    return image * FACTOR


def scaled_otherwise(image):
    return image * OTHER_FACTOR


def by(factor):
    return lambda image: image * factor


def with_default(image, factor=2):
    return image * factor


def with_another_default(image, factor=3):
    return image * factor


def calls(function):
    return lambda image: function(image)


class Weighted(nn.Module):
    """A loss of a user's."""

    power = 1

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight

    def forward(self, scores, classes):
        """Return the loss."""
        return self.weight * scores.sum(dim=1) ** self.power


def other_class(power):
    class Weighted(nn.Module):
        def forward(self, scores, classes):
            return scores.sum(dim=1) ** power

    return Weighted


def sequence(*names):
    layers = {"relu": nn.ReLU(), "tanh": nn.Tanh()}
    module = nn.Sequential()
    for name in names:
        module.add_module(name, layers[name])
    return module


# Pairs that have been, or might be, taken for one another.
DIFFERENT = {
    "settings of a loss": (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)),
    "losses": (nn.CrossEntropyLoss(), nn.NLLLoss()),
    "class and instance": (nn.CrossEntropyLoss, nn.CrossEntropyLoss()),
    "weights of a loss": (nn.CrossEntropyLoss(torch.ones(3)), nn.CrossEntropyLoss(torch.arange(3.0))),
    "a loss of one's own": (Weighted(1.0), Weighted(2.0)),
    "classes of one name": (other_class(1), other_class(2)),
    "objects of classes of one name": (other_class(1)(), other_class(2)()),
    "lambdas": (lambda image: image, lambda image: image + 1),
    "constants": (lambda image: image + 1, lambda image: image + 2),
    "closures": (by(2), by(3)),
    "globals": (scaled, scaled_otherwise),
    "defaults": (with_default, with_another_default),
    "functions in closures": (calls(by(2)), calls(by(3))),
    "partials": (functools.partial(with_default, factor=2), functools.partial(with_default, factor=4)),
    "methods": (Weighted(1.0).forward, Weighted(2.0).forward),
    "functions with a cache": (functools.lru_cache(by(2)), functools.lru_cache(by(3))),
    "transforms": (v2.RandomHorizontalFlip(0.3), v2.RandomHorizontalFlip(0.4)),
    "lambdas in transforms": (v2.Compose([v2.Lambda(by(2))]), v2.Compose([v2.Lambda(by(3))])),
    "order of transforms": (
        v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]),
        v2.Compose([v2.RandomVerticalFlip(), v2.RandomHorizontalFlip()]),
    ),
    "callbacks": (EarlyStopping(patience=3), EarlyStopping(patience=4)),
    "schedules": (LRScheduler("StepLR", step_size=3), LRScheduler("StepLR", step_size=4)),
    "names of callbacks": (("a", EarlyStopping()), ("b", EarlyStopping())),
    "layers in another order": (sequence("relu", "tanh"), sequence("tanh", "relu")),
    "settings of layers": (nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1, stride=2)),
    "optimizers": (torch.optim.Adam, torch.optim.AdamW),
    "arrays": (np.arange(3), np.arange(3.0)),
    "shapes": (np.zeros((2, 3)), np.zeros((3, 2))),
    "random states": (np.random.RandomState(0), np.random.RandomState(1)),
    "numbers and text": (1, "1"),
    "truth and number": (True, 1),
    "class weights": ({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 1.0}),
    "missing": (None, "None"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_different_values_have_different_fingerprints(case):
    one, other = DIFFERENT[case]
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize("case", [name for name in DIFFERENT if name != "functions with a cache"])
def test_copies_have_the_fingerprint_of_their_original(case):
    for value in DIFFERENT[case]:
        assert fingerprint(copy.deepcopy(value)) == fingerprint(value)


def test_a_global_that_changes_is_seen(monkeypatch):
    before = fingerprint(scaled)
    monkeypatch.setitem(globals(), "FACTOR", 2.5)
    assert fingerprint(scaled) != before


def test_an_attribute_of_a_class_that_changes_is_seen(monkeypatch):
    before = fingerprint(Weighted())
    monkeypatch.setattr(Weighted, "power", 2)
    assert fingerprint(Weighted()) != before


def test_what_means_the_same_is_the_same():
    assert fingerprint((1, [2, 3])) == fingerprint([1, (2, 3)]) == "[1, [2, 3]]"
    assert fingerprint({"lr": np.float64(0.1), "n": np.int64(3)}) == "{'lr': 0.1, 'n': 3}"
    assert fingerprint(Path("a/b")) == fingerprint("a/b")
    assert fingerprint(by(2)) == fingerprint(by(2))
    assert fingerprint({"b", "a"}) == "{'a', 'b'}"
    assert fingerprint(Weighted().train()) == fingerprint(Weighted().eval())
    assert fingerprint(np.add) == "numpy.add"


def test_circles_end():
    value = [1]
    value.append(value)
    assert fingerprint(value) == fingerprint(copy.deepcopy(value)) == "[1, <1 up>]"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (threading.Lock(), "a lock, which cannot be pickled"),
        (iter(x for x in [1]), "a generator"),
        ([calls(threading.Lock())], "a lock"),
        (np.frompyfunc(by(2), 1, 1), "a ufunc named"),
    ],
    ids=["lock", "generator", "in a closure", "ufunc"],
)
def test_what_cannot_be_told_apart_is_refused(value, named):
    with pytest.raises(UnidentifiedError, match=named):
        fingerprint(value)


@pytest.mark.filterwarnings("ignore")
def test_fingerprints_are_the_same_in_two_processes():
    """With other hashes of strings, and other addresses in memory."""
    script = (
        "from _training.test_fingerprint import DIFFERENT\nfrom sklearn_psp._training import fingerprint\n"
        "for case, values in DIFFERENT.items(): print(case, *map(fingerprint, values))"
    )
    tests = str(Path(__file__).resolve().parents[1])
    runs = [
        subprocess.run(
            [sys.executable, "-c", "import torch; torch.manual_seed(0)\n" + script],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path]), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].count("\n") == len(DIFFERENT)
