"""PSPNetFeaturizer: images in, descriptors out."""

from sklearn_psp._featurizer._estimator import PSPNetFeaturizer

__all__ = ["PSPNetFeaturizer"]
