"""Model of a featurizer: backbone, plan, parts, weights and centre, all resolved; it describes images.

A fit makes one of parameters and images, and keeps it as the attributes of the estimator, which is what a pickle holds;
from those the model is made again when images are described, once for as long as nothing of them changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state

from sklearn_psp import _nets
from sklearn_psp._extraction import CachedFeatures, ComputedFeatures, Feature, extract, kept_plan
from sklearn_psp._images import Images, SomeImages, array_key, as_images
from sklearn_psp.exceptions import BackboneError, ImageReadError, WeightsError
from sklearn_psp.utils._arrays import center_share, shrunk_mean, unit_rows
from sklearn_psp.utils._descriptions import Descriptions
from sklearn_psp.utils._validation import (
    check_bin_sizes,
    check_image_size,
    check_labels,
    check_part_weights,
    check_projection,
    check_scales,
    parts_frame,
    sample_by_class,
    scaled_size,
)

__all__ = ["FeatureModel", "fit_model", "fitted_model", "hold_backbone", "resolve_model"]

# mAP on four sets against the single scale, at 1.9 times its cost: benchmarks/quality.py
_AUTO_SCALES = (0.8, 1.15)
# Part weights are few: more images than this change them little, and cost their square.
_MOST_LEARNED_FROM = 1000


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """All that describes images.

    Attributes
    ----------
    params : mapping
        The parameters of `PSPNetFeaturizer`.
    request : dict
        The fields of the `BackboneRequest`.
    backbone_info : dict
        As the attribute `backbone_info_`.
    device : str
        Where the network runs.
    plan : Plan
        How it is run.
    image_size : tuple of two ints
        (height, width) of the images it sees, before `scales`.
    scales : tuple of float
        The multiples of `image_size` in use.
    parts : DataFrame
        The sequence of parts.
    part_weights : ndarray of shape (n_parts,), float32
        The weights w_i.
    n_features : int
        Length of a descriptor.
    center : ndarray of shape (n_features,), float32
        What is subtracted from it.
    loaded : Backbone or None
        The network of a fit; None where it is loaded when it is needed.
    """

    params: Mapping[str, Any]
    request: dict[str, Any]
    backbone_info: dict[str, Any]
    device: str
    plan: _nets.Plan
    image_size: tuple[int, int]
    scales: tuple[float, ...]
    parts: pd.DataFrame
    part_weights: np.ndarray
    n_features: int
    center: np.ndarray
    loaded: Any = None
    _runners: dict[int, _nets.Runner] = field(default_factory=dict, init=False, repr=False)

    @property
    def part_length(self) -> int:
        """Length of the feature of a part as it is aggregated: channels, or components of the projection."""
        return self.n_features // (len(self.parts) if self.params["aggregation"] == "concat" else 1)

    @property
    def local_features(self) -> Feature:
        """Local features of all parts, as they are pooled."""
        return Feature((len(self.parts), self.backbone_info["n_channels"]), lambda pooling, parts: parts)

    @property
    def projected_features(self) -> Feature:
        """Local features times the projection, where there is one."""
        return Feature((len(self.parts), self.part_length), lambda pooling, parts: pooling.project(parts))

    @property
    def global_features(self) -> Feature:
        """Global features, neither centred nor normalised."""
        return Feature((self.n_features,), lambda pooling, parts: pooling.join(pooling.project(parts)), kept=True)

    @cached_property
    def backbone(self) -> Any:
        """The network, with the weights of the fit."""
        if self.loaded is not None:
            return self.loaded
        backbone = _nets.load_backbone(_nets.BackboneRequest(**self.request))
        if backbone.sha256 != self.backbone_info["sha256"]:
            raise WeightsError(
                f"backbone={self.backbone_info['name']!r} was fitted with weights of sha256 "
                f"{self.backbone_info['sha256']}, but those here have {backbone.sha256}; fit again, or bring them back"
            )
        return backbone

    @cached_property
    def projection(self) -> np.ndarray | None:
        """The matrices of the levels."""
        return check_projection(
            self.params["projection"], len(self.params["bin_sizes"]), self.backbone_info["n_channels"]
        )

    @cached_property
    def views(self) -> _nets.Views:
        """The sizes at which images are seen, and whether also mirrored."""
        sizes = {scaled_size(self.request["image_size"], scale) for scale in self.scales}
        # The largest first: the others are made from it.
        return _nets.Views(sorted(sizes, reverse=True), flip=self.params["flip"])

    @cached_property
    def _levels(self) -> tuple[tuple[int, int], ...]:
        return check_bin_sizes(self.params["bin_sizes"])

    def runner(self) -> _nets.Runner:
        """Return network and pooling, made once; any number of threads may use them at once."""
        n_threads = torch.get_num_threads()  # a network may be compiled for as many
        runner = self._runners.get(n_threads)
        # A runner whose batch did not fit into memory has a smaller one by now: the next call asks, and warns, again.
        if runner is None or runner.plan != self.plan:
            pooling = _nets.PyramidPooling(
                bin_sizes=self._levels,
                projection=self.projection,
                part_weights=self.part_weights,
                **{
                    name: self.params[name]
                    for name in ("part_order", "pooling", "gem_power", "aggregation", "normalize")
                },
            )
            device = _nets.resolve_device(self.device)
            runner = _nets.Runner(self.backbone, pooling, device=device, plan=self.plan, views=self.views)
            self._runners[n_threads] = runner
        return runner

    def extract(self, images: Images, feature: Feature, *, on_error: str | None = None) -> Descriptions:
        """Compute features of images.

        Parameters
        ----------
        images : Images
            The images.
        feature : Feature
            `local_features`, `projected_features` or `global_features` of this model.
        on_error : {"raise", "nan"} or None, default=None
            What an image does that cannot be read. None: as the parameter says.

        Returns
        -------
        Descriptions
            Rows of shape (n_images, *feature.shape), float32, and the images that could not be read.
        """
        runner = self.runner()
        source = ComputedFeatures(runner, feature) if self.params["cache"] is None else self._cached(runner, feature)
        reading = {
            "image_size": self.views.sizes[0],
            "resize": self.params["resize"],
            "on_error": on_error or self.params["on_error"],
            "n_jobs": self.params["n_jobs"],
        }
        return extract(images, source, reading=reading, verbose=self.params["verbose"])

    def describe(self, images: Images, *, on_error: str | None = None) -> Descriptions:
        """Compute descriptors of images, normalised and centred; see `extract`."""
        rows, failures = self.extract(images, self.global_features, on_error=on_error)
        return Descriptions(self.centred(self.normalized(rows)), failures)

    def normalized(self, rows: np.ndarray) -> np.ndarray:
        """Normalise in place: rows are this call's own."""
        return unit_rows(rows, out=rows) if self.params["normalize"] else rows

    def centred(self, rows: np.ndarray) -> np.ndarray:
        """Subtract the centre, which is a mean of normalised features, in place, and normalise again."""
        if not self.params["center"]:
            return rows
        rows -= self.center
        return self.normalized(rows)

    def _cached(self, runner: _nets.Runner, feature: Feature) -> CachedFeatures:
        params = self.params
        return CachedFeatures(
            _open_cache(params),
            runner,
            feature,
            reading=params["resize"],
            pooling=repr(
                (self._levels, params["part_order"], params["pooling"], params["gem_power"], params["normalize"])
            ),
            joining=repr((params["aggregation"], self.part_weights.tolist(), self._projection_key)),
        )

    @cached_property
    def _projection_key(self) -> bytes | None:
        return None if self.projection is None else array_key(self.projection)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes in which an estimator keeps the model; `fitted_model` reads them."""
        return {
            "parts_": self.parts,
            "n_parts_": len(self.parts),
            "part_weights_": self.part_weights,
            "image_size_": self.image_size,
            "_request": self.request,
            "backbone_info_": self.backbone_info,
            "scales_": self.scales,
            "n_features_out_": self.n_features,
            "device_": self.device,
            **_plan_attributes(self.plan),
            "center_": self.center,
        }


def _plan_attributes(plan: _nets.Plan) -> dict[str, Any]:
    return {
        "runtime_": plan.runtime,
        "precision_": plan.precision,
        "batch_size_": plan.batch_size,
        "_n_workers": plan.n_workers,
    }


# The model that an estimator was last asked for, and the attributes it was made of. Beside the estimator, not in it:
# describing images leaves an estimator's attributes as they are.
_MODELS: WeakKeyDictionary[Any, tuple[dict[str, Any], tuple, FeatureModel]] = WeakKeyDictionary()


def fitted_model(estimator: Any) -> FeatureModel:
    """Return the model of a fitted estimator, made once for its parameters and its fit.

    Parameters
    ----------
    estimator : PSPNetFeaturizer
        Fitted. One that was fitted with a device or a runtime that is not here is given a new plan.

    Returns
    -------
    FeatureModel
        The model.
    """
    state = vars(estimator)
    # Attributes are compared by identity; these two may be changed in place.
    contents = repr(state["bin_sizes"]), state["part_weights_"].tobytes()
    known = _MODELS.get(estimator)
    if known is not None and known[1] == contents and _same(known[0], state):
        return known[2]
    params = {name: value for name, value in state.items() if not name.endswith("_") and not name.startswith("_")}
    model = FeatureModel(
        params=params,
        request=state["_request"],
        backbone_info=state["backbone_info_"],
        device=state["device_"],
        plan=_nets.Plan(
            state["runtime_"], state["precision_"], state["batch_size_"], state["_n_workers"], state["compile"]
        ),
        image_size=state["image_size_"],
        scales=state["scales_"],
        parts=state["parts_"],
        part_weights=state["part_weights_"],
        n_features=state["n_features_out_"],
        center=state["center_"],
    )
    if state["_n_workers"] is None:
        asked = {"runtime": state["runtime_"], "precision": state["precision_"], "batch_size": state["batch_size"]}
        device = _nets.resolve_device(model.device)
        plan = _nets.resolve_plan(model.backbone, device, **asked, compiled=state["compile"])
        state.update(_plan_attributes(plan))
        model = replace(model, plan=plan)
    _MODELS[estimator] = dict(state), contents, model
    return model


def _same(known: dict[str, Any], state: dict[str, Any]) -> bool:
    return known.keys() == state.keys() and all(known[name] is value for name, value in state.items())


def hold_backbone(estimator: Any) -> None:
    """Keep the network that an estimator was fitted with, where the next fit could take it away.

    A module of the user's own is copied at every fit. If that fit fails, the estimator goes on with the copy it had.
    """
    request = vars(estimator).get("_request")
    if request is not None and not isinstance(request["backbone"], str):
        with suppress(BackboneError, WeightsError):  # not usable before, and not after
            _ = fitted_model(estimator).backbone


def resolve_model(
    params: Mapping[str, Any], *, part_weights: Any = None, center: Any = None, plan: _nets.Plan | None = None
) -> FeatureModel:
    """Resolve what depends on the machine and the backbone, but not on images.

    Parameters
    ----------
    params : mapping
        The parameters of `PSPNetFeaturizer`.
    part_weights : array-like of shape (n_parts,), default=None
        The weights w_i. None: those of the parameter, ones for "learned".
    center : array-like of shape (n_features,), default=None
        What is subtracted, as `shrunk_mean` makes it of descriptors; nothing is with `center=False`. None: zeros.
    plan : Plan, default=None
        How the network is run. None: it is resolved.

    Returns
    -------
    FeatureModel
        The model.

    Raises
    ------
    ValueError
        If a parameter, the weights or the centre do not fit.
    """
    levels = check_bin_sizes(params["bin_sizes"])
    parts = parts_frame(_nets.part_sequence(levels, params["part_order"]))
    weights = check_part_weights(params["part_weights"], len(parts))
    if part_weights is not None:
        weights = check_part_weights(part_weights, len(parts))
    seed = None
    if params["weights"] is None:
        # Drawn once and kept, so that a pickle finds the same random network again.
        seed = int(check_random_state(params["random_state"]).randint(np.iinfo(np.int32).max))
    image_size = check_image_size(params["image_size"], own=_nets.own_image_size(params["backbone"]))
    request = {
        "backbone": params["backbone"],
        "weights": os.fspath(params["weights"]) if isinstance(params["weights"], os.PathLike) else params["weights"],
        "output_stride": params["output_stride"],
        "image_size": image_size,
        "seed": seed,
    }
    backbone = _nets.load_backbone(_nets.BackboneRequest(**request), refresh=True)
    scales: tuple[float, ...]
    if isinstance(params["scales"], str):
        scales = (1.0,) if backbone.for_one_size else _AUTO_SCALES
    else:
        scales = check_scales(params["scales"])
    projection = check_projection(params["projection"], len(levels), backbone.n_channels)
    length = backbone.n_channels if projection is None else projection.shape[2]
    n_features = length * (len(parts) if params["aggregation"] == "concat" else 1)
    device = _nets.resolve_device(params["device"])
    return FeatureModel(
        params=params,
        request=request,
        backbone_info=backbone.info(),
        device=str(device),
        plan=plan or _resolve_plan(params, backbone, device),
        image_size=image_size,
        scales=scales,
        parts=parts,
        part_weights=weights,
        n_features=n_features,
        center=_checked_center(center if params["center"] else None, n_features),
        loaded=backbone,
    )


def _resolve_plan(params: Mapping[str, Any], backbone: Any, device: torch.device) -> _nets.Plan:
    """Replace every "auto"; what a cache was filled with is decided once and kept with it."""
    asked = {name: params[name] for name in ("runtime", "precision", "batch_size")} | {"compiled": params["compile"]}
    if params["cache"] is None:
        return _nets.resolve_plan(backbone, device, **asked)
    return kept_plan(_open_cache(params), backbone, device, asked)


def _open_cache(params: Mapping[str, Any]) -> Any:
    from sklearn_psp._cache import open_store

    return open_store(params["cache"], max_bytes=max(1, int(params["cache_size"] * 1e6)))


def _checked_center(center: Any, n_features: int) -> np.ndarray:
    if center is None:
        return np.zeros(n_features, dtype=np.float32)
    center = np.array(center, dtype=np.float32)
    if center.shape != (n_features,):
        raise ValueError(
            f"center has shape {center.shape}, but descriptors have {n_features:,} features: one number each"
        )
    return center


def fit_model(
    params: Mapping[str, Any], X: Any, y: Any = None, *, on_error: str | None = None, describe: bool = False
) -> tuple[FeatureModel, Descriptions | None]:
    """Make a model of parameters and images; nothing but the images is touched.

    Parameters
    ----------
    params : mapping
        The parameters of `PSPNetFeaturizer`.
    X : collection of images or None
        The images. None is enough where neither the centre nor the weights are learned.
    y : array-like of shape (n_images,), default=None
        Labels, for `part_weights="learned"`.
    on_error : {"raise", "nan"} or None, default=None
        What an image does that cannot be read. None: as the parameter says.
    describe : bool, default=False
        Whether to describe the images in any case.

    Returns
    -------
    model : FeatureModel
        The model.
    described : Descriptions or None
        The images, normalised and not centred; None where they did not have to be described.

    Raises
    ------
    ImageReadError
        If there is no image to learn the centre from.
    ValueError
        If weights cannot be learned of these images and labels.
    """
    model = resolve_model(params)
    learns = isinstance(params["part_weights"], str) and params["part_weights"] == "learned"
    images = None
    if describe or (X is not None and (learns or params["center"])):
        images = as_images(X, image_shape=params["image_shape"])
    if learns:
        model = replace(model, part_weights=_learned_weights(model, images, y))
    if images is None or not (describe or params["center"]):
        return model, None
    described = model.extract(images, model.global_features, on_error=on_error)
    rows = model.normalized(described.rows)
    if params["center"]:
        read = rows if described.failures.empty else rows[~np.isnan(rows[:, 0])]
        if not len(read):
            raise ImageReadError("none of the images could be read, there is nothing to fit", described.failures)
        model = replace(model, center=shrunk_mean(read))
    return model, Descriptions(rows, described.failures)


def _learned_weights(model: FeatureModel, images: Images | None, y: Any) -> np.ndarray:
    """Learn the weights of the parts from some of the images."""
    params = model.params
    if not params["normalize"]:
        raise ValueError(
            "part_weights='learned' compares local features of unit length, and normalize=False leaves them as they "
            "are: use normalize=True, or give the weights"
        )
    if images is None or y is None:
        raise ValueError("part_weights='learned' needs images and their labels: fit(X, y)")
    if images.n_images is None:
        raise ValueError(
            "part_weights='learned' reads images twice, and an iterable of batches is read once: pass a list"
        )
    codes = check_labels(y, images.n_images)
    rows = sample_by_class(codes, _MOST_LEARNED_FROM, check_random_state(params["random_state"]))
    parts = model.extract(SomeImages(images, rows), model.projected_features).rows
    read = ~np.isnan(parts[:, 0, 0])
    codes = codes[rows][read]
    if np.bincount(codes, minlength=1).max() < 2:
        raise ValueError("part_weights='learned' needs a label that two readable images have, and y has none")
    return _nets.learn_part_weights(
        parts[read],
        codes,
        aggregation=params["aggregation"],
        level_sizes=(model.parts["n_rows"] * model.parts["n_columns"]).to_numpy(),
        center_share=center_share(len(codes)) if params["center"] else 0.0,
    )
