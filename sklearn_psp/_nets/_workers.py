"""Threads that each compute on one core: batches side by side instead of one batch on all cores."""

from __future__ import annotations

import ctypes
import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["one_core_threads"]


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
