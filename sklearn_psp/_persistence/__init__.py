"""Fitted estimators in files, without pickle."""

from sklearn_psp._persistence._frames import decode_array, decode_frame, encode_array, encode_frame
from sklearn_psp._persistence._load import load
from sklearn_psp._persistence._public_names import class_name
from sklearn_psp._persistence._save import atomic_file, save
from sklearn_psp._persistence._stored_arrays import hold, is_saving
from sklearn_psp._persistence._values import (
    UNPACK,
    PackedValuesMixin,
    SavedWeights,
    TrainedWeights,
    given_module,
    hash_tensors,
    mark,
    note_module,
    pack_values,
    unpack_value,
)

__all__ = [
    "UNPACK",
    "PackedValuesMixin",
    "SavedWeights",
    "TrainedWeights",
    "atomic_file",
    "class_name",
    "decode_array",
    "decode_frame",
    "encode_array",
    "encode_frame",
    "given_module",
    "hash_tensors",
    "hold",
    "is_saving",
    "load",
    "mark",
    "note_module",
    "pack_values",
    "save",
    "unpack_value",
]
