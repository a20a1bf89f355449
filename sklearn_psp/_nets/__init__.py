"""Networks: devices, backbones, pooling, and the runner; but for decoding pictures, all that needs torch."""

from sklearn_psp._nets._backbones import load_backbone, module_with, pack_weights
from sklearn_psp._nets._devices import resolve_device
from sklearn_psp._nets._precision import resolve_batch_size, resolve_precision
from sklearn_psp._nets._pyramid import PyramidPooling, part_sequence
from sklearn_psp._nets._runner import Runner
from sklearn_psp._nets._specs import BackboneRequest

__all__ = [
    "BackboneRequest",
    "PyramidPooling",
    "Runner",
    "load_backbone",
    "module_with",
    "pack_weights",
    "part_sequence",
    "resolve_batch_size",
    "resolve_device",
    "resolve_precision",
]
