"""Which device computes."""

from __future__ import annotations

import os

import torch

from sklearn_psp.exceptions import DeviceError

__all__ = ["available_devices", "is_out_of_memory", "resolve_device"]


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
