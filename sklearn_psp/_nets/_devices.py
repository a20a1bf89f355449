"""Devices, and work on them: threads that use one core each, and batches that a GPU computes on its own."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from sklearn_psp.exceptions import DeviceError

__all__ = ["available_devices", "is_out_of_memory", "launched", "one_core_threads", "resolve_device"]


def available_devices() -> list[str]:
    """Device types this process can use, the preferred one first.

    Returns
    -------
    list of str
        A subsequence of `["cuda", "xpu", "mps", "cpu"]`.
    """
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found.append("xpu")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the parameter `device` into a device that exists.

    Parameters
    ----------
    device : str or torch.device
        `"auto"` takes the first of cuda, xpu, mps, cpu that is there; anything else is taken at its word.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    DeviceError
        If the device is not a torch device, or is not there.
    """
    here = available_devices()
    try:
        resolved = torch.device(here[0] if isinstance(device, str) and device == "auto" else device)
    except RuntimeError as error:
        raise DeviceError(f"device={device!r} is not a torch device; here are {here}, or 'auto'") from error
    if resolved.type == "cuda" and _Forks.broken:
        raise DeviceError(
            "device='cuda' cannot be used here: this process was forked from one that had used it. Start workers with "
            "joblib's loky (its default) or multiprocessing's 'spawn', or pass device='cpu'"
        )
    if resolved.type not in here:
        raise DeviceError(f"device={str(device)!r} was asked for but is not there; here are {here}, or 'auto'")
    if resolved.index is not None and resolved.type in ("cuda", "xpu"):
        count = getattr(torch, resolved.type).device_count()
        if resolved.index >= count:
            raise DeviceError(f"device={str(device)!r} was asked for, but there are {count} {resolved.type} devices")
    return resolved


class _Forks:
    """Whether this process was forked from one that had used CUDA, which does not survive it: a child would hang."""

    used_before = False
    broken = False

    @classmethod
    def before(cls):
        cls.used_before = torch.cuda.is_initialized()

    @classmethod
    def after_in_child(cls):
        cls.broken = cls.broken or cls.used_before


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_Forks.before, after_in_child=_Forks.after_in_child)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an exhausted device from every other error.

    CUDA has a class of its own; on the CPU and on MPS torch raises a plain `RuntimeError` that only its message tells
    apart.
    """
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)


def one_core_threads(n_threads: int) -> ThreadPoolExecutor:
    """Return an executor whose threads use one core each; torch's setting for all other threads stays as it is.

    Threads that share a batch wait for each other at every layer, and for longer when the machine is busy. Where each
    has a batch of its own they do not: 348 images a second against 269 (EfficientNet-Lite0, bfloat16, two cores, the
    sweep of `benchmarks/throughput.py`).

    Parameters
    ----------
    n_threads : int
        Number of threads.

    Returns
    -------
    concurrent.futures.ThreadPoolExecutor
        To be shut down by the caller.
    """
    return ThreadPoolExecutor(n_threads, thread_name_prefix="sklearn_psp-net", initializer=_use_one_core)


def _use_one_core():
    # torch gives a thread its number of threads at the first use; ours comes after that. `torch.set_num_threads` would
    # change the number of every thread that is started later, OpenMP's own setting is that of this thread.
    torch.get_num_threads()
    _openmp().limit(limits=1)
    _limit_mkl()(1)


@functools.cache
def _openmp():
    return ThreadpoolController().select(user_api="openmp")


@functools.cache
def _limit_mkl():
    """Return MKL's own setting for one thread, which `torch.set_num_threads` makes; threadpoolctl does not find MKL."""
    # It is linked into torch, on Linux; elsewhere the name is not there.
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        try:
            return ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
        except (OSError, AttributeError):
            continue
    return lambda n: None


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
