"""Fitted estimators in files, without pickle."""

from sklearn_psp._persistence._arrays import hold, is_saving
from sklearn_psp._persistence._atomic import atomic_file
from sklearn_psp._persistence._featurizer_state import pack_featurizer, unpack_featurizer
from sklearn_psp._persistence._load import load
from sklearn_psp._persistence._save import save
from sklearn_psp._persistence._values import PackedValuesMixin
from sklearn_psp._persistence._weights import SavedWeights, TrainedWeights

__all__ = [
    "PackedValuesMixin",
    "SavedWeights",
    "TrainedWeights",
    "atomic_file",
    "hold",
    "is_saving",
    "load",
    "pack_featurizer",
    "save",
    "unpack_featurizer",
]
