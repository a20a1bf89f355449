"""PSPNetFeaturizer: images in, descriptors out."""

from sklearn_psp._featurizer._center import shrunk_mean
from sklearn_psp._featurizer._estimator import PSPNetFeaturizer
from sklearn_psp._featurizer._state import PackedStateMixin

__all__ = ["PSPNetFeaturizer", "PackedStateMixin", "shrunk_mean"]
