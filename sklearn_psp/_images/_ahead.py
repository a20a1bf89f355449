"""Work done ahead of its consumer, in threads, in order, and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["resolve_n_threads", "work_ahead"]

# Not tuned: each thread holds one image at full size, and a hundred cores should not mean a hundred of them.
_MOST_BY_DEFAULT = 8


def resolve_n_threads(n_jobs: int | None) -> int:
    """Number of threads that `n_jobs` asks for.

    Parameters
    ----------
    n_jobs : int or None
        None is one thread per core available to this process, at most 8; -1 all cores, -2 all but one, and so on.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If `n_jobs` is 0 or no integer.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_jobs is None:
        return min(n_cores, _MOST_BY_DEFAULT)
    if isinstance(n_jobs, bool) or not hasattr(n_jobs, "__index__") or n_jobs == 0:
        raise ValueError(f"n_jobs must be None or an integer other than 0, got {n_jobs!r}; pass -1 for all cores")
    return int(n_jobs) if n_jobs > 0 else max(1, n_cores + 1 + int(n_jobs))


def work_ahead(
    groups: Iterable[tuple[Any, Iterable[tuple]]], work: Callable, *, n_threads: int, n_ahead: int
) -> Iterator[tuple[Any, list]]:
    """Do the tasks of each group in threads, and yield the groups in order.

    While the consumer holds a group, at most `n_ahead` further ones are done or under way. When the consumer stops
    early or a task raises, no new task begins and the threads end with the tasks they are at.

    Parameters
    ----------
    groups : iterable of (key, tasks)
        Taken in the consumer's thread, one at a time. A task is a tuple of arguments for `work`.
    work : callable
        Called in the threads.
    n_threads : int
        Number of threads.
    n_ahead : int
        Number of groups.

    Yields
    ------
    key : object
        As given.
    results : list
        What `work` returned, in the order of the tasks.
    """
    pending: deque[tuple[Any, list[Future]]] = deque()
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="sklearn_psp-read")
    try:
        for key, tasks in groups:
            pending.append((key, [executor.submit(work, *task) for task in tasks]))
            if len(pending) > n_ahead:
                yield _finish(*pending.popleft())
        while pending:
            yield _finish(*pending.popleft())
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _finish(key: Any, futures: list[Future]) -> tuple[Any, list]:
    return key, [future.result() for future in futures]
