"""Any classification network of torchvision, cut before its pooling."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from sklearn_psp._nets._feature_maps import FeatureMaps
from sklearn_psp._nets._specs import IMAGENET_MEAN, IMAGENET_STD, BackboneRequest, BackboneSpec
from sklearn_psp._nets._weights import load_into, read_state_dict
from sklearn_psp.exceptions import BackboneError, WeightsError

__all__ = ["build_torchvision", "torchvision_names"]

# The node whose output is the last feature map, by the start of the network's name; the longest start wins.
_TAPS = {
    "alexnet": "features",
    "convnext": "features",
    "densenet": "relu",
    "efficientnet": "features",
    "googlenet": "inception5b",
    "inception": "Mixed_7c",
    "maxvit": "blocks",
    "mnasnet": "layers",
    "mobilenet": "features",
    "regnet": "trunk_output",
    "resnet": "layer4",
    "resnext": "layer4",
    "shufflenet": "conv5",
    "squeezenet": "features",
    "swin": "permute",
    "vgg": "features",
    "vit": "encoder",
    "wide_resnet": "layer4",
}
_DILATED = ("resnet", "resnext", "wide_resnet")


def torchvision_names() -> list[str]:
    """Names of torchvision's classification networks that have a known tap."""
    return [name for name in torchvision.models.list_models(module=torchvision.models) if _tap(name)]


def build_torchvision(request: BackboneRequest, name: str) -> tuple[BackboneSpec, nn.Module, str | None]:
    """Build a network of torchvision by its name there.

    Parameters
    ----------
    request : BackboneRequest
        What was asked for.
    name : str
        Name of the model in `torchvision.models`.

    Returns
    -------
    spec : BackboneSpec
        Identity card.
    module : torch.nn.Module
        Feature extractor.
    sha256 : str or None
        Hash of the weights' file; None for random weights.
    """
    published = torchvision.models.get_model_weights(name).DEFAULT
    transforms = published.transforms()
    spec = BackboneSpec(
        name=name,
        library="torchvision",
        tap=_tap(name),
        mean=tuple(getattr(transforms, "mean", IMAGENET_MEAN)),
        std=tuple(getattr(transforms, "std", IMAGENET_STD)),
        licence="BSD-3-Clause (torchvision); trained on ImageNet",
        source=published.url,
    )
    with warnings.catch_warnings():
        # GoogLeNet and Inception warn about a future default of random weights, which are overwritten or meant.
        warnings.simplefilter("ignore", FutureWarning)
        network = torchvision.models.get_model(name, weights=None, **_options(request, name)).eval()
    digest = None
    if request.weights is not None:
        path = request.weights
        if path in ("default", "download"):
            path = _published_file(name, published.url, download=path == "download")
        state, digest = read_state_dict(path)
        load_into(network, state, name=name, origin=str(path))
    return spec, _cut(network, spec.tap, request), digest


def _tap(name):
    starts = [start for start in _TAPS if name.startswith(start)]
    return _TAPS[max(starts, key=len)] if starts else None


def _options(request, name):
    options = {}
    if name.startswith("maxvit"):
        options["input_size"] = request.image_size
    if name.startswith("vit"):
        height, width = request.image_size
        if height != width:
            raise BackboneError(f"image_size={request.image_size}: backbone={name!r} takes square images only")
        options["image_size"] = height
    if request.output_stride not in (None, 32):
        if not name.startswith(_DILATED) or name in ("resnet18", "resnet34"):
            raise BackboneError(
                f"output_stride={request.output_stride}: backbone={name!r} cannot be dilated in torchvision; use None, "
                "a resnet50 or deeper, or a network of timm"
            )
        strides = {16: [False, False, True], 8: [False, True, True]}
        if request.output_stride not in strides:
            raise BackboneError(f"output_stride={request.output_stride}: backbone={name!r} offers 8, 16 and 32")
        options["replace_stride_with_dilation"] = strides[request.output_stride]
    return options


def _cut(network, tap, request):
    with warnings.catch_warnings():
        # "nodes obtained in eval mode are a subsequence of those in train mode": only eval mode is ever used here.
        warnings.filterwarnings("ignore", message="NOTE: The nodes obtained by tracing", category=UserWarning)
        cut = create_feature_extractor(network, return_nodes={tap: "maps"})
    if tap != "encoder":
        return FeatureMaps(cut, fixed_size=tap == "blocks")
    side = request.image_size[0] // network.patch_size
    return FeatureMaps(cut, layout="tokens", n_prefix_tokens=1, grid=(side, side))


def _published_file(name, url, *, download):
    """Return the file torchvision's own loader keeps, fetching it only when that was asked for."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(url).name
    if path.is_file():
        return path
    if not download:
        raise WeightsError(
            f"weights='default': no weights for backbone={name!r} are on this machine ({path} is absent); use "
            "weights='download' once, weights='path/to/file.pth', or the default backbone, whose weights are installed "
            "with sklearn_psp"
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # The hash that stands in the file's name is checked by torch.hub.
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False)
    except Exception as error:
        raise WeightsError(
            f"weights='download': {url} could not be fetched ({type(error).__name__}: {error}); fetch it elsewhere and "
            "give its path"
        ) from error
    return path
