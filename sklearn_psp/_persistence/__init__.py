"""Fitted estimators in files, without pickle."""

from sklearn_psp._persistence._arrays import hold, is_saving
from sklearn_psp._persistence._columns import decode_array, decode_frame, encode_array, encode_frame
from sklearn_psp._persistence._featurizer_state import pack_featurizer, unpack_featurizer
from sklearn_psp._persistence._load import load
from sklearn_psp._persistence._save import atomic_file, save
from sklearn_psp._persistence._values import PackedValuesMixin, SavedWeights, TrainedWeights

__all__ = [
    "PackedValuesMixin",
    "SavedWeights",
    "TrainedWeights",
    "atomic_file",
    "decode_array",
    "decode_frame",
    "encode_array",
    "encode_frame",
    "hold",
    "is_saving",
    "load",
    "pack_featurizer",
    "save",
    "unpack_featurizer",
]
