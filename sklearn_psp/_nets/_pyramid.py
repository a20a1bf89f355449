"""Part-sequence pyramid pooling: feature maps in, local features or one global feature out; views of test time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.v2 import functional as vision

__all__ = ["Part", "PyramidPooling", "Views", "images_tensor", "part_sequence"]

# Tensors on any device, or arrays of what was kept of them.
Features = TypeVar("Features", torch.Tensor, np.ndarray)

# Generalised means are of positive numbers; Radenovic et al. 2019 clamp alike.
_GEM_FLOOR = 1e-6
# Above it, (1e-6 / maximum) ** p underflows float32.
_MOST_PLAIN_POWER = 5
# What torch's normalize divides shorter vectors by.
_SMALLEST_LENGTH = 1e-12


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
    r"""Cut feature maps into an ordered sequence of parts, pool each, and aggregate them into one global feature.

    Of a feature map :math:`M` with channels c, part i covers the cells :math:`R_i`: row r of a grid of b rows takes
    floor(r h / b) to ceil((r + 1) h / b) of a map of h rows, the boundaries of adaptive pooling, which overlap where b
    does not divide h. Its local feature is

    .. math::
        g_{i,c} = \max_{r \in R_i} M_{r,c}
        \quad\text{or}\quad \frac{1}{|R_i|} \sum_{r \in R_i} M_{r,c}
        \quad\text{or}\quad \Big(\frac{1}{|R_i|} \sum_{r \in R_i} M_{r,c}^{\,p}\Big)^{1/p},
        \qquad f_i = \frac{g_i}{\lVert g_i \rVert_2}

    for max, average and generalised-mean pooling. A projection has a matrix :math:`P_l` for each level l, shared by the
    parts of the level, as the 1x1 convolutions of PSPNet,

    .. math::
        h_i = \frac{f_i P_{l(i)}}{\lVert f_i P_{l(i)} \rVert_2};

    without one :math:`h_i = f_i`. With `normalize=False` nothing is divided by its length: :math:`f_i = g_i` and
    :math:`h_i = f_i P_{l(i)}`. The global feature is the weighted sum, or the concatenation,

    .. math::
        F = \sum_i w_i h_i \quad\text{or}\quad F = \Big[\frac{w_1 h_1}{\sqrt{n_1}}, \frac{w_2 h_2}{\sqrt{n_2}},
        \dots\Big]

    with :math:`n_i` the number of parts in the level of part i: in a concatenation every level has the same say.

    Gradients flow through all of it. To learn the projection, put a parameter in its place:
    ``pyramid.projection = nn.Parameter(pyramid.projection)``.

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
    projection : array-like of shape (n_levels, channels, n_components) or None, default=None
        The matrices P_l; copied.
    part_weights : sequence of float or None, default=None
        The weights w_i, in the order of the parts; ones when None.
    aggregation : {"sum", "concat"}, default="sum"
        Sum of the local features, or their concatenation.
    normalize : bool, default=True
        Whether local features, and their products with the projection, are brought to unit length.

    References
    ----------
    Pyramid of bins over convolutional features, with a 1x1 convolution for each level: Zhao et al., "Pyramid Scene
    Parsing Network", CVPR 2017. Sums of L2-normalised max-pooled regions: Tolias et al., "Particular object retrieval
    with integral max-pooling of CNN activations", ICLR 2016. Generalised mean: Radenovic et al., "Fine-tuning CNN image
    retrieval with no human annotation", TPAMI 2019, equation 3. Levels of equal weight: Lazebnik et al., "Beyond bags
    of features", CVPR 2006.
    """

    projection: torch.Tensor | None
    weights: torch.Tensor

    def __init__(
        self,
        bin_sizes: Sequence[int | tuple[int, int]] = (1, 2, 3),
        part_order: str = "raster",
        pooling: str = "max",
        gem_power: float = 3.0,
        projection: npt.ArrayLike | None = None,
        part_weights: Sequence[float] | np.ndarray | None = None,
        aggregation: str = "sum",
        normalize: bool = True,
    ):
        super().__init__()
        self.sequence = part_sequence(bin_sizes, part_order)
        raster = part_sequence(bin_sizes)
        self.order = [raster.index(part) for part in self.sequence]
        self._reordered = self.order != sorted(self.order)
        self.grids = [(size, size) if isinstance(size, int) else tuple(size) for size in bin_sizes]
        self.pooling = pooling
        self.gem_power = gem_power
        self.aggregation = aggregation
        self.normalize = normalize
        n_before = [0, *accumulate(rows * columns for rows, columns in self.grids)]
        self._levels = [slice(*ends) for ends in pairwise(n_before)]
        matrices = None if projection is None else torch.tensor(np.asarray(projection, dtype=np.float32))
        self.register_buffer("projection", matrices, persistent=False)
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
            The f_i, of unit length (zero where the part is zero) with `normalize=True`, in order.
        """
        before, pool, after = _POOLINGS[self.pooling if self.pooling != "gem" else self._gem()]
        maps = before(maps, self.gem_power)
        parts = torch.cat([pool(maps, grid) for grid in self.grids], dim=1)
        if self._reordered:
            parts = parts[:, self.order]
        parts = after(parts.float(), self.gem_power)
        return _unit(parts) if self.normalize else parts

    def _gem(self):
        # Plain powers are relative to the largest value, and know no lengths.
        return "gem" if self.normalize and self.gem_power <= _MOST_PLAIN_POWER else "gem in logarithms"

    def average(self, views: Sequence[torch.Tensor]) -> torch.Tensor:
        """Average local features (n, n_parts, channels) over several views, to unit length with `normalize=True`."""
        if len(views) == 1:
            return views[0]
        total = views[0]
        for view in views[1:]:
            total = total + view
        return F.normalize(total, dim=-1) if self.normalize else total / len(views)

    def project(self, features: Features) -> Features:
        """Multiply local features (n, n_parts, channels) by the matrices of their levels.

        Without a projection they are returned as they are. Tensors and arrays give the same, except for rounding;
        arrays the same bits, however many images they hold.

        Parameters
        ----------
        features : torch.Tensor or ndarray of shape (n, n_parts, channels), float32
            The f_i, of one view or averaged over several.

        Returns
        -------
        torch.Tensor or ndarray of shape (n, n_parts, n_components), float32
            The h_i, of unit length (zero where the product is zero) with `normalize=True`.
        """
        if self.projection is None:
            return features
        if isinstance(features, torch.Tensor):
            levels = zip(self._levels, self.projection, strict=True)
            projected = torch.cat([features[:, level] @ matrix for level, matrix in levels], dim=1)
            return _unit(projected) if self.normalize else projected
        matrices = zip(self._levels, self.projection.detach().cpu().numpy(), strict=True)
        # numpy makes a product for each image: one for all may add in another order for another number of images.
        products = np.concatenate([features[:, level] @ matrix for level, matrix in matrices], axis=1)
        if not self.normalize:
            return products
        lengths = np.linalg.norm(products, axis=-1, keepdims=True)
        return np.divide(products, np.maximum(lengths, _SMALLEST_LENGTH), out=products)

    def join(self, features: Features) -> Features:
        """Aggregate features of the parts (n, n_parts, m) into global features (n, m) or (n, n_parts * m).

        Tensors and arrays give the same bits, however many images they hold.
        """
        weights: Any = self.weights if isinstance(features, torch.Tensor) else self.weights.cpu().numpy()
        if self.aggregation == "concat":
            return (features * weights[:, None]).reshape(len(features), len(weights) * features.shape[2])
        # Part after part: a product of matrices may add in another order for another number of images.
        total = features[:, 0] * weights[0]
        for i in range(1, features.shape[1]):
            total += features[:, i] * weights[i]
        return total

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the global features of feature maps (n, channels, rows, columns), float32."""
        return self.join(self.project(self.local_features(maps)))


@dataclass(frozen=True)
class Views:
    """Test-time augmentation: the sizes at which the network sees an image, and whether also mirrored.

    Parameters
    ----------
    sizes : sequence of (int, int)
        (height, width) of each scale, the largest first: images come in that size.
    flip : bool, default=False
        Whether each image is also seen mirrored.
    """

    sizes: Sequence[tuple[int, int]]
    flip: bool = False

    def __len__(self):
        return len(self.sizes) * (1 + self.flip)

    def shapes(self) -> list[tuple[int, int]]:
        """Return (height, width) of each view."""
        return [size for size in self.sizes for _ in range(1 + self.flip)]

    def of(self, batch: torch.Tensor) -> Iterator[tuple[torch.Tensor, bool]]:
        """Yield each view of a batch (n, 3, height, width), and whether it is mirrored."""
        for size in self.sizes:
            scaled = batch
            if tuple(batch.shape[-2:]) != tuple(size):
                scaled = vision.resize(batch, list(size), antialias=True)
            yield scaled, False
            if self.flip:
                yield scaled.flip(-1), True


def images_tensor(images: np.ndarray) -> torch.Tensor:
    """View images (n, height, width, 3) as a tensor (n, 3, height, width)."""
    # torch warns of read-only memory, which joblib hands to its workers; only such a batch is copied.
    return torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2)


def _unit(features):
    """Bring to unit length. A zero vector stays, and gets no gradient: that of torch's normalize is 1e12 there."""
    if not features.requires_grad:
        return F.normalize(features, dim=-1)
    lengths = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    moved = torch.where(lengths > _SMALLEST_LENGTH, features, features.detach())
    return moved / lengths.clamp_min(_SMALLEST_LENGTH)


def _boundaries(length, bins):
    """Return (start, end) of each bin of adaptive pooling, ends exclusive."""
    return [(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]


def _by_strips(reduce):
    """Return a function that pools maps by rows first, then by columns of the strips: (n, parts, channels)."""

    def pool(maps, grid):
        cells = maps.permute(0, 2, 3, 1)
        rows, columns = (_boundaries(length, bins) for length, bins in zip(maps.shape[-2:], grid, strict=True))
        strips = [reduce(cells[:, top:bottom]) for top, bottom in rows]
        return torch.stack([reduce(strip[:, left:right]) for strip in strips for left, right in columns], dim=1)

    return pool


def _average(maps, grid):
    return F.adaptive_avg_pool2d(maps, grid).flatten(2).transpose(1, 2)


def _log_mean_exp(cells):
    return torch.logsumexp(cells, dim=1) - math.log(cells.shape[1])


def _powers(maps, p):
    """Raise to the power, relative to the largest value, which unit length cancels: float32 holds the result."""
    maps = maps.float().clamp_min(_GEM_FLOOR)
    if maps.requires_grad:  # which values in their place would break; that of the largest cancels as well
        return (maps / maps.detach().amax((1, 2, 3), keepdim=True)).pow(p)
    return maps.div_(maps.amax((1, 2, 3), keepdim=True)).pow_(p)


# What is done before pooling, how a grid is pooled, and what is done with the parts. For the maximum, strips are twice
# as fast as torch's adaptive pooling, which notes where each maximum was; for the average the latter is.
_POOLINGS = {
    "max": (lambda maps, p: maps, _by_strips(lambda cells: cells.amax(dim=1)), lambda parts, p: parts),
    "avg": (lambda maps, p: maps.float(), _average, lambda parts, p: parts),
    "gem": (_powers, _average, lambda parts, p: parts.log().div_(p).exp_()),
    "gem in logarithms": (
        lambda maps, p: maps.float().clamp_min(_GEM_FLOOR).log() * p,
        _by_strips(_log_mean_exp),
        lambda parts, p: (parts / p).exp(),
    ),
}
