"""What runs the network: what is reported, what a pickle keeps, and what happens where OpenVINO is not installed."""

from __future__ import annotations

import builtins
import importlib
import pickle
import warnings

import numpy as np
import pytest
import torch
from common.networks import TinyNet
from sklearn.base import clone
from torch import nn

import sklearn_psp
from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._featurizer import _state
from sklearn_psp._nets import _plan
from sklearn_psp.exceptions import BackboneError, MissingDependencyError, RuntimeFallbackWarning

FAST = {"image_size": 32, "scales": (1.0,), "precision": "float32", "batch_size": 4, "device": "cpu"}
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def tiny(backbone=None, **params):
    return PSPNetFeaturizer(TinyNet() if backbone is None else backbone, **(FAST | params))


def lengths_of_difference(rows, expected):
    return np.linalg.norm(rows.astype(np.float64) - expected, axis=-1)


@pytest.fixture
def without_openvino(monkeypatch):
    """Function that takes OpenVINO away."""

    def remove():
        monkeypatch.setattr(_plan, "_PLANS", {})
        for module in (_plan, _state):
            monkeypatch.setattr(module, "is_installed", lambda name: False)
        found = importlib.import_module

        def import_module(name, package=None):
            if name.partition(".")[0] == "openvino":
                raise ModuleNotFoundError("No module named 'openvino'", name="openvino")
            return found(name, package)

        monkeypatch.setattr(importlib, "import_module", import_module)

    return remove


@pytest.mark.parametrize(("runtime", "used"), [("auto", "openvino"), ("openvino", "openvino"), ("torch", "torch")])
def test_runtime_and_precision_in_use_are_reported(runtime, used):
    featurizer = tiny(runtime=runtime).fit(IMAGES)
    assert (featurizer.runtime_, featurizer.precision_, featurizer.batch_size_) == (used, "float32", 4)
    assert featurizer.runtime == runtime


def test_runtimes_give_the_same_descriptors():
    rows, expected = (tiny(runtime=runtime).fit_transform(IMAGES) for runtime in ("openvino", "torch"))
    assert lengths_of_difference(rows, expected).max() < 1e-4


def test_several_scales_and_mirror_images_are_the_same_in_both_runtimes():
    params = {"scales": (1.0, 1.5), "flip": True, "aggregation": "concat"}
    rows, expected = (tiny(runtime=runtime, **params).fit_transform(IMAGES) for runtime in ("openvino", "torch"))
    assert lengths_of_difference(rows, expected).max() < 1e-4


def test_pickle_keeps_the_runtime_and_the_bits():
    fitted = tiny().fit(IMAGES)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert (loaded.runtime_, loaded.precision_) == ("openvino", "float32")
    np.testing.assert_array_equal(loaded.transform(IMAGES), fitted.transform(IMAGES))


def test_a_pickle_goes_on_with_torch_where_openvino_is_not_installed(without_openvino):
    fitted = tiny().fit(IMAGES)
    expected, pickled = fitted.transform(IMAGES), pickle.dumps(fitted)
    without_openvino()
    with pytest.warns(RuntimeFallbackWarning, match=r"fitted with OpenVINO, which is not installed here.*\[cpu\]"):
        loaded = pickle.loads(pickled)
    assert (loaded.runtime_, loaded.precision_) == ("torch", "float32")
    assert lengths_of_difference(loaded.transform(IMAGES), expected).max() < 1e-3
    # It is torch's from now on: nothing is left to warn of.
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again.transform(IMAGES), loaded.transform(IMAGES))


def test_a_pickle_that_asked_for_openvino_says_how_to_install_it(without_openvino):
    pickled = pickle.dumps(tiny(runtime="openvino").fit(IMAGES))
    without_openvino()
    loaded = pickle.loads(pickled)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sklearn_psp\[cpu\]'"):
        clone(loaded).fit(IMAGES)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sklearn_psp\[cpu\]'"):
        loaded.transform(IMAGES)


def test_a_saved_file_goes_on_with_torch_where_openvino_is_not_installed(without_openvino, tmp_path):
    fitted = tiny().fit(IMAGES)
    expected = fitted.transform(IMAGES)
    sklearn_psp.save(fitted, tmp_path / "saved")
    without_openvino()
    with pytest.warns(RuntimeFallbackWarning, match="fitted with OpenVINO"):
        loaded = sklearn_psp.load(tmp_path / "saved", modules={"common.networks.TinyNet": TinyNet()})
    assert loaded.runtime_ == "torch"
    assert lengths_of_difference(loaded.transform(IMAGES), expected).max() < 1e-3


def test_openvino_that_is_asked_for_and_missing_is_an_error(without_openvino):
    without_openvino()
    with pytest.raises(MissingDependencyError, match=r"runtime='openvino' needs .*pip install 'sklearn_psp\[cpu\]'"):
        tiny(runtime="openvino").fit(IMAGES)


def test_auto_takes_torch_in_silence_where_openvino_is_not_installed(without_openvino):
    without_openvino()
    assert tiny().fit(IMAGES).runtime_ == "torch"


class Dependent(TinyNet):
    """Takes another turn for dark images than for light ones: what is traced is one of the two."""

    def forward(self, x):
        maps = super().forward(x)
        return maps if x.sum() > 0 else 2 * maps + 1


def test_auto_takes_torch_with_a_warning_where_openvino_gives_something_else():
    with pytest.warns(
        RuntimeFallbackWarning, match=r"takes torch instead of OpenVINO: backbone='Dependent' gives other"
    ):
        featurizer = tiny(Dependent()).fit(IMAGES)
    assert featurizer.runtime_ == "torch"
    with pytest.raises(BackboneError, match=r"'Dependent' gives other feature maps.*use runtime='torch'"):
        tiny(Dependent(), runtime="openvino").fit(IMAGES)


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_the_number_of_torchs_threads_is_left_as_found(runtime):
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        featurizer = tiny(runtime=runtime).fit(IMAGES)
        assert torch.get_num_threads() == 2
        rows = featurizer.transform(IMAGES)
        featurizer.transform_parts(list(IMAGES))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
    assert lengths_of_difference(rows, tiny(runtime="torch").fit_transform(IMAGES)).max() < 1e-4


def test_the_network_is_compiled_where_that_is_asked_for(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    expected = tiny(runtime="torch").fit_transform(IMAGES)
    assert compiled == []
    featurizer = tiny(compile=True).fit(IMAGES)
    assert featurizer.runtime_ == "torch"
    np.testing.assert_array_equal(featurizer.transform(IMAGES), expected)
    assert len(compiled) == 1
    assert isinstance(compiled[0], nn.Module)


def test_openvino_is_not_imported_where_torch_is_asked_for(monkeypatch):
    tiny(runtime="torch").fit(IMAGES)  # torch and timm are imported by now

    def guarded(name, *args, original=builtins.__import__, **kwargs):
        assert name.partition(".")[0] != "openvino"
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)
    monkeypatch.setattr("sklearn_psp._nets._openvino_network.import_openvino", pytest.fail)
    tiny(TinyNet(seed=8), runtime="torch").fit(IMAGES).transform(IMAGES)


def test_nothing_is_warned_of_with_the_defaults():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PSPNetFeaturizer(TinyNet(), image_size=32).fit(IMAGES).transform(IMAGES)
