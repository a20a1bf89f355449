"""The table of backbone libraries, and loading: from the parameters `backbone` and `weights` to a shared network."""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.metadata import entry_points
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from sklearn_psp._nets._keras import KerasMaps, KerasModules
from sklearn_psp._nets._packaged import PackagedLibrary
from sklearn_psp._nets._specs import (
    DEFAULT_IMAGE_SIZE,
    Backbone,
    BackboneLibrary,
    BackboneRequest,
    BackboneSpec,
    FeatureMaps,
    probe,
)
from sklearn_psp._nets._timm import TimmLibrary, TorchModules
from sklearn_psp._nets._torchvision import TorchvisionLibrary
from sklearn_psp._nets._weights import load_into, pack_tensors, read_state_dict, state_sha256, unpack_tensors
from sklearn_psp._persistence import TrainedWeights
from sklearn_psp.exceptions import BackboneError, WeightsError
from sklearn_psp.utils._names import did_you_mean

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

AnyLibrary = TypeVar("AnyLibrary")

# The libraries that are always there, in the order in which a bare name is looked up.
_BUILT_IN: dict[str, BackboneLibrary] = {
    library.name: library for library in (PackagedLibrary(), TorchvisionLibrary(), TimmLibrary())
}
# Those of other packages, by the name or the dotted path that stands in front of the slash.
_REGISTERED: dict[str, BackboneLibrary] = {}
_ENTRY_POINTS = "sklearn_psp.backbones"
# Modules that are passed in place of a name. Keras first: on its torch backend a model is a torch module, too.
_MODULE_KINDS = (KerasModules(), TorchModules())

# A grid search over backbones alternates between a few; more would pile up in memory.
_MAX_LOADED = 4
_LOADED: OrderedDict[BackboneRequest, Backbone] = OrderedDict()
_OWN: WeakKeyDictionary[Any, dict[BackboneRequest, Backbone]] = WeakKeyDictionary()
# Re-entrant: a library may build on the backbone of another one.
_LOCK = threading.RLock()
# Of more names an error message shows the number.
_MOST_NAMES_SHOWN = 8


def register_backbone_library(library: AnyLibrary) -> AnyLibrary:
    """Make the networks of another library available as `backbone="library/network"`.

    A worker process knows the library, too, where it comes to register it: when the module that registers it is
    imported with what the worker is sent, when an installed package names it as an entry point of the group
    `sklearn_psp.backbones`, or when `backbone` names the object by its dotted path, as in
    `"my_package.nets:MyLibrary/network"`, for which nothing need be registered.

    Parameters
    ----------
    library : object or class
        An object with these attributes, or a class of such objects that is called without arguments:

        `name` : str
            The name of the library, without a slash or a colon. A library of the same name that was registered before
            is replaced.
        `knows(name)` : bool
            Whether there is a network of this name.
        `names()` : iterable of str
            The names of the networks, for error messages.
        `image_size(name)` : tuple of two ints or None
            (height, width) in pixels of the images a network was made for; None where it was made for any.
        `build(request, name)` : torch.nn.Module, or a tuple of a torch.nn.Module and a dict
            A network that maps images (n, 3, height, width) to feature maps (n, channels, rows, columns). Of the
            request it uses `weights` ("default", "download" or None), `output_stride` and `image_size`, or it raises
            an error that says what it cannot do; torch's random numbers come from the seed of the request. Images are
            RGB in [0, 1], less `mean` and divided by `std` of the dict, which may also say the `licence` and the
            `source` of the weights, their `sha256`, the `tap` of the maps, and the `image_size` that it was made for.
            Weights of a path are loaded into the network after it was built with `weights=None`.

    Returns
    -------
    object or class
        What was given, so that a class may be decorated.

    Raises
    ------
    BackboneError
        If the object lacks one of the attributes, or has the name of a library that comes with sklearn_psp.

    Examples
    --------
    >>> import torch
    >>> from sklearn_psp import PSPNetFeaturizer, register_backbone_library
    >>> @register_backbone_library
    ... class Patches:
    ...     name = "patches"
    ...
    ...     def names(self):
    ...         return ["8", "16"]
    ...
    ...     def knows(self, name):
    ...         return name in self.names()
    ...
    ...     def image_size(self, name):
    ...         return None
    ...
    ...     def build(self, request, name):
    ...         return torch.nn.Conv2d(3, 64, int(name), stride=int(name)), {"licence": "public domain"}
    >>> featurizer = PSPNetFeaturizer("patches/16", center=False).fit()
    >>> featurizer.n_features_out_
    64
    """
    made = _checked_library(library, "register_backbone_library")
    with _LOCK:
        _REGISTERED[made.name] = made
        for request in [r for r in _LOADED if isinstance(r.backbone, str) and r.backbone.startswith(f"{made.name}/")]:
            del _LOADED[request]
    return library


def backbone_names() -> dict[str, list[str]]:
    """Names that `load_backbone` knows, by library."""
    return {name: list(library.names()) for name, library in {**_BUILT_IN, **_REGISTERED}.items()}


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
        library, name = _found(backbone)
        return library.image_size(name) or DEFAULT_IMAGE_SIZE
    return _kind(backbone).image_size(backbone) or DEFAULT_IMAGE_SIZE


def load_backbone(request: BackboneRequest, *, refresh: bool = False) -> Backbone:
    """Load a backbone, once per process for one that is named.

    A bare name means the packaged network of that name, else torchvision's, else timm's; `"torchvision/resnet50"` and
    `"timm/resnet50"` say which, and so does the name of a library that was registered.

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
    library, name = _found(request.backbone)
    weights = request.weights
    trained = weights if isinstance(weights, TrainedWeights) else None
    # The libraries that come with sklearn_psp read files in their own ways.
    file = None if trained or library.name in _BUILT_IN or weights in (None, "default", "download") else weights
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
    return _finished(request, module, name, library.name, about)


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
    """Return the library of a backbone, and its name there."""
    prefix, slash, name = backbone.partition("/")
    if slash:
        library = _library(backbone, prefix)
        if library is not None and library.knows(name):
            return library, name
    else:
        for library in _BUILT_IN.values():
            if library.knows(backbone):
                return library, backbone
    raise BackboneError(f"backbone={backbone!r} is unknown: {_hint(backbone)}")


def _hint(backbone):
    """Say what names there are, the likeliest first."""
    by_library = backbone_names()
    # A bare name may stand for a network of the built-in libraries only.
    known = [
        name if library in _BUILT_IN and "/" not in backbone else f"{library}/{name}"
        for library, names in by_library.items()
        for name in names
    ]
    shown = []
    for library, names in by_library.items():
        listed = f"{len(names):,} names" if len(names) > _MOST_NAMES_SHOWN else ", ".join(map(repr, names))
        shown.append(f"{library!r} ({listed})")
    shown += [repr(point.name) for point in entry_points(group=_ENTRY_POINTS) if point.name not in by_library]
    return (
        f"{did_you_mean(backbone, sorted(set(known)), n=3)}the libraries are {', '.join(shown)}; write 'LIBRARY/NAME', "
        "or pass a torch.nn.Module"
    )


def _library(backbone, prefix):
    """Return the library of a name or a dotted path, or None where there is none."""
    library = _BUILT_IN.get(prefix) or _REGISTERED.get(prefix)
    if library is None:
        load = _loader(prefix)
        if load is not None:
            try:
                library = _REGISTERED.setdefault(prefix, _checked_library(load(), f"backbone={backbone!r}"))
            except (ImportError, AttributeError) as error:
                raise BackboneError(
                    f"backbone={backbone!r}: its library cannot be imported ({type(error).__name__}: {error})"
                ) from error
    return library


def _loader(prefix):
    module, colon, attribute = prefix.partition(":")
    if colon and all(part.isidentifier() for part in (*module.split("."), attribute)):
        return lambda: getattr(importlib.import_module(module), attribute)
    points = [point for point in entry_points(group=_ENTRY_POINTS) if point.name == prefix]
    return points[0].load if points else None


def _checked_library(library, parameter):
    """Return a library, made of its class where that is given, or say what it lacks."""
    lacking = [name for name in ("name", "knows", "names", "image_size", "build") if not hasattr(library, name)]
    if lacking:
        shown = library.__name__ if isinstance(library, type) else type(library).__name__
        raise BackboneError(
            f"{parameter}: {shown} is no backbone library, which has the attributes name, knows, names, image_size and "
            f"build: it lacks {', '.join(lacking)}"
        )
    made = library() if isinstance(library, type) else library
    if not isinstance(made.name, str) or not made.name or "/" in made.name or ":" in made.name:
        raise BackboneError(
            f"{parameter}: the name of a backbone library is a str without '/' and ':'; got {made.name!r}"
        )
    if made.name in _BUILT_IN:
        raise BackboneError(f"{parameter}: a library named {made.name!r} comes with sklearn_psp; use another name")
    return made
