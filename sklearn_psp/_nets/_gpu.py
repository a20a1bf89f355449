"""Work on a GPU that the processor does not wait for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

__all__ = ["launched"]


def launched(
    compute: Callable, images: np.ndarray, device: torch.device, stream: torch.cuda.Stream
) -> Callable[[], tuple[np.ndarray, ...]]:
    """Start work on a batch: bytes go over the bus from pinned memory, results come back into it.

    Parameters
    ----------
    compute : callable
        Turns the images (n, 3, height, width) on the device into a tuple of tensors there.
    images : ndarray of shape (n, height, width, 3)
        The images.
    device : torch.device
        The GPU.
    stream : torch.cuda.Stream
        Where the work is queued.

    Returns
    -------
    callable
        Waits for the work, and returns its results as arrays.
    """
    pinned = torch.empty(images.shape, dtype=torch.from_numpy(images[:0].copy()).dtype, pin_memory=True)
    pinned.numpy()[...] = images
    with torch.cuda.stream(stream):
        results = compute(pinned.to(device, non_blocking=True).permute(0, 3, 1, 2))
        hosts = [torch.empty(r.shape, dtype=r.dtype, pin_memory=True).copy_(r, non_blocking=True) for r in results]
        done = torch.cuda.Event()
        done.record(stream)

    def wait(_pinned=pinned):  # which the copy may still be reading
        done.synchronize()
        return tuple(host.numpy() for host in hosts)

    return wait
