"""Feature maps of all views as one half-precision row per image, and back."""

from __future__ import annotations

import torch

from sklearn_psp._nets._specs import Backbone
from sklearn_psp._nets._views import Views
from sklearn_psp.exceptions import BackboneError

__all__ = ["MapRows"]


class MapRows:
    """The layout of a row: view after view, each with its channels last.

    Parameters
    ----------
    backbone : Backbone
        The network.
    views : Views
        What it sees of an image.
    """

    def __init__(self, backbone: Backbone, views: Views):
        self._backbone = backbone
        self._sizes = views.shapes()

    @property
    def length(self) -> int:
        """Numbers in a row."""
        return sum(self._lengths())

    def pack(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Turn the maps of a batch into rows (n, `length`), float16.

        Raises
        ------
        BackboneError
            If a value is beyond the range of half precision.
        """
        rows = torch.cat([view.permute(0, 2, 3, 1).flatten(1).half() for view in maps], dim=1)
        if not rows.isfinite().all():
            raise BackboneError(
                f"backbone={self._backbone.spec.name!r} gives feature maps beyond the range of half precision "
                "(65,504), in which a cache keeps them; use cache=None"
            )
        return rows

    def unpack(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Turn rows into the maps (n, channels, rows, columns) of each view."""
        pieces = rows.split(self._lengths(), dim=1)
        grids = [self._backbone.grid_at(size) for size in self._sizes]
        return [
            piece.unflatten(1, (*grid, self._backbone.n_channels)).permute(0, 3, 1, 2)
            for piece, grid in zip(pieces, grids, strict=True)
        ]

    def _lengths(self):
        grids = [self._backbone.grid_at(size) for size in self._sizes]
        return [rows * columns * self._backbone.n_channels for rows, columns in grids]
