"""The library of torchvision's classification networks, cut before their pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from sklearn_psp._nets._networks import IMAGENET_MEAN, IMAGENET_STD, BackboneRequest, FeatureMaps
from sklearn_psp._nets._weights import load_into, read_state_dict
from sklearn_psp.exceptions import BackboneError, WeightsError
from sklearn_psp.utils._warnings import quiet_thread

__all__ = ["TorchvisionLibrary"]

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


class TorchvisionLibrary:
    """torchvision's classification networks that have a known tap, cut before their pooling."""

    def knows(self, name: str) -> bool:
        """Whether there is a network of this name."""
        return name in self.names()

    def names(self) -> list[str]:
        """Names of the networks."""
        return [name for name in torchvision.models.list_models(module=torchvision.models) if _tap(name)]

    def image_size(self, name: str) -> None:
        """Return None: all of them take the default size, and most take any."""

    def build(self, request: BackboneRequest, name: str) -> tuple[nn.Module, dict[str, Any]]:
        """Build a network of torchvision by its name there.

        Parameters
        ----------
        request : BackboneRequest
            The backbone, its weights and its images.
        name : str
            Name of the model in `torchvision.models`.

        Returns
        -------
        module : FeatureMaps
            The network.
        about : dict
            Fields of `BackboneSpec`, and the `sha256` of the weights' file; None for random weights.

        Raises
        ------
        BackboneError
            If the network cannot be dilated as asked, or takes no image of that shape.
        WeightsError
            If the weights are not on this machine or do not fit.
        """
        published = torchvision.models.get_model_weights(name).DEFAULT
        transforms = published.transforms()
        with quiet_thread():
            # GoogLeNet and Inception warn about a future default of random weights, which are overwritten or meant.
            network = torchvision.models.get_model(name, weights=None, **_options(request, name)).eval()
        digest = None
        if request.weights is not None:
            path = request.weights
            if path in ("default", "download"):
                path = _published_file(name, published.url, download=path == "download")
            state, digest = read_state_dict(path)
            load_into(network, state, name=name, origin=str(path))
        about = {
            "tap": _tap(name),
            "mean": tuple(getattr(transforms, "mean", IMAGENET_MEAN)),
            "std": tuple(getattr(transforms, "std", IMAGENET_STD)),
            "licence": "BSD-3-Clause (torchvision); trained on ImageNet",
            "source": published.url,
            "sha256": digest,
        }
        return _cut(network, _tap(name), request), about


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
    with quiet_thread():
        # "nodes obtained in eval mode are a subsequence of those in train mode": only eval mode is ever used here.
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
