"""Which layers of a backbone are trained."""

from __future__ import annotations

import torch
from torch import nn

from sklearn_psp._nets import copied
from sklearn_psp.exceptions import BackboneError

__all__ = ["trainable_copy", "trainable_layers"]

# Of a network whose maps have one resolution throughout, as those of vision transformers, this share of its layers.
_LAST_SHARE = 0.25


def trainable_layers(module: nn.Module, image_size: tuple[int, int], train: str) -> list[str]:
    """Name the layers with weights that are trained.

    Parameters
    ----------
    module : torch.nn.Module
        The network, in eval mode, on the CPU.
    image_size : tuple of two ints
        (height, width) of its images.
    train : {"last_stage", "all"}
        "last_stage" are the layers from the first convolution on whose maps are as coarse as the last ones; where those
        are more than half of all layers, as in vision transformers, the last quarter.

    Returns
    -------
    list of str
        Names of submodules.

    Raises
    ------
    BackboneError
        If the layers cannot be told apart.
    """
    if next(module.parameters(recurse=False), None) is not None and train == "last_stage":
        raise BackboneError(
            "train='last_stage' needs to see the layers of the backbone, which this one does not show; freeze layers "
            "yourself (in Keras: layer.trainable = False) and use train='all'"
        )
    layers = [(name, layer) for name, layer in module.named_modules() if list(layer.parameters(recurse=False))]
    if train == "all":
        return [name for name, _ in layers]
    runs = _runs(module, dict(layers), image_size)
    names = list(dict.fromkeys(name for name, _ in runs))
    sizes = [size for _, size in runs if size is not None]
    # Within a stage maps may be smaller still, where they are padded afterwards, as in dlib's network.
    coarser = [i for i, (_, size) in enumerate(runs) if size is not None and size <= sizes[-1]]
    before = [i for i, (_, size) in enumerate(runs) if size is not None and size > sizes[-1]]
    start = next((i for i in coarser if not before or i > before[-1]), 0) if coarser else 0
    first = {name for name, _ in runs[:start]}
    last = [name for name in names if name not in first]
    if len(last) > len(names) / 2:  # there is no last stage: one resolution throughout
        return names[-max(1, round(_LAST_SHARE * len(names))) :]
    return last


def trainable_copy(module: nn.Module, image_size: tuple[int, int], train: str) -> nn.Module:
    """Copy a network, and let gradients reach the layers that are to be trained.

    Parameters
    ----------
    module, image_size, train
        As of `trainable_layers`.

    Returns
    -------
    torch.nn.Module
        The copy, in eval mode, on the CPU.
    """
    trained = copied(module).requires_grad_(False)
    for name in trainable_layers(trained, image_size, train):
        for parameter in trained.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(True)
    return trained.to(memory_format=torch.channels_last)


@torch.no_grad()
def _runs(module, layers, image_size):
    """Run an image; return (name of layer, cells of its output if that is a map) in order."""
    runs = []

    def note(name):
        def hook(layer, inputs, output):
            # Of other layers nobody knows which axes are rows and columns: some have the channels last. What a
            # squeeze-and-excitation convolves is one cell.
            is_map = isinstance(layer, nn.Conv2d) and max(inputs[0].shape[-2:]) > 1
            runs.append((name, output.shape[-2] * output.shape[-1] if is_map else None))

        return hook

    handles = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    try:
        module(torch.zeros(1, 3, *image_size))
    finally:
        for handle in handles:
            handle.remove()
    return runs
