"""What need not be computed again: feature maps on disk, shared by threads and processes, and features in memory."""

from sklearn_psp._cache._memo import FeatureMemo
from sklearn_psp._cache._store import RowStore, open_store

__all__ = ["FeatureMemo", "RowStore", "open_store"]
