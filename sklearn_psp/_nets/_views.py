"""What the network sees of an image: every scale, and its mirror image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms.v2 import functional as vision

__all__ = ["Views", "images_tensor"]


@dataclass(frozen=True)
class Views:
    """The sizes at which images are seen, and whether also mirrored.

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
