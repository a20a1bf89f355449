"""Fold batch normalisation into the convolution before it: the same function with fewer passes over memory."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["copied", "fold_batch_norm"]


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
    expected, pairs = _find_pairs(module, image)
    folded = copied(module)
    for conv_name, norm_name in pairs:
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
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
    calls, produced, pairs, alive = Counter(), {}, [], []

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
