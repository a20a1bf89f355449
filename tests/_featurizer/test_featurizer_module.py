"""A network of the user's own: used, but left as found."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from common.networks import FAST, TinyNet
from sklearn.base import clone
from torch import nn

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp.exceptions import BackboneError, WeightsError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def train_on(network):
    with torch.no_grad():
        network.convolution.weight += 0.1


def test_own_module_is_given_rgb_in_0_1_in_eval_mode():
    network = TinyNet().train()
    featurizer = PSPNetFeaturizer(network, bin_sizes=(1,), pooling="avg", center=False, **FAST).fit()
    pixels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        maps = copy.deepcopy(network).eval()(pixels)
    expected = nn.functional.normalize(maps.mean(dim=(2, 3)), dim=1).numpy()
    np.testing.assert_allclose(featurizer.transform(IMAGES), expected, atol=1e-6)
    assert featurizer.backbone_info_["name"] == "TinyNet"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_own_module_is_left_as_found(training, precision):
    network = TinyNet().double().train(training)
    network.convolution.weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    PSPNetFeaturizer(network, **(FAST | {"precision": precision})).fit(IMAGES).transform(IMAGES)
    assert [module.training for module in network.modules()] == [training] * 3
    assert not network.convolution.weight.requires_grad
    assert network.convolution.bias.requires_grad
    assert network.convolution.bias.grad is None
    assert not network._forward_hooks
    after = network.state_dict()
    assert after.keys() == before.keys()
    for name, weights in before.items():
        assert after[name].dtype == weights.dtype
        assert torch.equal(after[name], weights)


def test_fit_keeps_the_very_module_as_the_parameter():
    network = TinyNet()
    assert PSPNetFeaturizer(network, **FAST).fit(IMAGES).backbone is network


def test_clone_has_a_copy_with_the_same_weights():
    fitted = PSPNetFeaturizer(TinyNet(seed=5), **FAST).fit(IMAGES)
    copied = clone(fitted)
    assert copied.backbone is not fitted.backbone
    np.testing.assert_array_equal(copied.fit(IMAGES).transform(IMAGES), fitted.transform(IMAGES))
    assert copied.backbone_info_ == fitted.backbone_info_


def test_pickle_brings_the_weights_along():
    fitted = PSPNetFeaturizer(TinyNet(seed=5), **FAST).fit(IMAGES)
    expected = fitted.transform(IMAGES)
    pickled = pickle.dumps(fitted)
    del fitted
    np.testing.assert_array_equal(pickle.loads(pickled).transform(IMAGES), expected)


def test_training_on_after_fit_changes_nothing_until_the_next_fit():
    network = TinyNet()
    featurizer = PSPNetFeaturizer(network, **FAST).fit(IMAGES)
    expected = featurizer.transform(IMAGES)
    train_on(network)
    np.testing.assert_array_equal(featurizer.transform(IMAGES), expected)
    assert not np.allclose(featurizer.fit(IMAGES).transform(IMAGES), expected, atol=1e-3)


def test_weights_other_than_those_of_fit_are_an_error():
    network = TinyNet()
    featurizer = PSPNetFeaturizer(network, **FAST).fit(IMAGES)
    train_on(network)
    with pytest.raises(WeightsError, match=r"'TinyNet' was fitted with weights of sha256 .* fit again"):
        pickle.loads(pickle.dumps(featurizer)).transform(IMAGES)
    PSPNetFeaturizer(network, **FAST).fit(IMAGES)
    with pytest.raises(WeightsError, match="'TinyNet' was fitted with weights of sha256"):
        featurizer.transform(IMAGES)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(TinyNet(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), r"it gave a tensor of shape \(1, 12\)"),
        (nn.Conv2d(1, 4, 3), "cannot take images of image_size"),
    ],
    ids=["vectors", "grey"],
)
def test_module_that_gives_no_feature_maps_is_refused(network, message):
    with pytest.raises(BackboneError, match=message):
        PSPNetFeaturizer(network, **FAST).fit(IMAGES)


@pytest.mark.parametrize("params", [{"weights": None}, {"weights": "download"}, {"output_stride": 8}], ids=str)
def test_parameters_that_a_module_of_your_own_cannot_have_are_refused(params):
    with pytest.raises((BackboneError, WeightsError), match="module of your own"):
        PSPNetFeaturizer(TinyNet(), **FAST, **params).fit(IMAGES)
