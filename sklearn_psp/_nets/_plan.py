"""Where and how a network is run: device, runtime, precision, batch size, and the threads that run it."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from sklearn_psp._nets._networks import Backbone, TorchNetwork
from sklearn_psp._nets._openvino_network import OpenVINONetwork, check_openvino, import_openvino
from sklearn_psp._nets._pyramid import Views, images_tensor
from sklearn_psp.exceptions import BackboneError, DeviceError, RuntimeFallbackWarning
from sklearn_psp.utils._libraries import is_installed
from sklearn_psp.utils._warnings import warn_user

__all__ = [
    "Plan",
    "available_devices",
    "is_out_of_memory",
    "launched",
    "make_network",
    "one_core_threads",
    "resolve_device",
    "resolve_plan",
]

# On a CPU the best batch is small, as long as the maps of a batch fit the cache (benchmarks/throughput.py prints the
# curve).
_CPU_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
# OpenVINO is handed one image at a time; this many are pooled together.
_OPENVINO_BATCH_SIZE = 8
_MOST_GPU_BATCH_SIZE = 256
_OTHER_DEVICE_BATCH_SIZE = 64
# Half precision must be this much faster than float32 to be worth its rounding.
_MIN_GAIN = 1.1
_ROUNDS = 5
_BUDGET_S = 2.0


@dataclass(frozen=True)
class Plan:
    """Settings with which a network is run.

    Attributes
    ----------
    runtime : {"torch", "openvino"}
        The library that runs it.
    precision : {"float32", "bfloat16", "float16"}
        The precision of its convolutions and products.
    batch_size : int
        Images per pass.
    n_workers : int
        Threads that have a batch and a core each; 0 for one batch at a time on all cores, and on a GPU.
    compiled : bool
        Whether torch compiles it.
    """

    runtime: str
    precision: str
    batch_size: int
    n_workers: int = 0
    compiled: bool = False


def make_network(backbone: Backbone, plan: Plan, device: torch.device, views: Views) -> TorchNetwork | OpenVINONetwork:
    """Return the network of a plan's runtime."""
    if plan.runtime == "openvino":
        return OpenVINONetwork(backbone, plan.precision, views)
    return TorchNetwork(backbone, device, plan.precision, views, compiled=plan.compiled)


# Keyed by what is asked and by the weights: a user's own module is copied at every fit, but need not be measured anew.
_PLANS: dict[tuple, Plan] = {}
_PLANS_LOCK = threading.RLock()


def resolve_plan(
    backbone: Backbone,
    device: torch.device,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    compiled: bool = False,
) -> Plan:
    """Replace every "auto" by what is best here, once per process, network, image size and device.

    Parameters
    ----------
    backbone : Backbone
        The network.
    device : torch.device
        Where it runs.
    runtime : {"auto", "torch", "openvino"}, default="auto"
        "auto" is OpenVINO on a CPU where it is installed and gives the same feature maps, else torch.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        "auto" on a CPU measures float32 against bfloat16; on CUDA it is bfloat16 where the GPU computes in it, else
        float16; elsewhere float32.
    batch_size : int or "auto", default="auto"
        "auto" on a CPU takes the fastest of a few; on CUDA what half of the free memory holds; elsewhere 64, halved
        when memory runs out.
    compiled : bool, default=False
        Whether torch compiles the network.

    Returns
    -------
    Plan
        Without any "auto".

    Raises
    ------
    DeviceError
        If what is asked for does not go together.
    BackboneError
        If OpenVINO is asked for and does not give the network's feature maps.
    MissingDependencyError
        If OpenVINO is asked for and not installed.
    """
    if runtime == "openvino" and device.type != "cpu":
        raise DeviceError(f"runtime='openvino' runs on the CPU, but device={str(device)!r}; use runtime='torch'")
    if runtime == "openvino" and compiled:
        raise DeviceError("compile=True is torch's: use it with runtime='torch'")
    key = (
        backbone.sha256,
        backbone.fingerprint(),  # networks with the same weights, or none, may differ in what they do with them
        backbone.spec,
        backbone.image_size,
        device,
        runtime,
        precision,
        batch_size,
        compiled,
        torch.get_num_threads(),
    )
    if key not in _PLANS:
        # One at a time: two measurements side by side would slow each other down.
        with _PLANS_LOCK:
            if key not in _PLANS:
                _PLANS[key] = _resolve(backbone, device, runtime, precision, batch_size, compiled)
    return _PLANS[key]


def _resolve(backbone, device, runtime, precision, batch_size, compiled):
    if device.type != "cpu":
        plan = Plan("torch", _gpu_precision(device) if precision == "auto" else precision, 1, compiled=compiled)
        if batch_size == "auto":
            batch_size = _gpu_batch_size(backbone, plan, device)
        return replace(plan, batch_size=batch_size)
    if not compiled and _takes_openvino(backbone, runtime, precision):
        return _openvino_plan(backbone, precision, batch_size)
    return _torch_plan(backbone, precision, batch_size, compiled)


def _takes_openvino(backbone, runtime, precision):
    if runtime == "openvino":
        import_openvino()
        check_openvino(backbone)
        return True
    if runtime == "torch" or not is_installed("openvino"):
        return False
    try:
        check_openvino(backbone)
        if precision != "auto":
            OpenVINONetwork(backbone, precision, Views([backbone.image_size]))
    except BackboneError as error:
        warn_user(RuntimeFallbackWarning(f"runtime='auto' takes torch instead of OpenVINO: {error}"))
        return False
    except DeviceError:
        return False  # torch computes in every precision
    return True


def _openvino_plan(backbone, precision, batch_size):
    batch_size = _OPENVINO_BATCH_SIZE if batch_size == "auto" else batch_size
    plans = []
    for name in ("float32", "bfloat16") if precision == "auto" else (precision,):
        try:
            network = OpenVINONetwork(backbone, name, Views([backbone.image_size]))
        except DeviceError:
            if precision != "auto":
                raise
            continue  # a processor without bfloat16
        plans.append(Plan("openvino", name, batch_size, network.n_streams))
    return _fastest(backbone, plans, torch.device("cpu"))


def _torch_plan(backbone, precision, batch_size, compiled):
    """Measure; first the precisions at two batch sizes, then the batch sizes in that precision."""
    device, n_cores = torch.device("cpu"), torch.get_num_threads()
    workers = (0, n_cores) if n_cores > 1 else (0,)

    def plans(precisions, batch_sizes):
        return [Plan("torch", p, b, w, compiled) for p in precisions for b in batch_sizes for w in workers]

    sizes = (4, 8) if batch_size == "auto" else (batch_size,)
    if precision == "auto":
        best = _fastest(backbone, plans(("float32", "bfloat16"), sizes), device)
        if batch_size != "auto":
            return best
        precision = best.precision
    return _fastest(backbone, plans((precision,), _CPU_BATCH_SIZES if batch_size == "auto" else sizes), device)


def _fastest(backbone, plans, device):
    """Measure plans against each other; a half precision must be clearly faster than float32."""
    if len(plans) == 1:
        return plans[0]
    speeds = _speeds({plan: _pass(backbone, plan, device) for plan in plans})
    gains = {plan: speed * (_MIN_GAIN if plan.precision == "float32" else 1) for plan, speed in speeds.items()}
    if len({plan.precision for plan in plans}) == 1:
        gains = speeds
    return max(gains, key=lambda plan: gains[plan])


def _pass(backbone, plan, device):
    """Return a function that runs two batches a worker, or one without workers, and the number of its images."""
    network = make_network(backbone, plan, device, Views([backbone.image_size]))
    images = np.zeros((plan.batch_size, *backbone.image_size, 3), dtype=np.uint8)

    @torch.inference_mode()
    def run():
        network.maps(images_tensor(images))

    def run_workers(executor):
        for future in [executor.submit(run) for _ in range(2 * plan.n_workers)]:
            future.result()

    if plan.n_workers:
        return run_workers, 2 * plan.n_workers * plan.batch_size
    return (lambda executor: run()), plan.batch_size


def _speeds(passes: dict[Plan, tuple[Callable, int]]) -> dict[Plan, float]:
    """Measure images per second: the best of a few rounds, within a budget of seconds."""
    speeds = dict.fromkeys(passes, 0.0)
    deadline = time.perf_counter() + _BUDGET_S
    with one_core_threads(max(1, *(plan.n_workers for plan in passes))) as executor:
        # Whole rounds: a disturbance of the machine then strikes one run of a plan, not all of them. The first does
        # not count: it plans and allocates.
        for i in range(1 + _ROUNDS):
            for plan, (run, n_images) in passes.items():
                start = time.perf_counter()
                run(executor)
                seconds = time.perf_counter() - start
                if i:
                    speeds[plan] = max(speeds[plan], n_images / seconds)
            if i and time.perf_counter() > deadline:
                break
    return speeds


def _gpu_precision(device):
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"


def _gpu_batch_size(backbone, plan, device):
    """Return the largest power of two whose passes, two of them in flight, take half of the free memory."""
    if device.type != "cuda":
        return _OTHER_DEVICE_BATCH_SIZE
    network = make_network(backbone, plan, device, Views([backbone.image_size]))
    peaks = {}
    for n in (8, 16):
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with torch.inference_mode():
            network.maps(images_tensor(np.zeros((n, *backbone.image_size, 3), dtype=np.uint8)))
        torch.cuda.synchronize(device)
        peaks[n] = torch.cuda.max_memory_allocated(device) - before
    return _batch_size_for(torch.cuda.mem_get_info(device)[0], (peaks[16] - peaks[8]) / 8)


def _batch_size_for(free_bytes, bytes_per_image):
    fits = free_bytes / 2 / (2 * max(bytes_per_image, 1))
    return int(min(_MOST_GPU_BATCH_SIZE, 2 ** np.floor(np.log2(max(fits, 1)))))


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
