"""The network that torch runs: preprocessing, precision, views."""

import numpy as np
import pytest
import timm
import torch
from common.networks import TinyNet

from sklearn_psp._nets import BackboneRequest, Views, load_backbone
from sklearn_psp._nets._torch_network import TorchNetwork, prepared

CPU = torch.device("cpu")


def lite0(size=64):
    return load_backbone(BackboneRequest("efficientnet_lite0", "default", None, (size, size)))


def batch(n=2, size=64):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@torch.inference_mode()
def test_pixels_are_scaled_by_mean_and_standard_deviation_of_the_backbone(dtype):
    module = timm.create_model("tf_efficientnet_lite0")
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    module.pretrained_cfg = {**module.pretrained_cfg, "mean": mean, "std": std}
    backbone = load_backbone(BackboneRequest(module, "default", None, (32, 32)), refresh=True)
    network = TorchNetwork(backbone, CPU, "float32", Views([(32, 32)]))
    seen = []
    network.module = lambda x: (seen.append(x), torch.ones(len(x), 2, 1, 1))[1]
    x = batch(size=32).to(dtype)
    network.maps(x)
    by_channel = [np.array(v)[:, None, None] for v in (mean, std)]
    expected = (x.double().numpy() / 255 - by_channel[0]) / by_channel[1]
    np.testing.assert_allclose(seen[0].numpy(), expected, atol=1e-5)


@torch.inference_mode()
def test_maps_are_those_of_the_backbone():
    x = batch()
    (maps,) = TorchNetwork(lite0(), CPU, "float32", Views([(64, 64)])).maps(x)
    expected = lite0().module(x / 127.5 - 1)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@torch.inference_mode()
def test_maps_of_mirror_images_are_turned_back():
    backbone = load_backbone(BackboneRequest(TinyNet(), "default", None, (64, 64)))
    x = batch()
    plain, mirrored = TorchNetwork(backbone, CPU, "float32", Views([(64, 64)], flip=True)).maps(x)
    torch.testing.assert_close(plain, backbone.module(x / 255), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mirrored, backbone.module(x.flip(-1) / 255).flip(-1), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_bfloat16_converts_a_copy_and_stays_close():
    x = batch()
    expected = lite0().module(x / 127.5 - 1)
    (maps,) = TorchNetwork(lite0(), CPU, "bfloat16", Views([(64, 64)])).maps(x)
    assert maps.dtype == torch.bfloat16
    assert {p.dtype for p in lite0().module.parameters()} == {torch.float32}
    assert torch.nn.functional.cosine_similarity(maps.float().flatten(1), expected.flatten(1)).min() > 0.99


def test_a_network_is_prepared_once_for_each_precision():
    by_precision = [prepared(lite0(), CPU, precision) for precision in ("float32", "bfloat16")]
    assert [prepared(lite0(), CPU, precision) for precision in ("float32", "bfloat16")] == by_precision
    assert by_precision[0] is not by_precision[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@torch.inference_mode()
def test_a_feature_extractor_of_torchvision_is_prepared_and_runs(precision):
    backbone = load_backbone(BackboneRequest("torchvision/resnet18", None, None, (64, 64), 0))
    x = batch()
    network = TorchNetwork(backbone, CPU, precision, Views([(64, 64)]))
    assert not network.module.training
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.module.modules())
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.spec.mean, backbone.spec.std))
    expected = backbone.module((x / 255 - mean) / std)
    atol = {"float32": 1e-4, "bfloat16": 0.1}[precision] * expected.abs().max().item()
    torch.testing.assert_close(network.maps(x)[0].float(), expected, rtol=0, atol=atol)
