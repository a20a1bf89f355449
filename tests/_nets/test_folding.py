"""Folding batch normalisation changes the speed, not the function."""

import copy

import timm
import torch
from torch import nn

from sklearn_psp._nets._folding import fold_batch_norm


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
