"""Run batches of pictures through a network and pool them: uint8 arrays in, float32 arrays out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as vision

from sklearn_psp._nets._devices import is_out_of_memory
from sklearn_psp._nets._precision import autocast, prepared
from sklearn_psp._nets._pyramid import PyramidPooling
from sklearn_psp._nets._specs import Backbone
from sklearn_psp.exceptions import BatchSizeWarning, OutOfDeviceMemoryError

__all__ = ["Runner"]


class Runner:
    """A network and its pooling on a device.

    Parameters
    ----------
    backbone : Backbone
        The network.
    pooling : PyramidPooling
        What is done with its feature maps.
    device : torch.device
        Where both run.
    precision : {"float32", "bfloat16", "float16"}
        Of the network; pooling ends in float32.
    batch_size : int
        Pictures per pass; halved, with one warning, when the device's memory does not hold them.
    sizes : sequence of (int, int)
        (height, width) of each scale the pictures are seen at.
    flip : bool
        Whether each picture is also seen mirrored.
    """

    def __init__(
        self,
        backbone: Backbone,
        pooling: PyramidPooling,
        *,
        device: torch.device,
        precision: str,
        batch_size: int,
        sizes: Sequence[tuple[int, int]],
        flip: bool,
    ):
        self.module = prepared(backbone, device, precision)
        self.pooling = pooling.to(device)
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.sizes = sizes
        self.flip = flip
        # (pixel / 255 - mean) / std = factor * pixel + offset, by channel
        mean, std = (
            torch.tensor(v, dtype=torch.float32, device=device) for v in (backbone.spec.mean, backbone.spec.std)
        )
        self._factor, self._offset = 1 / (255 * std), -mean / std

    def local_features(self, images: np.ndarray) -> np.ndarray:
        """Compute the parts' features.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8 or float32 in [0, 255], RGB
            Pictures of the largest size.

        Returns
        -------
        ndarray of shape (n, n_parts, n_channels), float32
            Unit vectors; averaged over scales and mirror images, then brought back to unit length.
        """
        return self._run(images, self._parts)

    def global_features(self, images: np.ndarray) -> np.ndarray:
        """Compute the joined features.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8 or float32 in [0, 255], RGB
            Pictures of the largest size.

        Returns
        -------
        ndarray of shape (n, n_features), float32
            Sum or concatenation of the local features; not centred, not normalised.
        """
        return self._run(images, lambda batch: self.pooling.join(self._parts(batch)))

    def _run(self, images, compute):
        asked, done, pieces = self.batch_size, 0, []
        while done < len(images):
            chunk = images[done : done + self.batch_size]
            try:
                pieces.append(self._forward(chunk, compute))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.batch_size = self._half(len(chunk), error)
                continue
            done += len(chunk)
        if self.batch_size < asked:
            warnings.warn(
                f"batch_size={asked} does not fit into the memory of {self.device}: going on with {self.batch_size}; "
                f"pass batch_size={self.batch_size} to start there",
                BatchSizeWarning,
                stacklevel=2,
            )
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    @torch.inference_mode()
    def _forward(self, images, compute):
        # torch warns of read-only memory, which joblib hands to its workers; only such a batch is copied.
        images = np.require(images, requirements=["C", "W"])
        batch = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        return compute(batch).cpu().numpy()

    def _parts(self, batch):
        mirrors = (False, True) if self.flip else (False,)
        views = [self._view(batch, size, mirrored) for size in self.sizes for mirrored in mirrors]
        return views[0] if len(views) == 1 else F.normalize(sum(views), dim=-1)

    def _view(self, batch, size, mirrored):
        if tuple(batch.shape[-2:]) != tuple(size):
            batch = vision.resize(batch, list(size), antialias=True)
        if mirrored:
            batch = batch.flip(-1)
        with autocast(self.device, self.precision):
            maps = self.module(self._normalized(batch))
        # Maps of the mirror image are turned back, so that a part is the same part of the picture.
        return self.pooling.local_features(maps.flip(-1) if mirrored else maps)

    def _normalized(self, batch):
        """Scale pixels row by row: a broadcast along the three channels alone takes ten times as long."""
        n, _, height, width = batch.shape
        rows = batch.permute(0, 2, 3, 1).reshape(n, height, 3 * width).to(torch.float32)
        rows = torch.addcmul(self._offset.repeat(width), rows, self._factor.repeat(width))
        return rows.view(n, height, width, 3).permute(0, 3, 1, 2)

    def _half(self, tried, error):
        if tried > 1:
            return tried // 2
        raise OutOfDeviceMemoryError(
            f"one picture of {self.sizes[0]} pixels does not fit into the memory of {self.device}; use a smaller "
            "image_size or backbone, close what else uses the device, or device='cpu'"
        ) from error
