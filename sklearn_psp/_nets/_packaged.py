"""Backbones whose weights come as installed packages: with nothing to download."""

from __future__ import annotations

import timm
import torch
from torch import nn

from sklearn_psp._nets._dlib_face import DlibFace, read_dlib_face
from sklearn_psp._nets._feature_maps import FeatureMaps
from sklearn_psp._nets._specs import PACKAGED, BackboneRequest, BackboneSpec
from sklearn_psp._nets._weights import checked_sha256, load_into, packaged_file, read_state_dict
from sklearn_psp.exceptions import BackboneError, WeightsError

__all__ = ["build_packaged"]


def build_packaged(request: BackboneRequest, name: str) -> tuple[BackboneSpec, nn.Module, str | None]:
    """Build a network from its definition and the packaged tensors.

    The file's hash is checked, and every tensor is loaded or none.

    Parameters
    ----------
    request : BackboneRequest
        What was asked for.
    name : str
        A key of `PACKAGED`.

    Returns
    -------
    spec : BackboneSpec
        Identity card.
    module : torch.nn.Module
        Feature extractor.
    sha256 : str or None
        Hash of the weights' file; None for random weights.
    """
    spec = PACKAGED[name]
    if request.weights == "download":
        raise WeightsError(
            f"weights='download': backbone={name!r} comes with {spec.source}: install it and use weights='default'"
        )
    make, method, read = _FAMILIES[spec.family]
    network = make(request, name)
    digest = None
    if request.weights == "default":
        path = packaged_file(spec.package, spec.file, extra=spec.extra)
        digest = checked_sha256(path, spec.sha256)
        load_into(network, read(path, network), name=name, origin=str(path))
    elif request.weights is not None:
        state, digest = read_state_dict(request.weights)
        load_into(network, state, name=name, origin=request.weights)
    return spec, FeatureMaps(network, method), digest


def _make_efficientnet_lite(request: BackboneRequest, name: str) -> nn.Module:
    options = {} if request.output_stride is None else {"output_stride": request.output_stride}
    return timm.create_model(f"tf_{name}", pretrained=False, **options)


def _read_in_order(path, network: nn.Module) -> dict[str, torch.Tensor]:
    """Read tensors that stand in the order and shapes of timm's under other names (`_conv_stem` for `conv_stem`)."""
    state, _ = read_state_dict(path)
    return dict(zip(network.state_dict(), state.values(), strict=True))


def _make_dlib_face(request: BackboneRequest, name: str) -> nn.Module:
    if request.output_stride is not None:
        raise BackboneError(f"output_stride={request.output_stride}: backbone={name!r} cannot be dilated; use None")
    return DlibFace()


# How a network of each family is made, which of its methods gives the maps, and how its file is read.
_FAMILIES = {
    "efficientnet_lite": (_make_efficientnet_lite, "forward_features", _read_in_order),
    "dlib_face": (_make_dlib_face, "forward", lambda path, network: read_dlib_face(path)),
}
