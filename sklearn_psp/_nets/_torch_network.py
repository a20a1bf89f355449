"""The network that torch runs: images in, feature maps out; with batch normalisation folded into convolutions."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sklearn_psp._nets._pyramid import Views
from sklearn_psp._nets._specs import Backbone

__all__ = ["TorchNetwork", "copied", "fold_batch_norm", "normalized", "pixel_scale", "prepared"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchNetwork:
    """The prepared network on its device; may be called from several threads.

    Parameters
    ----------
    backbone : Backbone
        The network.
    device : torch.device
        Where it runs.
    precision : {"float32", "bfloat16", "float16"}
        In which it computes.
    views : Views
        Sizes at which it sees an image, and whether mirrored.
    compiled : bool, default=False
        Whether torch compiles it.
    """

    def __init__(
        self, backbone: Backbone, device: torch.device, precision: str, views: Views, *, compiled: bool = False
    ):
        self.module = prepared(backbone, device, precision, compiled=compiled)
        self.device = device
        self.precision = precision
        self.views = views
        self._factor, self._offset = (
            numbers.to(device) for numbers in pixel_scale(backbone.spec.mean, backbone.spec.std)
        )

    def maps(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps of each view.

        Parameters
        ----------
        batch : torch.Tensor of shape (n, 3, height, width), uint8 or float32 in [0, 255], RGB
            Images of the largest size, on any device.

        Returns
        -------
        list of torch.Tensor of shape (n, channels, rows, columns)
            Maps of mirror images are turned back, so that a part is the same part of the image.
        """
        batch = batch.to(self.device, non_blocking=True)
        found = []
        for view, mirrored in self.views.of(batch):
            with torch.autocast(self.device.type, dtype=_DTYPES[self.precision], enabled=self.precision != "float32"):
                maps = self.module(normalized(view, self._factor, self._offset))
            found.append(maps.flip(-1) if mirrored else maps)
        return found


def pixel_scale(mean: Sequence[float], std: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factor and offset by channel: (pixel / 255 - mean) / std = factor * pixel + offset."""
    means, stds = (torch.tensor(values, dtype=torch.float32) for values in (mean, std))
    return 1 / (255 * stds), -means / stds


def normalized(batch: torch.Tensor, factor: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Scale pixels (n, 3, height, width), in [0, 255], by what `pixel_scale` returned.

    Row by row: a broadcast along the three channels alone takes ten times as long.
    """
    n, _, height, width = batch.shape
    rows = batch.permute(0, 2, 3, 1).reshape(n, height, 3 * width).to(torch.float32)
    rows = torch.addcmul(offset.repeat(width), rows, factor.repeat(width))
    return rows.view(n, height, width, 3).permute(0, 3, 1, 2)


def prepared(backbone: Backbone, device: torch.device, precision: str, *, compiled: bool = False) -> torch.nn.Module:
    """Return the backbone folded, converted and moved; made once and kept with the backbone.

    Only convolutions and linear layers are converted, autocast does the rest: it would convert their weights anew for
    every batch, while normalisation and softmax keep float32.
    """

    def prepare():
        module = fold_batch_norm(backbone.module, backbone.image_size)
        if precision != "float32":
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(_DTYPES[precision])
        # Channels last: 1.7 times as fast on a CPU, and what convolutions in half precision want on a GPU.
        module = module.to(device).to(memory_format=torch.channels_last)
        return torch.compile(module) if compiled else module

    return backbone.once(("torch", device, precision, compiled), prepare)


@torch.no_grad()  # not inference mode: tensors made there could not be moved or copied outside of it
def fold_batch_norm(module: nn.Module, image_size: tuple[int, int]) -> nn.Module:
    """Return a copy of a network with its conv -> batch-norm pairs folded.

    Pairs are found by running one image and seeing which batch-norm was handed the very tensor a convolution
    returned. Graph tracing would find them too, but fails on networks with data-dependent padding (timm's `tf_` ones).

    Parameters
    ----------
    module : torch.nn.Module
        In eval mode, float32, on the CPU.
    image_size : tuple of two ints
        (height, width) of the image that is run.

    Returns
    -------
    torch.nn.Module
        The copy; left unfolded where folding would change its output by more than 1e-3 of the largest value (a
        convolution whose output is also used elsewhere).
    """
    # Fixed noise from a generator of its own: the user's random state stays as it is.
    image = torch.randn(1, 3, *image_size, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    # Of the copy: hooks on the module itself would also see the images that other threads run through it.
    folded = copied(module)
    expected, pairs = _find_pairs(folded, image)
    for conv_name, norm_name in pairs:
        conv: Any = folded.get_submodule(conv_name)
        norm: Any = folded.get_submodule(norm_name)
        _replace(folded, conv_name, fuse_conv_bn_eval(conv, norm))
        # timm's BatchNormAct2d carries its activation.
        _replace(folded, norm_name, getattr(norm, "act", None) or nn.Identity())
    difference = (folded(image) - expected).abs().max()
    return folded if difference <= 1e-3 * expected.abs().max().clamp_min(1e-6) else copied(module)


def copied(module: nn.Module) -> nn.Module:
    """Copy a network, in eval mode: copies of torchvision's feature extractors come back in training mode."""
    return copy.deepcopy(module).eval()


def _find_pairs(module, image):
    """Return the module's output, and the names of convolutions and norms that only follow one another."""
    calls: Counter[str] = Counter()
    produced: dict[int, str] = {}
    pairs: list[tuple[str, str]] = []
    alive: list[torch.Tensor] = []

    def remember(name):
        def hook(layer, inputs, output):
            calls[name] += 1
            if isinstance(layer, nn.Conv2d):
                produced[id(output)] = name
                alive.append(output)  # an id is only unique while its tensor lives
            elif conv := produced.get(id(inputs[0])):
                pairs.append((conv, name))

        return hook

    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    handles = [layer.register_forward_hook(remember(name)) for name, layer in layers]
    try:
        output = module(image)
    finally:
        for handle in handles:
            handle.remove()
    # A layer that is called twice cannot be folded into one of its calls.
    return output, [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _replace(module, name, new):
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new)
