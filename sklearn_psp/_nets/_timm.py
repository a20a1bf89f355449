"""Any network of timm: convolutional, or a transformer with a grid of tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import timm
import torch
from torch import nn

from sklearn_psp._nets._feature_maps import FeatureMaps
from sklearn_psp._nets._specs import BackboneRequest, BackboneSpec
from sklearn_psp._nets._weights import read_state_dict
from sklearn_psp.exceptions import BackboneError, WeightsError

__all__ = ["build_timm", "timm_image_size", "wrap_timm"]


def build_timm(request: BackboneRequest, name: str) -> tuple[BackboneSpec, nn.Module, str | None]:
    """Build a network of timm by its name there.

    Parameters
    ----------
    request : BackboneRequest
        What was asked for.
    name : str
        Name of the model in timm, with or without the tag of its weights.

    Returns
    -------
    spec : BackboneSpec
        Identity card.
    module : torch.nn.Module
        Feature extractor.
    sha256 : str or None
        Hash of the weights' file; None for random weights.
    """
    spec, options = _spec(name), {}
    if request.output_stride is not None:
        options["output_stride"] = request.output_stride
    if timm_image_size(name):
        options["img_size"] = request.image_size
    digest = None
    if request.weights is not None:
        path = _cached(name, spec) if request.weights == "default" else request.weights
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
    return spec, wrap_timm(network, request.image_size, name), digest


def timm_image_size(network: str | nn.Module) -> tuple[int, int] | None:
    """Return (height, width) of the images a model, or the model of that name, is built for; None if for any."""
    if isinstance(network, str):
        config = timm.get_pretrained_cfg(network)
        fixed = config is not None and getattr(config, "fixed_input_size", False)
        return tuple(config.input_size[1:]) if fixed else None
    config = getattr(network, "pretrained_cfg", None) or {}
    if not hasattr(network, "forward_features") or not config.get("fixed_input_size", False):
        return None
    # A model may have been created for another size than that of its published weights.
    size = getattr(getattr(network, "patch_embed", None), "img_size", None) or config["input_size"][1:]
    return tuple(size)


def wrap_timm(network: nn.Module, image_size: tuple[int, int], name: str) -> FeatureMaps:
    """Take the feature maps, or the grid of tokens, from a model of timm.

    Raises
    ------
    BackboneError
        If the model's features are neither maps nor a grid of tokens.
    """
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


def _spec(name):
    config = timm.get_pretrained_cfg(name)
    spec = BackboneSpec(name=name, library="timm", tap="forward_features")
    if config is None:
        return spec
    source = f"hf-hub:{config.hf_hub_id}" if config.hf_hub_id else config.url or "none"
    return replace(
        spec,
        mean=tuple(config.mean),
        std=tuple(config.std),
        licence=getattr(config, "license", None) or "unknown",
        source=source,
    )


def _cached(name, spec):
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
        f"({spec.source}), weights='path/to/file.safetensors', or the default backbone, whose weights are installed "
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
