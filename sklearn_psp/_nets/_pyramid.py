"""Part-sequence pyramid pooling: feature maps in, local features or one global feature out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Part", "PyramidPooling", "part_sequence"]

# Generalised means are of positive numbers; Radenovic et al. 2019 clamp alike.
_GEM_FLOOR = 1e-6


class Part(NamedTuple):
    """One part of the sequence: cell (row, column) of a grid of rows x columns."""

    level: int
    row: int
    column: int
    rows: int
    columns: int


def part_sequence(bin_sizes: Sequence[int | tuple[int, int]], part_order: str = "raster") -> list[Part]:
    """List the parts of a pyramid in order.

    Parameters
    ----------
    bin_sizes : sequence of int or (int, int)
        The levels: b means a grid of b x b, a pair means (rows, columns).
    part_order : {"raster", "column", "snake"}, default="raster"
        Within a level: row by row, column by column, or row by row with every second row backwards.

    Returns
    -------
    list of Part
        All parts, level after level.
    """
    parts = []
    for level, size in enumerate(bin_sizes):
        rows, columns = (size, size) if isinstance(size, int) else size
        cells = [(r, c) for r in range(rows) for c in range(columns)]
        if part_order == "column":
            cells.sort(key=lambda cell: (cell[1], cell[0]))
        elif part_order == "snake":
            cells.sort(key=lambda cell: (cell[0], -cell[1] if cell[0] % 2 else cell[1]))
        parts += [Part(level, row, column, rows, columns) for row, column in cells]
    return parts


class PyramidPooling(nn.Module):
    r"""Cut feature maps into an ordered sequence of parts, pool each, and join them into one global feature.

    Of a feature map :math:`M` with channels c, part i covers the cells :math:`R_i`: row r of a grid of b rows takes
    floor(r h / b) to ceil((r + 1) h / b) of a map of h rows, the boundaries of adaptive pooling, which overlap where b
    does not divide h. Its local feature is

    .. math::
        g_{i,c} = \max_{r \in R_i} M_{r,c}
        \quad\text{or}\quad \frac{1}{|R_i|} \sum_{r \in R_i} M_{r,c}
        \quad\text{or}\quad \Big(\frac{1}{|R_i|} \sum_{r \in R_i} M_{r,c}^{\,p}\Big)^{1/p},
        \qquad f_i = \frac{g_i}{\lVert g_i \rVert_2}

    for max, average and generalised-mean pooling. The global feature is the weighted sum, or the concatenation,

    .. math::
        F = \sum_i w_i f_i \quad\text{or}\quad F = \Big[\frac{w_1 f_1}{\sqrt{n_1}}, \frac{w_2 f_2}{\sqrt{n_2}},
        \dots\Big]

    with :math:`n_i` the number of parts in the level of part i: in a concatenation every level has the same say.

    Parameters
    ----------
    bin_sizes : sequence of int or (int, int), default=(1, 2, 3)
        The levels of the pyramid.
    part_order : {"raster", "column", "snake"}, default="raster"
        Order of the parts within a level.
    pooling : {"max", "avg", "gem"}, default="max"
        How a part is pooled.
    gem_power : float, default=3.0
        The power p of generalised-mean pooling.
    part_weights : sequence of float or None, default=None
        The weights w_i, in the order of the parts; ones when None.
    aggregation : {"sum", "concat"}, default="sum"
        How the local features are joined.

    References
    ----------
    Pyramid of bins over convolutional features: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017. Sums of
    L2-normalised max-pooled regions: Tolias et al., "Particular object retrieval with integral max-pooling of CNN
    activations", ICLR 2016. Generalised mean: Radenovic et al., "Fine-tuning CNN image retrieval with no human
    annotation", TPAMI 2019, equation 3. Levels of equal weight: Lazebnik et al., "Beyond bags of features", CVPR
    2006.
    """

    def __init__(
        self,
        bin_sizes=(1, 2, 3),
        part_order="raster",
        pooling="max",
        gem_power=3.0,
        part_weights=None,
        aggregation="sum",
    ):
        super().__init__()
        self.sequence = part_sequence(bin_sizes, part_order)
        raster = part_sequence(bin_sizes)
        self.order = [raster.index(part) for part in self.sequence]
        self.grids = [(size, size) if isinstance(size, int) else tuple(size) for size in bin_sizes]
        self.pooling = pooling
        self.gem_power = gem_power
        self.aggregation = aggregation
        weights = torch.as_tensor(
            [1.0] * len(self.sequence) if part_weights is None else part_weights, dtype=torch.float32
        )
        if aggregation == "concat":
            counts = torch.tensor([part.rows * part.columns for part in self.sequence], dtype=torch.float32)
            weights = weights / counts.sqrt()
        self.register_buffer("weights", weights, persistent=False)

    def local_features(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool the parts.

        Parameters
        ----------
        maps : torch.Tensor of shape (n, channels, rows, columns)
            Feature maps, of any floating dtype.

        Returns
        -------
        torch.Tensor of shape (n, n_parts, channels), float32
            The f_i, of unit length (zero where the part is zero), in order.
        """
        pool = {"max": F.adaptive_max_pool2d, "avg": F.adaptive_avg_pool2d, "gem": self._generalised_mean}[self.pooling]
        if self.pooling != "max":
            maps = maps.float()
        pooled = torch.cat([pool(maps, grid).flatten(2) for grid in self.grids], dim=2)
        return F.normalize(pooled.transpose(1, 2)[:, self.order].float(), dim=-1)

    def _generalised_mean(self, maps, grid):
        """Pool the cells of a grid in the logarithm's domain: a plain power overflows float32 at moderate p."""
        logs = maps.clamp_min(_GEM_FLOOR).log() * self.gem_power
        rows, columns = (_boundaries(length, bins) for length, bins in zip(maps.shape[-2:], grid, strict=True))
        cells = [logs[..., top:bottom, left:right].flatten(2) for top, bottom in rows for left, right in columns]
        means = [torch.logsumexp(cell, dim=2) - math.log(cell.shape[2]) for cell in cells]
        return (torch.stack(means, dim=2) / self.gem_power).exp()

    def join(self, features: torch.Tensor) -> torch.Tensor:
        """Join local features (n, n_parts, channels) into global features (n, channels) or (n, n_parts * channels)."""
        if self.aggregation == "concat":
            return (features * self.weights[:, None]).flatten(1)
        return torch.einsum("npc,p->nc", features, self.weights)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the global features of feature maps (n, channels, rows, columns), float32."""
        return self.join(self.local_features(maps))


def _boundaries(length, bins):
    """Return (start, end) of each bin of adaptive pooling, ends exclusive."""
    return [(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]
