"""Networks: devices, backbones, pooling, and the runner; but for decoding images, all that needs torch."""

from sklearn_psp._nets._backbones import (
    load_backbone,
    module_with,
    own_image_size,
    pack_weights,
    trained_weights,
    with_trained,
)
from sklearn_psp._nets._devices import resolve_device
from sklearn_psp._nets._folding import copied
from sklearn_psp._nets._part_weights import learn_part_weights
from sklearn_psp._nets._plan import Plan, resolve_plan
from sklearn_psp._nets._pyramid import PyramidPooling, part_sequence
from sklearn_psp._nets._runner import Runner
from sklearn_psp._nets._specs import BackboneRequest
from sklearn_psp._nets._torch_network import normalized, pixel_scale
from sklearn_psp._nets._views import Views, images_tensor

__all__ = [
    "BackboneRequest",
    "Plan",
    "PyramidPooling",
    "Runner",
    "Views",
    "copied",
    "images_tensor",
    "learn_part_weights",
    "load_backbone",
    "module_with",
    "normalized",
    "own_image_size",
    "pack_weights",
    "part_sequence",
    "pixel_scale",
    "resolve_device",
    "resolve_plan",
    "trained_weights",
    "with_trained",
]
