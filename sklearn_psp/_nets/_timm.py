"""The library of timm's networks, convolutional or with a grid of tokens, and modules of the user's own like them."""

from __future__ import annotations

import copy
import math
from typing import Any

import timm
import torch
from torch import nn

from sklearn_psp._nets._networks import IMAGENET_MEAN, IMAGENET_STD, BackboneRequest, FeatureMaps
from sklearn_psp._nets._weights import load_into, read_state_dict
from sklearn_psp.exceptions import BackboneError, WeightsError

__all__ = ["TimmLibrary", "TorchModules"]


class TimmLibrary:
    """timm's networks, by their names there, with or without the tag of their weights."""

    def knows(self, name: str) -> bool:
        """Whether there is a network of this name."""
        return timm.is_model(name)

    def names(self) -> list[str]:
        """Names of the networks, without tags."""
        return timm.list_models()

    def image_size(self, name: str) -> tuple[int, int] | None:
        """Return (height, width) of the images a network is built for; None where it takes any."""
        config = timm.get_pretrained_cfg(name)
        if config is None or not getattr(config, "fixed_input_size", False):
            return None
        _, height, width = config.input_size
        return height, width

    def build(self, request: BackboneRequest, name: str) -> tuple[nn.Module, dict[str, Any]]:
        """Build a network of timm by its name there.

        Parameters
        ----------
        request : BackboneRequest
            The backbone, its weights and its images.
        name : str
            Name of the model in timm, with or without the tag of its weights.

        Returns
        -------
        module : FeatureMaps
            The network.
        about : dict
            Fields of `BackboneSpec`, and the `sha256` of the weights' file; None for random weights.

        Raises
        ------
        BackboneError
            If the network cannot be dilated as asked, or gives no feature maps.
        WeightsError
            If the weights are not on this machine or do not fit.
        """
        about, digest = _about(name), None
        options: dict[str, Any] = {}
        if request.output_stride is not None:
            options["output_stride"] = request.output_stride
        if self.image_size(name):
            options["img_size"] = request.image_size
        if request.weights is not None:
            path = _cached(name, about["source"]) if request.weights == "default" else request.weights
            path = _download(name) if request.weights == "download" else path
            state, digest = read_state_dict(path)
            # Passed through timm, which renames old checkpoints and resamples position embeddings to the image size.
            options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
        try:
            network = timm.create_model(name, **options)
        except (TypeError, NotImplementedError, AssertionError, RuntimeError) as error:
            if request.output_stride is not None and not isinstance(error, RuntimeError):
                raise BackboneError(
                    f"output_stride={request.output_stride}: backbone={name!r} cannot be dilated ({error}); use None"
                ) from error
            raise WeightsError(
                f"the weights {request.weights!r} do not fit backbone={name!r}: {str(error)[:600]}"
            ) from error
        return _wrapped(network, request.image_size, name), about | {"sha256": digest}


class TorchModules:
    """Modules of the user's own. One that timm made says how pixels are scaled and where its feature maps are."""

    def knows(self, module: Any) -> bool:
        """Whether it is one."""
        return isinstance(module, nn.Module)

    def image_size(self, module: Any) -> tuple[int, int] | None:
        """Return (height, width) of the images a module is built for; None where it takes any."""
        if not _is_of_timm(module) or not module.pretrained_cfg.get("fixed_input_size", False):
            return None
        # A model may have been created for another size than that of its published weights.
        size = (
            getattr(getattr(module, "patch_embed", None), "img_size", None) or module.pretrained_cfg["input_size"][1:]
        )
        return tuple(size)

    def build(self, module: Any, request: BackboneRequest, name: str) -> tuple[nn.Module, dict[str, Any]]:
        """Copy a module, and find its feature maps.

        Parameters
        ----------
        module : torch.nn.Module
            The module.
        request : BackboneRequest
            The backbone, its weights and its images.
        name : str
            Name of the module's class.

        Returns
        -------
        module : FeatureMaps
            The copy.
        about : dict
            Fields of `BackboneSpec`, and the `sha256` of the weights' file; None for the weights it has.

        Raises
        ------
        BackboneError
            If a module of timm gives no feature maps.
        WeightsError
            If the weights do not fit.
        """
        # A copy: the user's module stays in its own mode, on its own device, and may be trained further.
        network, digest = copy.deepcopy(module).to("cpu", torch.float32).eval(), None
        if request.weights is not None and request.weights != "default":
            state, digest = read_state_dict(request.weights)
            load_into(network, state, name=name, origin=request.weights)
        if not _is_of_timm(network):
            return FeatureMaps(network), {"sha256": digest}
        config = network.pretrained_cfg
        about = {"tap": "forward_features", "mean": tuple(config["mean"]), "std": tuple(config["std"])}
        return _wrapped(network, request.image_size, name), about | {"sha256": digest}

    def state(self, module: Any) -> dict[str, torch.Tensor]:
        """Return the weights of a module."""
        return module.state_dict()

    def with_state(self, module: Any, state: dict[str, torch.Tensor]) -> nn.Module:
        """Copy a module and give the copy the weights of `state`, every one of them."""
        copied = copy.deepcopy(module)
        load_into(copied, state, name=type(module).__name__, origin="of the file")
        return copied


def _is_of_timm(module):
    return bool(getattr(module, "pretrained_cfg", None)) and hasattr(module, "forward_features")


def _wrapped(network, image_size, name):
    """Take the feature maps, or the grid of tokens, from a model of timm."""
    network = network.float().eval()
    config = getattr(network, "pretrained_cfg", None) or {}
    fixed_size = bool(config.get("fixed_input_size", False))
    if getattr(network, "output_fmt", None) == "NHWC":
        return FeatureMaps(network, "forward_features", layout="nhwc", fixed_size=fixed_size)
    with torch.inference_mode():
        try:
            features = network.forward_features(torch.zeros(1, 3, *image_size, dtype=torch.float32))
        except Exception as error:
            raise BackboneError(f"backbone={name!r} cannot take images of image_size={image_size}: {error}") from error
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) == 4:
        return FeatureMaps(network, "forward_features", fixed_size=fixed_size)
    if len(shape) != 3:
        raise BackboneError(f"backbone={name!r}: its features of shape {shape} are neither maps nor tokens")
    n_prefix = getattr(network, "num_prefix_tokens", 0) or 0
    grid = _token_grid(network, shape[1] - n_prefix, image_size)
    if grid is None:
        raise BackboneError(f"backbone={name!r}: its {shape[1]} tokens ({n_prefix} of them prefixes) form no grid")
    return FeatureMaps(network, "forward_features", layout="tokens", n_prefix_tokens=n_prefix, grid=grid)


def _token_grid(network, n_tokens, image_size):
    height, width = image_size
    rows = round(math.sqrt(n_tokens * height / width))
    guesses = [getattr(getattr(network, "patch_embed", None), "grid_size", None), (rows, n_tokens // max(rows, 1))]
    return next((tuple(grid) for grid in guesses if grid and grid[0] * grid[1] == n_tokens), None)


def _about(name):
    about = {"tap": "forward_features", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return about | {"source": "none"}
    return about | {
        "mean": tuple(config.mean),
        "std": tuple(config.std),
        "licence": getattr(config, "license", None) or "unknown",
        "source": f"hf-hub:{config.hf_hub_id}" if config.hf_hub_id else config.url or "none",
    }


def _cached(name, source):
    """Return the weights an earlier download left on this machine."""
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    if config is not None and config.hf_hub_id:
        for file in ("model.safetensors", "pytorch_model.bin"):
            path = try_to_load_from_cache(config.hf_hub_id, file)
            if isinstance(path, str):
                return path
    raise WeightsError(
        f"weights='default': no weights for backbone={name!r} are on this machine; use weights='download' once "
        f"({source}), weights='path/to/file.safetensors', or the default backbone, whose weights are installed "
        "with sklearn_psp"
    )


def _download(name):
    from huggingface_hub import hf_hub_download

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"weights='download': timm publishes no weights for backbone={name!r}; give a path")
    try:
        return hf_hub_download(config.hf_hub_id, "model.safetensors")
    except Exception as error:
        raise WeightsError(
            f"weights='download': {config.hf_hub_id} could not be fetched ({type(error).__name__}: {error}); "
            "fetch the file elsewhere and give its path"
        ) from error
