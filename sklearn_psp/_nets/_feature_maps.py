"""A network cut off where its feature maps are, whatever form it gives them in."""

from __future__ import annotations

import torch
from torch import nn

from sklearn_psp.exceptions import BackboneError

__all__ = ["FeatureMaps", "probe"]


class FeatureMaps(nn.Module):
    """Bring a network's output to feature maps of shape (n, channels, rows, columns).

    Parameters
    ----------
    network : torch.nn.Module
        The network; a submodule, so that it moves with this one.
    method : str, default="forward"
        The method of `network` that gives the maps; by name, so that a deep copy calls its own.
    layout : {"nchw", "nhwc", "tokens"}, default="nchw"
        What the method returns: maps, maps with the channels last (Swin), or (n, tokens, channels) of a transformer.
    n_prefix_tokens : int, default=0
        Class and register tokens in front of the grid, which are dropped.
    grid : tuple of two ints or None, default=None
        (rows, columns) of the tokens.
    fixed_size : bool, default=False
        Whether the network was built for one image size and takes no other.
    """

    # What a module is asked for, and how: for messages.
    shapes = ("(n, 3, height, width)", "(n, channels, rows, columns)")
    remedy = "cut the network before its global pooling"

    def __init__(self, network, method="forward", layout="nchw", n_prefix_tokens=0, grid=None, fixed_size=False):
        super().__init__()
        self.network = network
        self.method = method
        self.layout = layout
        self.n_prefix_tokens = n_prefix_tokens
        self.grid = grid
        self.fixed_size = fixed_size or layout == "tokens"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature maps of a normalised batch."""
        maps = getattr(self.network, self.method)(x)
        if isinstance(maps, dict):  # torchvision's feature extractors
            (maps,) = maps.values()
        if self.layout == "tokens":
            maps = maps[:, self.n_prefix_tokens :].unflatten(1, self.grid)
        return maps if self.layout == "nchw" else maps.permute(0, 3, 1, 2)


@torch.inference_mode()
def probe(module: nn.Module, image_size: tuple[int, int], name: str) -> torch.Size:
    """Run one blank image to learn the shape of the feature maps, and refuse a network that gives none.

    Raises
    ------
    BackboneError
        If the network cannot take images of this size, or does not return a 4-dimensional tensor.
    """
    try:
        maps = module(torch.zeros(1, 3, *image_size, dtype=torch.float32))
    except Exception as error:
        raise BackboneError(
            f"backbone={name!r} cannot take images of image_size={image_size}: {type(error).__name__}: {error}"
        ) from error
    shape = getattr(maps, "shape", None)
    if shape is None or len(shape) != 4 or 0 in shape:
        got = f"a tensor of shape {tuple(shape)}" if shape is not None else f"a {type(maps).__name__}"
        takes, gives = module.shapes
        raise BackboneError(
            f"backbone={name!r} must map {takes} to feature maps {gives}; it gave {got}; {module.remedy}"
        )
    return shape
