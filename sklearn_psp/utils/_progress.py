"""Progress bars on long work."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress"]

_LINE_EVERY_S = 10


@contextmanager
def progress(total: int | None, description: str, unit: str, verbose: int) -> Iterator[Any]:
    """Show a bar with items per second and the time left, on standard error.

    Parameters
    ----------
    total : int or None
        Number of items, where it is known.
    description : str
        What is being done.
    unit : str
        What is counted.
    verbose : int
        Nothing is shown at 0.

    Yields
    ------
    object
        With `update(n)`.
    """
    from tqdm.auto import tqdm  # in a notebook, a bar of the notebook

    options: dict[str, Any] = {"total": total, "desc": description, "unit": f" {unit}", "disable": not verbose}
    if _is_worker():
        # Bars of several worker processes would overwrite each other.
        done = "{n_fmt} of {total_fmt}" if total is not None else "{n_fmt}"
        left = ", {remaining} left" if total is not None else ""
        line = f"{{desc}} in process {os.getpid()}: {done}, {{rate_fmt}}{left}\n"
        options |= {"bar_format": line, "mininterval": _LINE_EVERY_S}
    else:
        options |= {"dynamic_ncols": True}
    with tqdm(**options) as bar:
        yield bar


def _is_worker() -> bool:
    """Tell whether this is a process of joblib or multiprocessing."""
    return multiprocessing.parent_process() is not None
