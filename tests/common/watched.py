"""What tests see of the network: how many images go through it, in this process and in others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.nn import functional

from common.networks import TinyNet
from sklearn_psp._nets._networks import TorchNetwork
from sklearn_psp._nets._openvino_network import OpenVINONetwork

_TESTS = Path(__file__).resolve().parents[1]


def n_not_black(batch):
    """Count the images that are not black: what networks are measured and padded with is."""
    return int(batch.reshape(len(batch), -1).ne(0).any(dim=1).sum())


def watch_networks(monkeypatch):
    """Return a list to which every pass of a network adds the number of its images."""
    seen = []
    for network in (TorchNetwork, OpenVINONetwork):

        def maps(self, batch, original=network.maps):
            if n := n_not_black(batch):
                seen.append(n)
            return original(self, batch)

        monkeypatch.setattr(network, "maps", maps)
    return seen


class TallyNet(TinyNet):
    """Adds a byte to a file for every image that it is given, but for the noise and the black ones of probes."""

    def __init__(self, tally):
        super().__init__()
        self.tally = str(tally)

    def forward(self, x):
        """Return feature maps."""
        # Probes are black, or normal noise: images are in [0, 1].
        if x.min() >= 0 and (n := n_not_black(x)):
            with open(self.tally, "ab") as file:
                file.write(b"." * n)
        return super().forward(x)


class Mirrored(TinyNet):
    """The same weights, but another function."""

    def forward(self, x):
        """Return feature maps."""
        return torch.flip(super().forward(x), dims=(-1,))


class UpsideDown(TinyNet):
    """The same weights, but another function, with the same values in other places."""

    def forward(self, x):
        """Return feature maps."""
        return torch.flip(super().forward(x), dims=(-2,))


class Smooth(TinyNet):
    """The same weights, but another function, with nearly the same large values."""

    def forward(self, x):
        """Return feature maps."""
        return functional.gelu(self.norm(self.convolution(x))) + 0.01


# As if the code of the class had been changed since.
Mirrored.__name__ = UpsideDown.__name__ = Smooth.__name__ = TinyNet.__name__


def run_python(script, *arguments):
    """Run a Python process that can import what tests share; return its standard error, where it did not fail."""
    path = os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    return run.stderr
