"""PSPNetFeaturizer: images in, descriptors out."""

from sklearn_psp._featurizer._estimator import PSPNetFeaturizer, model_of
from sklearn_psp._featurizer._state import PackedStateMixin, set_fitted
from sklearn_psp.utils._arrays import shrunk_mean

__all__ = ["PSPNetFeaturizer", "PackedStateMixin", "model_of", "set_fitted", "shrunk_mean"]
