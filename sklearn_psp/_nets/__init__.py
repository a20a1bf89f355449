"""Networks: the table of backbone libraries, pooling, execution plans, and the runner of batches."""

from sklearn_psp._nets._backbones import (
    load_backbone,
    module_with,
    own_image_size,
    pack_weights,
    register_backbone_library,
    trained_weights,
    with_trained,
)
from sklearn_psp._nets._networks import BackboneRequest, copied, normalized, pixel_scale
from sklearn_psp._nets._part_weights import learn_part_weights
from sklearn_psp._nets._plan import Plan, resolve_device, resolve_plan
from sklearn_psp._nets._pyramid import PyramidPooling, Views, images_tensor, part_sequence
from sklearn_psp._nets._runner import Runner

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
    "register_backbone_library",
    "resolve_device",
    "resolve_plan",
    "trained_weights",
    "with_trained",
]
