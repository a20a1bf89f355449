"""A backbone that torch runs: images in, feature maps out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sklearn_psp._nets._folding import fold_batch_norm
from sklearn_psp._nets._specs import Backbone
from sklearn_psp._nets._views import Views

__all__ = ["TorchNetwork", "normalized", "pixel_scale", "prepared"]

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
        What it sees of an image.
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
    mean, std = torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
    return 1 / (255 * std), -mean / std


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
    key = ("network", device, precision, compiled)
    if key not in backbone.memo:
        module = fold_batch_norm(backbone.module, backbone.image_size)
        if precision != "float32":
            for layer in module.modules():
                if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                    layer.to(_DTYPES[precision])
        module = module.to(device, memory_format=torch.channels_last)
        backbone.memo[key] = torch.compile(module) if compiled else module
    return backbone.memo[key]
