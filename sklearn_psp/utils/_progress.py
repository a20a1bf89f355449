"""Progress bars on long work."""

from __future__ import annotations

from contextlib import contextmanager

__all__ = ["progress"]


@contextmanager
def progress(total: int | None, description: str, unit: str, verbose: int):
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
    from tqdm import tqdm

    with tqdm(total=total, desc=description, unit=f" {unit}", disable=not verbose, dynamic_ncols=True) as bar:
        yield bar
