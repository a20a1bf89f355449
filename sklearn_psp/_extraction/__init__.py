"""From images to features: reading, the network, pooling, and what a cache spares of them."""

from sklearn_psp._extraction._cached import CachedFeatures
from sklearn_psp._extraction._extract import extract
from sklearn_psp._extraction._plans import kept_plan

__all__ = ["CachedFeatures", "extract", "kept_plan"]
