"""From the parameters `backbone` and `weights` to a loaded network, shared within the process."""

from __future__ import annotations

import copy
import difflib
import threading
from collections import OrderedDict
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import timm
import torch
from torch import nn

from sklearn_psp._nets._feature_maps import FeatureMaps, probe
from sklearn_psp._nets._keras import (
    build_keras,
    is_keras,
    keras_image_size,
    keras_state,
    keras_with,
    refuse_keras_elsewhere,
)
from sklearn_psp._nets._packaged import build_packaged
from sklearn_psp._nets._specs import DEFAULT_IMAGE_SIZE, PACKAGED, Backbone, BackboneRequest, BackboneSpec
from sklearn_psp._nets._timm import build_timm, timm_image_size, wrap_timm
from sklearn_psp._nets._torchvision import build_torchvision, torchvision_names
from sklearn_psp._nets._weights import load_into, pack_tensors, read_state_dict, state_sha256, unpack_tensors
from sklearn_psp._persistence import TrainedWeights
from sklearn_psp.exceptions import BackboneError, WeightsError

__all__ = [
    "backbone_names",
    "load_backbone",
    "module_with",
    "own_image_size",
    "pack_weights",
    "trained_weights",
    "with_trained",
]

# A grid search over backbones alternates between a few; more would pile up in memory.
_MAX_LOADED = 4
_LOADED: OrderedDict[BackboneRequest, Backbone] = OrderedDict()
_OWN: WeakKeyDictionary[nn.Module, dict[BackboneRequest, Backbone]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def backbone_names() -> dict[str, list[str]]:
    """Names that `load_backbone` knows, by library."""
    return {"packaged": sorted(PACKAGED), "torchvision": torchvision_names(), "timm": timm.list_models()}


def own_image_size(backbone: str | nn.Module) -> tuple[int, int]:
    """Return (height, width) of the images that a backbone was made for, or 224 x 224 where it says none.

    Parameters
    ----------
    backbone : str or torch.nn.Module
        The parameter `backbone`.

    Returns
    -------
    tuple of two ints
        (height, width) in pixels.

    Raises
    ------
    BackboneError
        If the name is unknown.
    """
    refuse_keras_elsewhere(backbone)
    if isinstance(backbone, nn.Module):
        own = keras_image_size(backbone) if is_keras(backbone) else timm_image_size(backbone)
    else:
        library, name = _resolve(backbone)
        own = {"packaged": _packaged_image_size, "timm": timm_image_size}.get(library, lambda _: None)(name)
    return own or DEFAULT_IMAGE_SIZE


def load_backbone(request: BackboneRequest, *, refresh: bool = False) -> Backbone:
    """Load a backbone, once per process for one that is named.

    A bare name means the packaged network of that name, else torchvision's, else timm's; `"torchvision/resnet50"` and
    `"timm/resnet50"` say which.

    Parameters
    ----------
    request : BackboneRequest
        What was asked for.
    refresh : bool, default=False
        Whether a module of the user's own is copied anew (at fit) or its last copy is taken (ever after).

    Returns
    -------
    Backbone
        The network, in eval mode, on the CPU. Those who move or convert it do so on a copy.

    Raises
    ------
    BackboneError
        If the name is unknown, or the network cannot do what was asked.
    WeightsError
        If the weights are not there or do not fit.
    """
    if isinstance(request.backbone, nn.Module):
        return _load_own(request, refresh)
    refuse_keras_elsewhere(request.backbone)
    with _LOCK:
        if request not in _LOADED:
            _LOADED[request] = _finish(request, *_build_named(request))
            while len(_LOADED) > _MAX_LOADED:
                _LOADED.popitem(last=False)
        _LOADED.move_to_end(request)
        return _LOADED[request]


def pack_weights(request: BackboneRequest, sha256: str | None) -> np.ndarray:
    """Return the weights of a module of the user's own, or of a path, for a file.

    Parameters
    ----------
    request : BackboneRequest
        What was asked for.
    sha256 : str or None
        Hash the weights had at fit; None before fit, when the module's own are taken.

    Returns
    -------
    ndarray of shape (n_bytes,), uint8
        The tensors, as `pack_tensors` writes them.

    Raises
    ------
    WeightsError
        If the weights are not those of the fit any more.
    """
    own = isinstance(request.backbone, nn.Module)
    if own and sha256 is None:
        return pack_tensors(_state(request.backbone))
    if not own:
        return pack_tensors(read_state_dict(request.weights, sha256=sha256)[0])
    backbone = load_backbone(request)
    if backbone.sha256 != sha256:
        raise WeightsError(
            f"backbone={backbone.spec.name!r} was fitted with weights of sha256 {sha256}, but those here have "
            f"{backbone.sha256}: fit again, then save"
        )
    return pack_tensors(_state(backbone.module.network))


def module_with(module: nn.Module, tensors: np.ndarray) -> nn.Module:
    """Copy a module and give the copy the weights of a file, every one of them.

    Parameters
    ----------
    module : torch.nn.Module
        The architecture.
    tensors : ndarray of shape (n_bytes,), uint8
        What `pack_weights` returned.

    Returns
    -------
    torch.nn.Module
        The copy.

    Raises
    ------
    WeightsError
        If names or shapes do not fit.
    """
    if is_keras(module):
        return keras_with(module, unpack_tensors(tensors))
    module = copy.deepcopy(module)
    load_into(module, unpack_tensors(tensors), name=type(module).__name__, origin="of the file")
    return module


def trained_weights(module: nn.Module) -> TrainedWeights:
    """Keep the weights of a trained copy of a `Backbone`'s module, for a request of the same name."""
    return TrainedWeights(pack_tensors(module.state_dict()))


def with_trained(module: nn.Module, trained: nn.Module) -> nn.Module:
    """Copy a module of the user's own, and give the copy the weights of a trained copy of its `Backbone`'s module."""
    return module_with(module, pack_tensors(_state(trained.network)))


def _packaged_image_size(name):
    return PACKAGED[name].image_size


def _state(module):
    return keras_state(module) if is_keras(module) else module.state_dict()


def _load_own(request, refresh):
    key = replace(request, backbone="own")
    with _LOCK:
        copies = _OWN.setdefault(request.backbone, {})
        if refresh or key not in copies:
            copies[key] = _finish(request, *_build_module(request))
        return copies[key]


def _finish(request, spec, module, sha256):
    # Gradients are never needed here, and eval mode makes dropout and batch-norm repeatable.
    module = module.eval().requires_grad_(False)
    _, n_channels, *grid = probe(module, request.image_size, spec.name)
    sha256 = sha256 or state_sha256(module.state_dict())
    return Backbone(spec, module, sha256, n_channels, request.image_size, tuple(grid), module.fixed_size)


def _build_named(request):
    library, name = _resolve(request.backbone)
    build = {"packaged": build_packaged, "torchvision": build_torchvision, "timm": build_timm}[library]
    # Random weights come from the request's seed and leave the user's random state as it was.
    trained = request.weights if isinstance(request.weights, TrainedWeights) else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed or 0)
        spec, module, sha256 = build(replace(request, weights=None) if trained else request, name)
    module = module.to(torch.float32)
    if trained:
        trained.check()
        load_into(module, unpack_tensors(trained.tensors), name=name, origin="that were trained")
        spec, sha256 = replace(spec, source=f"trained from {spec.source}"), trained.sha256
    return spec, module, sha256


def _resolve(backbone):
    prefix, _, rest = backbone.rpartition("/")
    if not prefix and backbone in PACKAGED:
        return "packaged", backbone
    if prefix in ("", "torchvision") and rest in torchvision_names():
        return "torchvision", rest
    if prefix in ("", "timm") and timm.is_model(rest):
        return "timm", rest
    known = {*PACKAGED, *torchvision_names(), *timm.list_models()}
    close = difflib.get_close_matches(rest or backbone, sorted(known), n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "timm.list_models() lists the names of timm"
    raise BackboneError(
        f"backbone={backbone!r} is unknown: {hint} The packaged ones are {sorted(PACKAGED)}; write 'torchvision/NAME' "
        "or 'timm/NAME' for one of those libraries, or pass a torch.nn.Module"
    )


def _build_module(request):
    name = type(request.backbone).__name__
    if request.output_stride is not None:
        raise BackboneError(f"output_stride={request.output_stride}: a module of your own is not dilated; use None")
    if request.weights in (None, "download"):
        raise WeightsError(
            f"weights={request.weights!r} with a module of your own: use 'default' (the weights it has) or a path"
        )
    if is_keras(request.backbone):
        return build_keras(request)
    # A copy: the user's module stays in its own mode, on its own device, and may be trained further.
    network = copy.deepcopy(request.backbone).to("cpu", torch.float32).eval()
    spec, sha256 = BackboneSpec(name, "module", "forward", mean=(0, 0, 0), std=(1, 1, 1), licence="yours"), None
    if request.weights != "default":
        state, sha256 = read_state_dict(request.weights)
        load_into(network, state, name=name, origin=request.weights)
    config = getattr(network, "pretrained_cfg", None)
    if config and hasattr(network, "forward_features"):
        spec = BackboneSpec(
            name, "module", "forward_features", mean=tuple(config["mean"]), std=tuple(config["std"]), licence="yours"
        )
        return spec, wrap_timm(network, request.image_size, name), sha256
    return spec, FeatureMaps(network), sha256
