"""Which device computes."""

from __future__ import annotations

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
    if isinstance(device, str) and device == "auto":
        return torch.device(here[0])
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"device={device!r} is not a torch device; here are {here}, or 'auto'") from error
    if resolved.type not in here:
        raise DeviceError(f"device={str(device)!r} was asked for but is not there; here are {here}, or 'auto'")
    if resolved.index is not None and resolved.type in ("cuda", "xpu"):
        count = getattr(torch, resolved.type).device_count()
        if resolved.index >= count:
            raise DeviceError(f"device={str(device)!r} was asked for, but there are {count} {resolved.type} devices")
    return resolved


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an exhausted device from every other error.

    CUDA has a class of its own; on the CPU and on MPS torch raises a plain `RuntimeError` that only its message tells
    apart.
    """
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)
