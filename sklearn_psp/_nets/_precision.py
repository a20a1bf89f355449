"""Precision and batch size, chosen by a short measurement instead of by a processor's name."""

from __future__ import annotations

import time

import torch

from sklearn_psp._nets._folding import fold_batch_norm
from sklearn_psp._nets._specs import Backbone

__all__ = ["autocast", "prepared", "resolve_batch_size", "resolve_precision"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# On a CPU the best batch is small, as long as the maps of a batch fit the cache (benchmarks/throughput.py prints the
# curve).
_CPU_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_GPU_BATCH_SIZE = 128
# Half precision must be this much faster than float32 to be worth its rounding.
_MIN_GAIN = 1.1
_ROUNDS = 5
_BUDGET_S = 2.0


def prepared(backbone: Backbone, device: torch.device, precision: str) -> torch.nn.Module:
    """Return the backbone folded, converted and moved; made once and kept with the backbone.

    Only convolutions and linear layers are converted, autocast does the rest: it would convert their weights anew for
    every batch, while normalisation and softmax keep float32.
    """
    key = ("network", device, precision)
    if key not in backbone.memo:
        module = fold_batch_norm(backbone.module, backbone.image_size)
        if precision != "float32":
            for layer in module.modules():
                if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                    layer.to(_DTYPES[precision])
        backbone.memo[key] = module.to(device, memory_format=torch.channels_last)
    return backbone.memo[key]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a prepared network runs."""
    return torch.autocast(device.type, dtype=_DTYPES[precision], enabled=precision != "float32")


def resolve_precision(precision: str, backbone: Backbone, device: torch.device) -> str:
    """Turn `precision="auto"` into a precision, once per process, backbone and device.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
        The parameter. "auto" on a CPU measures float32 against bfloat16; on a GPU it is bfloat16 where the GPU
        computes in it, else float16; elsewhere float32.
    backbone : Backbone
        The network.
    device : torch.device
        Where it runs.

    Returns
    -------
    {"float32", "bfloat16", "float16"}
        The precision.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    if device.type != "cpu":
        return "float32"
    key = ("precision", device)
    if key not in backbone.memo:
        speeds = _speeds(backbone, device, [(name, size) for size in (4, 8) for name in ("float32", "bfloat16")])
        best = {name: max(speeds[name, 4], speeds[name, 8]) for name in ("float32", "bfloat16")}
        backbone.memo[key] = "bfloat16" if best["bfloat16"] > _MIN_GAIN * best["float32"] else "float32"
    return backbone.memo[key]


def resolve_batch_size(batch_size: int | str, backbone: Backbone, device: torch.device, precision: str) -> int:
    """Turn `batch_size="auto"` into a number, once per process, backbone, device and precision.

    Parameters
    ----------
    batch_size : int or "auto"
        The parameter. "auto" on a CPU takes the fastest of 1, 2, 4, 8, 16, 32; elsewhere 128, halved when memory runs
        out.
    backbone : Backbone
        The network.
    device : torch.device
        Where it runs.
    precision : {"float32", "bfloat16", "float16"}
        Resolved precision.

    Returns
    -------
    int
        Pictures per batch.
    """
    if batch_size != "auto":
        return batch_size
    if device.type != "cpu":
        return _GPU_BATCH_SIZE
    key = ("batch_size", device, precision)
    if key not in backbone.memo:
        speeds = _speeds(backbone, device, [(precision, size) for size in _CPU_BATCH_SIZES])
        backbone.memo[key] = max(speeds, key=speeds.get)[1]
    return backbone.memo[key]


@torch.inference_mode()
def _speeds(backbone, device, settings):
    """Measure pictures per second of (precision, batch size): the best of a few rounds, within a budget of seconds."""
    speeds = dict.fromkeys(settings, 0.0)
    deadline = time.perf_counter() + _BUDGET_S
    # Whole rounds: a disturbance of the machine then strikes one run of a setting, not all of them. The first does not
    # count: it plans and allocates.
    for i in range(1 + _ROUNDS):
        for precision, size in settings:
            batch = torch.zeros(size, 3, *backbone.image_size, dtype=torch.float32)
            batch = batch.to(memory_format=torch.channels_last)
            module = prepared(backbone, device, precision)
            with autocast(device, precision):
                start = time.perf_counter()
                module(batch)
                seconds = time.perf_counter() - start
            if i:
                speeds[precision, size] = max(speeds[precision, size], size / seconds)
        if i and time.perf_counter() > deadline:
            break
    return speeds
