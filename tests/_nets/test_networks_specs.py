"""What a backbone knows of itself."""

import copy

import pytest
import torch
from common.networks import TinyNet

from sklearn_psp._nets import BackboneRequest, load_backbone


def load(module, size=(32, 32)):
    return load_backbone(BackboneRequest(module, "default", None, size), refresh=True)


class Doubled(TinyNet):
    def forward(self, x):
        return 2 * super().forward(x)


class Mirrored(TinyNet):
    def forward(self, x):
        return super().forward(x).flip(-1)


class Delayed(TinyNet):
    def forward(self, x):
        return super().forward(x).roll(1, dims=1)


@pytest.mark.parametrize("changed", [Doubled, Mirrored, Delayed])
def test_fingerprint_changes_with_what_is_done_with_the_same_weights(changed):
    plain, other = load(TinyNet()), load(changed())
    assert plain.sha256 == other.sha256
    assert plain.fingerprint() != other.fingerprint()


def test_fingerprint_changes_with_the_weights():
    assert load(TinyNet(seed=0)).fingerprint() != load(TinyNet(seed=1)).fingerprint()


def test_fingerprint_is_that_of_every_instance():
    module = TinyNet()
    assert load(module).fingerprint() == load(copy.deepcopy(module)).fingerprint() == load(TinyNet()).fingerprint()


def test_fingerprint_leaves_the_random_state_as_found():
    backbone, state = load(TinyNet()), torch.random.get_rng_state()
    backbone.fingerprint()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("size", [(32, 32), (16, 8), (24, 40)])
def test_grid_at_is_the_shape_of_the_maps_of_that_size(size):
    assert load(TinyNet()).grid_at(size) == (size[0] // 8, size[1] // 8)


def test_a_grid_is_asked_of_the_network_once():
    calls = []

    class Counted(TinyNet):
        def forward(self, x):
            calls.append(tuple(x.shape))
            return super().forward(x)

    backbone = load(Counted())
    calls.clear()
    assert backbone.grid_at((16, 8)) == backbone.grid_at([16, 8]) == (2, 1)
    assert calls == [(1, 3, 16, 8)]
