"""Backbones: what is asked for, what a library offers, the feature maps, and the network that torch runs, folded."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sklearn_psp._nets._pyramid import Views
from sklearn_psp._persistence import SavedWeights
from sklearn_psp.exceptions import BackboneError

__all__ = [
    "DEFAULT_IMAGE_SIZE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Backbone",
    "BackboneLibrary",
    "BackboneRequest",
    "BackboneSpec",
    "Built",
    "FeatureMaps",
    "TorchNetwork",
    "copied",
    "fold_batch_norm",
    "normalized",
    "on_one_line",
    "pixel_scale",
    "prepared",
    "probe",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# (height, width) of the images of a network that has no size of its own.
DEFAULT_IMAGE_SIZE = (224, 224)

# A network that maps normalised images to feature maps; beside it, fields of `BackboneSpec` and the `sha256` of the
# weights in use, as far as the library knows them.
Built: TypeAlias = nn.Module | tuple[nn.Module, Mapping[str, Any]]


@dataclass(frozen=True)
class BackboneSpec:
    """Description of a backbone.

    Attributes
    ----------
    name : str
        The name in its library.
    library : str
        Name of the library that builds it, or "module".
    tap : str
        Where in the network the feature maps are taken.
    mean, std : tuple of three floats
        Pixels in [0, 1] become `(pixel - mean) / std`, channel by channel (RGB).
    licence : str
        Licence of the weights.
    source : str
        Where the weights come from.
    image_size : tuple of two ints or None
        (height, width) of the images it was made for; None where it was made for no size before others.
    """

    name: str
    library: str
    tap: str = "forward"
    mean: tuple[float, float, float] = (0, 0, 0)
    std: tuple[float, float, float] = (1, 1, 1)
    licence: str = "unknown"
    source: str = "none"
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class BackboneRequest:
    """All that decides which network comes out of `load_backbone`; the key of its cache.

    Attributes
    ----------
    backbone : str or torch.nn.Module
        The parameter `backbone`.
    weights : str, SavedWeights or None
        The parameter `weights`, with a path as str.
    output_stride : int or None
        The parameter `output_stride`.
    image_size : tuple of two ints
        (height, width) in pixels; some transformers are built for one size.
    seed : int or None
        Seed of random weights; None unless `weights` is None.
    """

    backbone: str | nn.Module
    weights: str | SavedWeights | None
    output_stride: int | None
    image_size: tuple[int, int]
    seed: int | None = None


class BackboneLibrary(Protocol):
    """A library of backbones that are chosen by `backbone="library/network"`; see `register_backbone_library`."""

    def knows(self, name: str) -> bool:
        """Whether there is a network of this name."""

    def names(self) -> Iterable[str]:
        """Names of the networks, for messages."""

    def image_size(self, name: str) -> tuple[int, int] | None:
        """Return (height, width) of the images a network was made for; None where it takes any."""

    def build(self, request: BackboneRequest, name: str) -> Built:
        """Build a network that maps normalised images (n, 3, h, w) to feature maps (n, channels, rows, columns)."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded network: module in, feature maps out.

    Attributes
    ----------
    spec : BackboneSpec
        Its description.
    module : FeatureMaps or KerasMaps
        Maps a normalised batch (n, 3, h, w) to feature maps (n, n_channels, rows, columns); in eval mode, float32,
        on the CPU. Shared by all threads: it is read, copied and called, never changed.
    sha256 : str
        Hash of the weights in use.
    n_channels : int
        Channels of the feature maps.
    image_size, grid : tuple of two ints
        (height, width) of the images it was loaded for, (rows, columns) of their feature maps.
    fixed_size : bool
        Whether it takes images of no other size.
    """

    spec: BackboneSpec
    module: nn.Module
    sha256: str
    n_channels: int
    image_size: tuple[int, int]
    grid: tuple[int, int]
    fixed_size: bool = False
    _made: dict[tuple, Any] = field(default_factory=dict, init=False, repr=False)
    # Re-entrant: what is made may be made of what is made.
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def once(self, key: tuple, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, called once for a key by whichever thread comes first.

        For converted copies and measurements, which live as long as the backbone.

        Parameters
        ----------
        key : tuple
            What it is.
        make : callable
            Makes it. Where it raises, nothing is kept.

        Returns
        -------
        object
            What was made.
        """
        # A dict is read without the lock by every batch; it is only written under it.
        if key not in self._made:
            with self._lock:
                if key not in self._made:
                    self._made[key] = make()
        return self._made[key]

    @property
    def for_one_size(self) -> bool:
        """Whether it was made for images of one size: whether or not it takes others, they are not its own."""
        return self.fixed_size or self.spec.image_size is not None

    def grid_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the feature maps of images of (height, width); an image is run to find out."""
        size = (size[0], size[1])
        if size == tuple(self.image_size):
            return self.grid
        return self.once(("grid", size), lambda: self._measured_grid(size))

    def fingerprint(self) -> str:
        """Sum up the feature maps of noise in a few numbers: networks with the same weights may use them otherwise."""
        return self.once(("fingerprint",), self._measured_fingerprint)

    def info(self) -> dict[str, Any]:
        """Return what the estimator shows as `backbone_info_`."""
        spec = self.spec
        return {
            "name": spec.name,
            "library": spec.library,
            "tap": spec.tap,
            "licence": spec.licence,
            "source": spec.source,
            "sha256": self.sha256,
            "mean": spec.mean,
            "std": spec.std,
            "n_channels": self.n_channels,
            "grid": self.grid,
        }

    @torch.inference_mode()
    def _measured_grid(self, size):
        return tuple(self.module(torch.zeros(1, 3, *size)).shape[-2:])

    @torch.inference_mode()
    def _measured_fingerprint(self):
        generator = torch.Generator().manual_seed(0)
        maps = self.module(torch.randn(1, 3, *self.image_size, generator=generator)).double()
        # Random shares of the maps tell where in them something changed.
        shares = torch.randn(4, *maps.shape[1:], generator=generator, dtype=torch.float64)
        norm = maps.norm()
        numbers = [maps.mean(), maps.std(), maps.amin(), norm, *((shares * maps).flatten(1).sum(1) / norm)]
        # Few digits: rounding differs between processors, and this is part of the key of a cache.
        return " ".join(f"{number:.3g}" for number in numbers)


class FeatureMaps(nn.Module):
    """A network cut off where its feature maps are, whatever form it gives them in.

    Parameters
    ----------
    network : torch.nn.Module
        The network; a submodule, so that it moves with this one.
    method : str, default="forward"
        The method of `network` that gives the maps; by name, so that a deep copy calls its own.
    layout : {"nchw", "nhwc", "tokens"}, default="nchw"
        Layout of the method's output: maps, maps with the channels last (Swin), or (n, tokens, channels) of a
        transformer.
    n_prefix_tokens : int, default=0
        Class and register tokens in front of the grid, which are dropped.
    grid : tuple of two ints or None, default=None
        (rows, columns) of the tokens.
    fixed_size : bool, default=False
        Whether the network was built for one image size and takes no other.
    """

    # The shapes that a module takes and gives, and the remedy where it does not: for messages.
    shapes = ("(n, 3, height, width)", "(n, channels, rows, columns)")
    remedy = "cut the network before its global pooling"

    def __init__(
        self,
        network: nn.Module,
        method: str = "forward",
        layout: str = "nchw",
        n_prefix_tokens: int = 0,
        grid: tuple[int, int] | None = None,
        fixed_size: bool = False,
    ):
        super().__init__()
        self.network = network
        self.method = method
        self.layout = layout
        self.n_prefix_tokens = n_prefix_tokens
        self.grid = grid
        # Position embeddings are made for one number of tokens.
        self.fixed_size = fixed_size or layout == "tokens"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature maps of a normalised batch."""
        maps = getattr(self.network, self.method)(x)
        if isinstance(maps, dict):  # torchvision's feature extractors
            (maps,) = maps.values()
        if self.layout == "tokens":
            maps = maps[:, self.n_prefix_tokens :].unflatten(1, self.grid)
        return maps if self.layout == "nchw" else maps.permute(0, 3, 1, 2)


@torch.inference_mode()
def probe(module: Any, image_size: tuple[int, int], name: str) -> tuple[int, ...]:
    """Run one blank image to learn the shape of the feature maps, and refuse a network that gives none.

    Parameters
    ----------
    module : FeatureMaps or KerasMaps
        The network.
    image_size : tuple of two ints
        (height, width) in pixels.
    name : str
        Name of the backbone, for messages.

    Returns
    -------
    tuple of four ints
        (1, channels, rows, columns).

    Raises
    ------
    BackboneError
        If the network cannot take images of this size, or does not return a 4-dimensional tensor.
    """
    try:
        maps = module(torch.zeros(1, 3, *image_size, dtype=torch.float32))
    except Exception as error:
        raise BackboneError(
            f"backbone={name!r} cannot take images of image_size={image_size}: {type(error).__name__}: {error}"
        ) from error
    shape = getattr(maps, "shape", None)
    if shape is None or len(shape) != 4 or 0 in shape:
        got = f"a tensor of shape {tuple(shape)}" if shape is not None else f"a {type(maps).__name__}"
        takes, gives = module.shapes
        raise BackboneError(
            f"backbone={name!r} must map {takes} to feature maps {gives}; it gave {got}; {module.remedy}"
        )
    return tuple(shape)


def on_one_line(error: BaseException, longest: int = 300) -> str:
    """Return the message of another library's error, on one line and cut to a length, to be quoted in one of ours."""
    text = " ".join(str(error).split())
    return text if len(text) < longest else text[:longest] + " ..."


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchNetwork:
    """The prepared network on its device; may be called from several threads.

    Parameters
    ----------
    backbone : Backbone
        The network.
    device : torch.device
        Where it runs.
    precision : {"float32", "bfloat16", "float16"}
        In which it computes.
    views : Views
        Sizes at which it sees an image, and whether mirrored.
    compiled : bool, default=False
        Whether torch compiles it.
    """

    def __init__(
        self, backbone: Backbone, device: torch.device, precision: str, views: Views, *, compiled: bool = False
    ):
        self.module = prepared(backbone, device, precision, compiled=compiled)
        self.device = device
        self.precision = precision
        self.views = views
        self._factor, self._offset = (
            numbers.to(device) for numbers in pixel_scale(backbone.spec.mean, backbone.spec.std)
        )

    def maps(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps of each view.

        Parameters
        ----------
        batch : torch.Tensor of shape (n, 3, height, width), uint8 or float32 in [0, 255], RGB
            Images of the largest size, on any device.

        Returns
        -------
        list of torch.Tensor of shape (n, channels, rows, columns)
            Maps of mirror images are turned back, so that a part is the same part of the image.
        """
        batch = batch.to(self.device, non_blocking=True)
        found = []
        for view, mirrored in self.views.of(batch):
            with torch.autocast(self.device.type, dtype=_DTYPES[self.precision], enabled=self.precision != "float32"):
                maps = self.module(normalized(view, self._factor, self._offset))
            found.append(maps.flip(-1) if mirrored else maps)
        return found


def pixel_scale(mean: Sequence[float], std: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factor and offset by channel: (pixel / 255 - mean) / std = factor * pixel + offset."""
    means, stds = (torch.tensor(values, dtype=torch.float32) for values in (mean, std))
    return 1 / (255 * stds), -means / stds


def normalized(batch: torch.Tensor, factor: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Scale pixels (n, 3, height, width), in [0, 255], by what `pixel_scale` returned.

    Row by row: a broadcast along the three channels alone takes ten times as long.
    """
    n, _, height, width = batch.shape
    rows = batch.permute(0, 2, 3, 1).reshape(n, height, 3 * width).to(torch.float32)
    rows = torch.addcmul(offset.repeat(width), rows, factor.repeat(width))
    return rows.view(n, height, width, 3).permute(0, 3, 1, 2)


def prepared(backbone: Backbone, device: torch.device, precision: str, *, compiled: bool = False) -> torch.nn.Module:
    """Return the backbone folded, converted and moved; made once and kept with the backbone.

    Only convolutions and linear layers are converted, autocast does the rest: it would convert their weights anew for
    every batch, while normalisation and softmax keep float32.
    """

    def prepare():
        module = fold_batch_norm(backbone.module, backbone.image_size)
        if precision != "float32":
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(_DTYPES[precision])
        # Channels last: 1.7 times as fast on a CPU, and what convolutions in half precision want on a GPU.
        module = module.to(device).to(memory_format=torch.channels_last)
        return torch.compile(module) if compiled else module

    return backbone.once(("torch", device, precision, compiled), prepare)


@torch.no_grad()  # not inference mode: tensors made there could not be moved or copied outside of it
def fold_batch_norm(module: nn.Module, image_size: tuple[int, int]) -> nn.Module:
    """Return a copy of a network with its conv -> batch-norm pairs folded.

    Pairs are found by running one image and seeing which batch-norm was handed the very tensor a convolution
    returned. Graph tracing would find them too, but fails on networks with data-dependent padding (timm's `tf_` ones).

    Parameters
    ----------
    module : torch.nn.Module
        In eval mode, float32, on the CPU.
    image_size : tuple of two ints
        (height, width) of the image that is run.

    Returns
    -------
    torch.nn.Module
        The copy; left unfolded where folding would change its output by more than 1e-3 of the largest value (a
        convolution whose output is also used elsewhere).
    """
    # Fixed noise from a generator of its own: the user's random state stays as it is.
    image = torch.randn(1, 3, *image_size, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    # Of the copy: hooks on the module itself would also see the images that other threads run through it.
    folded = copied(module)
    expected, pairs = _find_pairs(folded, image)
    for conv_name, norm_name in pairs:
        conv: Any = folded.get_submodule(conv_name)
        norm: Any = folded.get_submodule(norm_name)
        _replace(folded, conv_name, fuse_conv_bn_eval(conv, norm))
        # timm's BatchNormAct2d carries its activation.
        _replace(folded, norm_name, getattr(norm, "act", None) or nn.Identity())
    difference = (folded(image) - expected).abs().max()
    return folded if difference <= 1e-3 * expected.abs().max().clamp_min(1e-6) else copied(module)


def copied(module: nn.Module) -> nn.Module:
    """Copy a network, in eval mode: copies of torchvision's feature extractors come back in training mode."""
    return copy.deepcopy(module).eval()


def _find_pairs(module, image):
    """Return the module's output, and the names of convolutions and norms that only follow one another."""
    calls: Counter[str] = Counter()
    produced: dict[int, str] = {}
    pairs: list[tuple[str, str]] = []
    alive: list[torch.Tensor] = []

    def remember(name):
        def hook(layer, inputs, output):
            calls[name] += 1
            if isinstance(layer, nn.Conv2d):
                produced[id(output)] = name
                alive.append(output)  # an id is only unique while its tensor lives
            elif conv := produced.get(id(inputs[0])):
                pairs.append((conv, name))

        return hook

    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    handles = [layer.register_forward_hook(remember(name)) for name, layer in layers]
    try:
        output = module(image)
    finally:
        for handle in handles:
            handle.remove()
    # A layer that is called twice cannot be folded into one of its calls.
    return output, [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _replace(module, name, new):
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new)
