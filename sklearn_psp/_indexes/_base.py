"""What every engine promises."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from sklearn_psp._indexes._subset import Subset

__all__ = ["Index"]


@runtime_checkable
class Index(Protocol):
    """A set of vectors that can be searched.

    An engine is given vectors that are already fit for search (see `_distances`): float32, C-contiguous, finite, and
    of unit length for the metric "cosine". The same holds for queries. Results obey one definition, whatever the
    engine: the distance of two vectors is `pair_distances`, neighbours are sorted by it, and ties go to the smaller
    position. An engine may miss neighbours; it never repeats one and never returns fewer than asked for. Engines can
    be pickled, and queried from several threads at once.
    """

    @property
    def n_samples(self) -> int:
        """Number of vectors that can be found."""
        ...

    def query(self, Q: np.ndarray, k: int, subset: Subset | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest vectors of each query.

        Parameters
        ----------
        Q : ndarray of shape (n_queries, n_features), float32
            The queries.
        k : int in [0, n_samples], or in [0, subset.count]
            How many to find.
        subset : Subset or None, default=None
            Which vectors may be found; None: all.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Distances in the metric of the engine, ascending.
        positions : ndarray of shape (n_queries, k), intp
            Where these vectors stand in the array the engine was built from; no repeats within a row.
        """
        ...
