"""From images to features: reading, the network, pooling, and what a cache spares of them."""

from sklearn_psp._extraction._cached import CachedFeatures, kept_plan
from sklearn_psp._extraction._extract import ComputedFeatures, Feature, extract

__all__ = ["CachedFeatures", "ComputedFeatures", "Feature", "extract", "kept_plan"]
