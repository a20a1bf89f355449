"""The layers that are trained are the last ones, by what they do and not by their names."""

from __future__ import annotations

import pytest
import torch
from common.networks import TinyNet
from torch import nn

from sklearn_psp._nets import BackboneRequest, load_backbone
from sklearn_psp._training import trainable_copy
from sklearn_psp._training._model import trainable_layers
from sklearn_psp.exceptions import BackboneError


def backbone(name, size=64, weights=None):
    return load_backbone(BackboneRequest(name, weights, None, (size, size), 0)).module


def trained(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


class Gate(nn.Module):
    """Squeeze-and-excitation: layers whose maps are one cell."""

    def __init__(self):
        super().__init__()
        self.squeeze = nn.Conv2d(4, 2, 1)
        self.excite = nn.Conv2d(2, 4, 1)

    def forward(self, x):
        """Return maps, channel by channel weaker."""
        return x * torch.sigmoid(self.excite(self.squeeze(x.mean((2, 3), keepdim=True))))


class Strides(nn.Module):
    """Maps of 1, 1/2, 1/4, 1/4 of the sides; the classifier is never run, and layers stand in another order."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 10)
        self.last = nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(4)
        self.coarse = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.coarse_norm = nn.BatchNorm2d(4)
        self.wide = nn.Conv2d(4, 4, 3, padding=1)
        self.quarter = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.gate = Gate()

    def forward(self, x):
        """Return the maps."""
        x = self.wide(self.coarse_norm(self.coarse(self.stem_norm(self.stem(x)))))
        return self.gate(self.last(self.quarter(x)))


def test_last_stage_begins_where_maps_are_as_coarse_as_the_last_ones():
    layers = trainable_layers(Strides().eval(), (32, 32), "last_stage")
    assert layers == ["quarter", "last", "gate.squeeze", "gate.excite"]


@pytest.mark.parametrize("size", [32, 64], ids=["maps of one cell", "maps of four cells"])
def test_last_stage_of_a_resnet(size):
    module = trainable_copy(backbone("torchvision/resnet18", size), (size, size), "last_stage")
    expected = {name for name, _ in module.named_parameters() if ".layer4." in name}
    assert len(expected) == 15
    assert trained(module) == expected


def test_last_stage_of_the_default_backbone():
    module = trainable_copy(backbone("efficientnet_lite0"), (64, 64), "last_stage")
    names = trained(module)
    assert {name.split(".")[1] for name in names} == {"blocks", "conv_head", "bn2"}
    # The last stride of EfficientNet is in the depthwise convolution of the first block of stage 5 (from 0).
    assert "network.blocks.5.0.conv_dw.weight" in names
    assert "network.blocks.5.0.conv_pw.weight" not in names
    assert {".".join(name.split(".")[1:3]) for name in names if ".blocks." in name} == {"blocks.5", "blocks.6"}


def test_last_stage_of_a_network_with_linear_layers_on_maps():
    """ConvNeXt's linear layers have the channels last: their outputs are no maps of so many rows and columns."""
    module = trainable_copy(backbone("torchvision/convnext_tiny"), (64, 64), "last_stage")
    stages = {tuple(map(int, name.split("features.")[1].split(".")[:2])) for name in trained(module)}
    assert stages == {(6, 1), (7, 0), (7, 1), (7, 2)}


def test_of_a_vision_transformer_the_last_quarter_is_trained():
    module = trainable_copy(backbone("timm/vit_tiny_patch16_224", 224), (224, 224), "last_stage")
    names = trained(module)
    blocks = sorted({int(name.split("blocks.")[1].split(".")[0]) for name in names if "blocks." in name})
    assert blocks == [9, 10, 11]
    assert "network.norm.weight" in names
    layers = {name.rpartition(".")[0] for name, _ in module.named_parameters() if ".head" not in name}
    n_run = len(layers - {"network"})  # the token and the positions belong to no layer that is run
    assert len({name.rpartition(".")[0] for name in names}) == round(n_run / 4)


@pytest.mark.parametrize("make", [Strides, TinyNet])
def test_all_means_every_parameter(make):
    module = trainable_copy(make(), (32, 32), "all")
    assert trained(module) == {name for name, _ in module.named_parameters()}


def test_the_shared_backbone_is_not_touched():
    shared = backbone("efficientnet_lite0")
    before = {name: tensor.clone() for name, tensor in shared.state_dict().items()}
    module = trainable_copy(shared, (64, 64), "last_stage")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert trained(shared) == set()
    assert not any(layer.training for layer in [*shared.modules(), *module.modules()])
    assert not any(layer._forward_hooks for layer in [*shared.modules(), *module.modules()])
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.state_dict().items())


class Opaque(nn.Module):
    """Has its weights itself, as a Keras model has them towards torch."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(4, 3, 8, 8))

    def forward(self, x):
        """Return maps."""
        return nn.functional.conv2d(x, self.kernel, stride=8)


def test_a_network_that_shows_no_layers_is_trained_whole_or_not_at_all():
    with pytest.raises(BackboneError, match=r"train='last_stage' needs to see the layers.*use train='all'"):
        trainable_copy(Opaque(), (32, 32), "last_stage")
    assert trained(trainable_copy(Opaque(), (32, 32), "all")) == {"kernel"}
