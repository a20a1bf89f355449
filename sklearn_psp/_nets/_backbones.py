"""The table of backbone libraries, and loading: from the parameters `backbone` and `weights` to a shared network."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from sklearn_psp._nets._keras import KerasMaps, KerasModules
from sklearn_psp._nets._networks import (
    DEFAULT_IMAGE_SIZE,
    Backbone,
    BackboneLibrary,
    BackboneRequest,
    BackboneSpec,
    FeatureMaps,
    probe,
)
from sklearn_psp._nets._packaged import PackagedLibrary
from sklearn_psp._nets._timm import TimmLibrary, TorchModules
from sklearn_psp._nets._torchvision import TorchvisionLibrary
from sklearn_psp._nets._weights import load_into, pack_tensors, read_state_dict, state_sha256, unpack_tensors
from sklearn_psp._persistence import TrainedWeights
from sklearn_psp.exceptions import BackboneError, WeightsError
from sklearn_psp.utils._names import Registry, did_you_mean

__all__ = [
    "backbone_names",
    "load_backbone",
    "module_with",
    "own_image_size",
    "pack_weights",
    "register_backbone_library",
    "trained_weights",
    "with_trained",
]

# In the order in which a bare name is looked up.
_BUILT_IN: dict[str, BackboneLibrary] = {
    "packaged": PackagedLibrary(),
    "torchvision": TorchvisionLibrary(),
    "timm": TimmLibrary(),
}


def _check_library(library):
    lacking = [method for method in ("knows", "names", "image_size", "build") if not hasattr(library, method)]
    if lacking:
        shown = library.__name__ if isinstance(library, type) else type(library).__name__
        raise TypeError(
            "a backbone library must have the methods knows, names, image_size and build; "
            f"{shown} lacks {', '.join(lacking)}"
        )


_LIBRARIES = Registry("backbone library", "sklearn_psp.backbones", _BUILT_IN, _check_library)
# Modules that are passed in place of a name. Keras first: on its torch backend a model is a torch module, too.
_MODULE_KINDS = (KerasModules(), TorchModules())

# A grid search over backbones alternates between a few; more would pile up in memory.
_MAX_LOADED = 4
_LOADED: OrderedDict[BackboneRequest, Backbone] = OrderedDict()
_OWN: WeakKeyDictionary[Any, dict[BackboneRequest, Backbone]] = WeakKeyDictionary()
_OF_CLASSES: WeakKeyDictionary[type, BackboneLibrary] = WeakKeyDictionary()
# Re-entrant: a library may build on the backbone of another one.
_LOCK = threading.RLock()
# Of more names an error message shows the number.
_MOST_NAMES_SHOWN = 8


def register_backbone_library(name: str, library: BackboneLibrary | type[BackboneLibrary]) -> None:
    """Let the networks of another library be chosen by name, as `backbone="library/network"`.

    Registering is for this process. Worker processes of joblib know the library where what they are sent imports the
    module that registers it. In any process it can be named by where it stands,
    `backbone="package.module:Library/network"`, or a package declares an entry point, which needs no call of this
    function:

    .. code-block:: toml

        [project.entry-points."sklearn_psp.backbones"]
        mine = "package.module:Library"

    Parameters
    ----------
    name : str
        The name, without a colon and without a slash. One that was registered before is replaced.
    library : object or class
        An object with these methods, or a class of such objects that is called without arguments:

        `knows(name)`
            Whether there is a network of this name.
        `names()`
            The names of the networks, for messages.
        `image_size(name)`
            (height, width) in pixels of the images a network was made for; None where it was made for any.
        `build(request, name)`
            A `torch.nn.Module` that maps images (n, 3, height, width) to feature maps (n, channels, rows, columns).
            Images are RGB in [0, 1], unless there is a dict beside the module that says other things: `mean` and `std`
            of each channel, the `licence` and the `source` of the weights and their `sha256`, the `tap` of the maps,
            or the `image_size` that the network was made for. The request says `weights` ("default", "download" or
            None), `output_stride` and `image_size`; what a network cannot do is to be refused by an error. Random
            weights come from torch's generator, whose seed is set. A path is read afterwards, into a network that was
            built with `weights=None`.

    Raises
    ------
    ValueError
        If the name is empty, has a colon or a slash, or is that of a library that comes with sklearn_psp.
    TypeError
        If the name is no str, or `library` lacks one of the methods.

    Examples
    --------
    >>> import torch
    >>> from sklearn_psp import PSPNetFeaturizer, register_backbone_library
    >>> class Patches:
    ...     "Random projections of square patches, named by their side."
    ...     def names(self):
    ...         return ["8", "16"]
    ...     def knows(self, name):
    ...         return name in self.names()
    ...     def image_size(self, name):
    ...         return None
    ...     def build(self, request, name):
    ...         return torch.nn.Conv2d(3, 64, int(name), stride=int(name)), {"licence": "public domain"}
    >>> register_backbone_library("patches", Patches)
    >>> PSPNetFeaturizer("patches/16", center=False).fit().n_features_out_
    64
    """
    if isinstance(name, str) and "/" in name:
        raise ValueError(f"the name of a backbone library must have no slash, got {name!r}")
    _LIBRARIES.register(name, library)
    with _LOCK:
        for request in [r for r in _LOADED if isinstance(r.backbone, str) and r.backbone.startswith(f"{name}/")]:
            del _LOADED[request]


def backbone_names() -> dict[str, list[str]]:
    """Names that `load_backbone` knows, by library."""
    return {library: list(_made(_LIBRARIES[library]).names()) for library in _LIBRARIES}


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
    if isinstance(backbone, str):
        _, library, name = _found(backbone)
        return library.image_size(name) or DEFAULT_IMAGE_SIZE
    return _kind(backbone).image_size(backbone) or DEFAULT_IMAGE_SIZE


def load_backbone(request: BackboneRequest, *, refresh: bool = False) -> Backbone:
    """Load a backbone, once per process for one that is named.

    A bare name means the packaged network of that name, else torchvision's, else timm's; `"torchvision/resnet50"` and
    `"timm/resnet50"` say which, and so does the name of a library that was registered.

    Parameters
    ----------
    request : BackboneRequest
        The backbone, its weights and its images.
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
    if not isinstance(request.backbone, str):
        return _load_own(request, refresh)
    with _LOCK:
        if request not in _LOADED:
            _LOADED[request] = _build_named(request)
            while len(_LOADED) > _MAX_LOADED:
                _LOADED.popitem(last=False)
        _LOADED.move_to_end(request)
        return _LOADED[request]


def pack_weights(request: BackboneRequest, sha256: str | None) -> np.ndarray:
    """Return the weights of a module of the user's own, or of a path, for a file.

    Parameters
    ----------
    request : BackboneRequest
        The backbone, its weights and its images.
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
    if isinstance(request.backbone, str):
        if request.weights is None:
            raise WeightsError(f"backbone={request.backbone!r} has random weights, which come from a seed, not a file")
        return pack_tensors(read_state_dict(request.weights, sha256=sha256)[0])
    if sha256 is None:
        return pack_tensors(_state(request.backbone))
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
        Tensors packed by `pack_weights`.

    Returns
    -------
    torch.nn.Module
        The copy.

    Raises
    ------
    WeightsError
        If names or shapes do not fit.
    """
    return _kind(module).with_state(module, unpack_tensors(tensors))


def trained_weights(module: nn.Module) -> TrainedWeights:
    """Keep the weights of a trained copy of a `Backbone`'s module, for a request of the same name."""
    return TrainedWeights(pack_tensors(module.state_dict()))


def with_trained(module: nn.Module, trained: nn.Module) -> nn.Module:
    """Copy a module of the user's own, and give the copy the weights of a trained copy of its `Backbone`'s module."""
    return module_with(module, pack_tensors(_state(trained.network)))


def _state(module):
    return _kind(module).state(module)


def _kind(module):
    for kind in _MODULE_KINDS:
        if kind.knows(module):
            return kind
    raise BackboneError(f"backbone is a {type(module).__name__}; pass a name or a torch.nn.Module")


def _load_own(request, refresh):
    with _LOCK:
        copies = _OWN.get(request.backbone, {})
        key = replace(request, backbone="own")
        if refresh or key not in copies:
            copies[key] = _build_own(request)
            _OWN[request.backbone] = copies
        return copies[key]


def _build_own(request):
    kind, name = _kind(request.backbone), type(request.backbone).__name__
    if request.output_stride is not None:
        raise BackboneError(f"output_stride={request.output_stride}: a module of your own is not dilated; use None")
    if request.weights in (None, "download"):
        raise WeightsError(
            f"weights={request.weights!r} with a module of your own: use 'default' (the weights it has) or a path"
        )
    module, about = _as_pair(kind.build(request.backbone, request, name))
    return _finished(request, module, name, "module", about | {"licence": "yours"})


def _build_named(request):
    prefix, library, name = _found(request.backbone)
    weights = request.weights
    trained = weights if isinstance(weights, TrainedWeights) else None
    # The libraries that come with sklearn_psp read files in their own ways.
    file = None if trained or prefix in _BUILT_IN or weights in (None, "default", "download") else weights
    asked = replace(request, weights=None) if trained or file else request
    # Random weights come from the request's seed and leave the user's random state as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed or 0)
        module, about = _as_pair(library.build(asked, name))
    module = module.to(torch.float32)
    if file:
        state, digest = read_state_dict(file)
        load_into(module.network, state, name=name, origin=str(file))
        about = about | {"sha256": digest}
    if trained:
        trained.check()
        load_into(module, unpack_tensors(trained.tensors), name=name, origin="that were trained")
        about = about | {"sha256": trained.sha256, "source": f"trained from {about.get('source', 'none')}"}
    return _finished(request, module, name, prefix, about)


def _as_pair(built):
    """Return the wrapped module that a library built, and what it says of it."""
    module, about = built if isinstance(built, tuple) else (built, {})
    if not isinstance(module, nn.Module) or not isinstance(about, Mapping):
        raise BackboneError(
            "build of a backbone library must return a torch.nn.Module, or one and a dict; it returned a "
            f"{type(module).__name__} and a {type(about).__name__}"
        )
    return (module if isinstance(module, FeatureMaps | KerasMaps) else FeatureMaps(module)), dict(about)


def _finished(request, module, name, library, about):
    """Return the backbone of a module, once it has shown that it gives feature maps."""
    digest = about.pop("sha256", None)
    unknown = about.keys() - {field.name for field in fields(BackboneSpec)}
    if unknown:
        raise BackboneError(f"build of the backbone library {library!r} says {sorted(unknown)}, which is not known")
    spec = BackboneSpec(**{"name": name, "library": library} | about)
    # Gradients are never needed here, and eval mode makes dropout and batch-norm repeatable.
    module = module.eval().requires_grad_(False)
    _, n_channels, rows, columns = probe(module, request.image_size, spec.name)
    digest = digest or state_sha256(module.state_dict())
    return Backbone(spec, module, digest, n_channels, request.image_size, (rows, columns), module.fixed_size)


def _found(backbone):
    """Return the name of a backbone's library, the library, and the name of the backbone there."""
    prefix, slash, name = backbone.partition("/")
    if not slash:
        candidates, name = _BUILT_IN, backbone
    else:
        try:
            candidates = {prefix: _made(_LIBRARIES[prefix])}
        except KeyError:
            candidates = {}
        except (ImportError, TypeError, ValueError) as error:
            raise BackboneError(f"backbone={backbone!r}: {error}") from error
    for prefix, library in candidates.items():
        if library.knows(name):
            return prefix, library, name
    raise BackboneError(f"backbone={backbone!r} is unknown: {_hint(backbone)}")


def _made(library):
    """Return a library, made of its class, once, where that is what the table holds."""
    if not isinstance(library, type):
        return library
    with _LOCK:
        if library not in _OF_CLASSES:
            _OF_CLASSES[library] = library()
        return _OF_CLASSES[library]


def _hint(backbone):
    """Say what names there are, the likeliest first."""
    by_library = backbone_names()
    # A bare name may stand for a network of the built-in libraries only.
    known = [
        name if library in _BUILT_IN and "/" not in backbone else f"{library}/{name}"
        for library, names in by_library.items()
        for name in names
    ]
    listed = [
        f"{library!r} ({f'{len(names):,} names' if len(names) > _MOST_NAMES_SHOWN else ', '.join(map(repr, names))})"
        for library, names in by_library.items()
    ]
    hint = did_you_mean(backbone, sorted(set(known)), n=3)
    return f"{hint}the libraries are {', '.join(listed)}; write 'LIBRARY/NAME', or pass a torch.nn.Module"
