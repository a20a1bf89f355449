"""Which of the vectors of an index may be found: what is left after removals and filters."""

from __future__ import annotations

from functools import cached_property

import numpy as np

__all__ = ["Subset"]

# Below this share, copying the rows that may be found is cheaper than comparing with those that may not.
_NARROW = 0.25


class Subset:
    """A choice among the vectors of an index.

    Parameters
    ----------
    mask : ndarray of shape (n_samples,), bool
        True for each vector that may be found. Kept, not copied, and never changed.
    """

    def __init__(self, mask):
        self.mask = mask
        self.count = int(np.count_nonzero(mask))

    @classmethod
    def of(cls, mask):
        """Return the subset, or None where it leaves nothing out."""
        subset = cls(mask)
        return None if subset.count == len(mask) else subset

    @property
    def narrow(self):
        """Whether copying what may be found pays."""
        return self.count < _NARROW * len(self.mask)

    @cached_property
    def positions(self):
        """Positions of what may be found, ascending."""
        return np.flatnonzero(self.mask)
