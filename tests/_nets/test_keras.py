"""Keras models, by a stand-in for what is used of Keras; tests/interop has the real one."""

from __future__ import annotations

import contextlib
import copy
import sys
import types

import pytest
import torch
from torch import nn

from sklearn_psp._nets import BackboneRequest, load_backbone, own_image_size
from sklearn_psp._nets._keras import KerasModules
from sklearn_psp.exceptions import BackboneError


class Variable:
    def __init__(self, name, value, trainable=True):
        self.name = name
        self.value = nn.Parameter(value, requires_grad=trainable)


class Layer(nn.Module):
    """A model on the torch backend: two numbers a channel, one of them trained, and the state of its dropout."""

    def __init__(self, input_shape=(None, None, None, 3), maps=True):
        super().__init__()
        self.input_shape, self.maps, self.built = input_shape, maps, True
        self.calls = []
        self.state = [
            Variable("kernel", torch.arange(1.0, 4.0)),
            Variable("mean", torch.ones(3), trainable=False),
            Variable("seed", torch.tensor([1, 2]), trainable=False),
        ]
        # As Keras does: all of them parameters.
        self.registered = nn.ParameterList([variable.value for variable in self.state])

    @property
    def weights(self):
        return self.state[:2]

    @property
    def variables(self):
        return self.state

    @property
    def trainable_variables(self):
        return self.state[:1]

    def __call__(self, x, training):
        self.calls.append((tuple(x.shape), training))
        kernel, mean, _ = (variable.value for variable in self.state)
        shape = (1, 1, 1, 3) if x.shape[3] == 3 else (1, 3, 1, 1)
        maps = x * kernel.view(shape) + mean.view(shape)
        return maps if self.maps else maps.mean(dim=(1, 2))

    def __deepcopy__(self, memo):
        copied = type(self)(self.input_shape, self.maps)
        for mine, its in zip(self.state, copied.state, strict=True):
            its.value.data = mine.value.data.clone()
        return copied


Layer.__module__ = "keras.src.layers.layer"


class Unsaved(Layer):
    """Keeps something that is in no weight and in no configuration."""

    secret = 0.0

    def __call__(self, x, training):
        return super().__call__(x, training) + self.secret


class NoModule:
    """A model on another backend."""


NoModule.__name__, NoModule.__module__ = "Layer", "keras.src.layers.layer"


@pytest.fixture(autouse=True)
def keras(monkeypatch):
    """The module, as far as it is used."""
    keras = types.ModuleType("keras")
    keras.devices = []

    @contextlib.contextmanager
    def device(name):
        keras.devices.append(name)
        yield

    keras.device = device
    keras.config = types.SimpleNamespace(image_data_format=lambda: "channels_last")
    keras.backend = types.SimpleNamespace(backend=lambda: "jax")
    monkeypatch.setitem(sys.modules, "keras", keras)
    return keras


def request(model, size=(8, 9)):
    return BackboneRequest(model, "default", None, size)


def noise():
    return torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))


EXPECTED = noise() * torch.arange(1.0, 4.0)[:, None, None] + 1


@pytest.mark.parametrize(
    ("input_shape", "seen"),
    [
        ((None, None, None, 3), (2, 8, 9, 3)),
        ((None, 8, 9, 3), (2, 8, 9, 3)),
        ((None, 3, None, None), (2, 3, 8, 9)),
        (None, (2, 8, 9, 3)),
        ([(None, 8, 9, 3)], (2, 8, 9, 3)),
    ],
)
def test_images_go_in_and_maps_come_out_in_the_model_s_own_layout(keras, input_shape, seen):
    backbone = load_backbone(request(Layer(input_shape)))
    torch.testing.assert_close(backbone.module(noise()), EXPECTED)
    assert backbone.module.network.calls[-1] == (seen, False)
    assert keras.devices[-1] == "cpu"
    assert (backbone.n_channels, backbone.grid) == (3, (8, 9))
    assert backbone.fixed_size == (input_shape == (None, 8, 9, 3))
    assert own_image_size(Layer(input_shape)) == ((8, 9) if backbone.fixed_size else (224, 224))


def test_setting_of_keras_decides_where_the_model_does_not_say(keras):
    keras.config.image_data_format = lambda: "channels_first"
    backbone = load_backbone(request(Layer(None)))
    assert backbone.module.network.calls[-1][0] == (1, 3, 8, 9)


def test_trained_weights_are_parameters_and_others_buffers_that_move_along():
    model = Layer()
    module = load_backbone(request(model)).module
    assert [name for name, _ in module.named_parameters()] == ["0000_kernel"]
    assert [name for name, _ in module.named_buffers()] == ["0001_mean"]
    module.requires_grad_(True).train().double()
    values = {variable.name: variable.value for variable in module.network.state}
    assert {name: value.dtype for name, value in values.items()} == {
        "kernel": torch.float64, "mean": torch.float64, "seed": torch.int64}  # fmt: skip
    module(noise().double()).sum().backward()
    assert module.network.calls[-1][1] is True
    assert values["kernel"].grad.abs().sum() > 0
    values["mean"].data.mul_(5)  # as training does
    assert (module.state_dict()["0001_mean"] == 5).all()
    again = copy.deepcopy(module)
    assert again.training
    torch.testing.assert_close(again(noise().double()), module(noise().double()))
    values["kernel"].data.zero_()
    assert again.state_dict()["0000_kernel"].abs().sum() > 0
    assert (model.state[0].value != 0).all()
    assert model.state[0].value.dtype == torch.float32


def test_a_copy_that_gives_other_maps_is_refused():
    model = Unsaved()
    model.secret = 1.0
    with pytest.raises(BackboneError, match="a copy of this Keras model gives other feature maps"):
        load_backbone(request(model))


def test_a_model_without_maps_is_told_to_leave_its_head_out():
    with pytest.raises(BackboneError, match=r"\(n, height, width, 3\) to .* shape \(1, 3\); cut .* include_top=False"):
        load_backbone(request(Layer(maps=False)))


def test_a_model_without_weights_is_refused():
    model = Layer()
    model.built = False
    with pytest.raises(BackboneError, match="is not built, and has no weights yet"):
        load_backbone(request(model))


def test_another_backend_is_refused_with_the_remedy():
    with pytest.raises(BackboneError, match=r"on the backend 'jax', and needs .* KERAS_BACKEND=torch before keras is"):
        load_backbone(request(NoModule()))


def test_only_what_comes_from_keras_is_keras():
    assert KerasModules().knows(Layer())
    assert KerasModules().knows(Unsaved())
    assert KerasModules().knows(NoModule())
    assert not KerasModules().knows(nn.Conv2d(3, 4, 3))
    assert not KerasModules().knows("efficientnet_lite0")
