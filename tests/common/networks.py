"""Networks small enough for tests, at module level so that they pickle."""

from __future__ import annotations

import torch
from torch import nn

# Parameters of a featurizer with which a small network runs at once: nothing is measured, nothing converted.
FAST = {
    "image_size": 32,
    "scales": (1.0,),
    "precision": "float32",
    "batch_size": 4,
    "device": "cpu",
    "runtime": "torch",
}


class TinyNet(nn.Module):
    """A convolution of stride 8 and a batch norm, with weights of its own seed; feature maps of 12 channels.

    It takes sides down to 8 pixels, and its channels differ in every part, so that a part taken for another shows.
    """

    def __init__(self, n_channels=12, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.convolution = nn.Conv2d(3, n_channels, kernel_size=8, stride=8)
            self.norm = nn.BatchNorm2d(n_channels)
            nn.init.normal_(self.convolution.weight, std=0.3)
            nn.init.uniform_(self.norm.running_mean)
            nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x):
        """Return feature maps, none of them negative."""
        return torch.relu(self.norm(self.convolution(x))) + 0.01


class ImageDependent(TinyNet):
    """Gives other feature maps for bright images than for dark ones, by a decision in Python."""

    def forward(self, x):
        """Return feature maps, those of bright images upside down."""
        maps = super().forward(x)
        return maps.flip(-2) if x.mean() > 0.1 else maps


class WithoutConversion(TinyNet):
    """Uses an operator that OpenVINO does not have."""

    def forward(self, x):
        """Return feature maps, scaled by the largest singular value of each channel."""
        maps = super().forward(x)
        return maps / torch.linalg.svdvals(maps)[..., :1, None]
