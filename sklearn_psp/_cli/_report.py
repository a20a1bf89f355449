"""What commands print."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

__all__ = ["print_results", "print_unreadable"]

_N_LISTED = 20


def print_results(query: str, results: pd.DataFrame) -> None:
    """Print the nearest images of one query.

    Parameters
    ----------
    query : str
        Its name.
    results : DataFrame
        With the columns `rank`, `distance` and `name`.
    """
    print(f"\n{query}")
    for row in results.itertuples():
        print(f"{row.rank:>4}  {row.distance:.3f}  {row.name}")


def print_unreadable(files: Sequence[tuple[str, str]]) -> None:
    """Print the files that could not be read.

    Parameters
    ----------
    files : sequence of (str, str)
        Name and reason of each.
    """
    print()
    if not files:
        return
    print(f"{len(files):,} {'file' if len(files) == 1 else 'files'} could not be read:")
    for name, reason in files[:_N_LISTED]:
        print(f"  {name}: {reason}")
    if len(files) > _N_LISTED:
        print(f"  and {len(files) - _N_LISTED:,} more")
    print()
