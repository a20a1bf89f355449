"""The network that torch runs: preprocessing, precision, views; folding changes its speed, not the function."""

import copy

import numpy as np
import pytest
import timm
import torch
from common.networks import TinyNet
from torch import nn

from sklearn_psp._nets import BackboneRequest, Views, load_backbone
from sklearn_psp._nets._networks import TorchNetwork, fold_batch_norm, prepared

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


def trained_like(module):
    """Give batch norms statistics as training leaves them: fresh ones fold into nothing."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.3, generator=generator)
    return module.eval()


def norms(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


@torch.inference_mode()
def test_folded_network_has_no_batch_norm_and_the_same_output():
    for name in ("tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"):
        network = trained_like(timm.create_model(name, num_classes=0, global_pool=""))
        folded = fold_batch_norm(network, (64, 64))
        image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        expected = network(image)
        assert norms(network)
        assert not norms(folded)
        torch.testing.assert_close(folded(image), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


class TwoReaders(nn.Module):
    """A convolution whose output is read by its batch norm and by a sum."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + x


@torch.inference_mode()
def test_a_convolution_with_another_reader_is_left_alone():
    network = trained_like(TwoReaders())
    folded = fold_batch_norm(network, (16, 16))
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(folded(image), network(image))


@torch.inference_mode()
def test_a_module_called_twice_is_left_alone():
    norm = nn.BatchNorm2d(3)
    network = trained_like(nn.Sequential(nn.Conv2d(3, 3, 1), norm, nn.ReLU(), nn.Conv2d(3, 3, 1), norm))
    image = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(fold_batch_norm(network, (8, 8))(image), network(image))


def test_the_original_and_the_random_state_are_left_as_found():
    network = trained_like(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    state = torch.random.get_rng_state()
    fold_batch_norm(network, (8, 8))
    assert len(norms(network)) == 1
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_copy_can_be_moved_converted_and_copied_outside_of_inference_mode():
    network = trained_like(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    folded = fold_batch_norm(network, (8, 8)).to(memory_format=torch.channels_last)
    assert copy.deepcopy(folded).bfloat16()[0].weight.dtype == torch.bfloat16
    assert not any(tensor.is_inference() for tensor in folded.state_dict().values())
