"""How a featurizer computes: the parameters resolved, the runner made, images described, with or without a cache."""

from __future__ import annotations

import os

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_psp.exceptions import WeightsError
from sklearn_psp.utils._descriptions import Descriptions, failures_frame
from sklearn_psp.utils._tables import check_rows, parts_frame
from sklearn_psp.utils._validation import (
    check_bin_sizes,
    check_image_size,
    check_part_weights,
    check_projection,
    check_scales,
    scaled_size,
)

__all__ = ["ComputingMixin"]

# mAP on four sets against the single scale, at 1.9 times its cost: benchmarks/quality.py
_AUTO_SCALES = (0.8, 1.15)


class ComputingMixin:
    """What `PSPNetFeaturizer` does between its parameters and the features of images."""

    def _prepare(self, plan=None):
        """Resolve what depends on the machine and the backbone, but not on images; a plan that is given is taken."""
        from sklearn_psp import _nets

        levels = check_bin_sizes(self.bin_sizes)
        sequence = _nets.part_sequence(levels, self.part_order)
        self.parts_ = parts_frame(sequence)
        self.n_parts_ = len(sequence)
        self.part_weights_ = check_part_weights(self.part_weights, self.n_parts_)
        seed = None
        if self.weights is None:
            # Drawn once and kept, so that a pickle finds the same random network again.
            seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.image_size_ = check_image_size(self.image_size, own=_nets.own_image_size(self.backbone))
        self._request = {
            "backbone": self.backbone,
            "weights": os.fspath(self.weights) if isinstance(self.weights, os.PathLike) else self.weights,
            "output_stride": self.output_stride,
            "image_size": self.image_size_,
            "seed": seed,
        }
        backbone = _nets.load_backbone(_nets.BackboneRequest(**self._request), refresh=True)
        self.backbone_info_ = backbone.info()
        if isinstance(self.scales, str):
            self.scales_ = (1.0,) if backbone.for_one_size else _AUTO_SCALES
        else:
            self.scales_ = check_scales(self.scales)
        projection = check_projection(self.projection, len(levels), backbone.n_channels)
        length = backbone.n_channels if projection is None else projection.shape[2]
        self.n_features_out_ = length * (self.n_parts_ if self.aggregation == "concat" else 1)
        device = _nets.resolve_device(self.device)
        self.device_ = str(device)
        self._set_plan(plan or self._resolve_plan(backbone, device))

    def _resolve_plan(self, backbone, device):
        """Replace every "auto"; what a cache was filled with is decided once and kept with it."""
        from sklearn_psp import _nets

        asked = {
            "runtime": self.runtime,
            "precision": self.precision,
            "batch_size": self.batch_size,
            "compiled": self.compile,
        }
        if self.cache is None:
            return _nets.resolve_plan(backbone, device, **asked)
        from sklearn_psp._extraction import kept_plan

        return kept_plan(self._store(), backbone, device, asked)

    def _set_plan(self, plan):
        self.runtime_ = plan.runtime
        self.precision_ = plan.precision
        self.batch_size_ = plan.batch_size
        self._n_workers = plan.n_workers

    def _current_plan(self):
        """Return the plan of the fit."""
        from sklearn_psp import _nets

        return _nets.Plan(self.runtime_, self.precision_, self.batch_size_, self._n_workers, self.compile)

    def _plan(self, backbone, device):
        from sklearn_psp import _nets

        if self._n_workers is None:  # fitted elsewhere, with a device or a runtime that is not here
            asked = {"runtime": self.runtime_, "precision": self.precision_, "batch_size": self.batch_size}
            self._set_plan(_nets.resolve_plan(backbone, device, **asked, compiled=self.compile))
        return self._current_plan()

    def _store(self):
        from sklearn_psp._cache import open_store

        return open_store(self.cache, max_bytes=max(1, int(self.cache_size * 1e6)))

    def _checked_projection(self):
        return check_projection(self.projection, len(self.bin_sizes), self.backbone_info_["n_channels"])

    def _part_length(self):
        """Length of the feature of a part as it is joined: channels, or components of the projection."""
        return self.n_features_out_ // (self.n_parts_ if self.aggregation == "concat" else 1)

    def _runner(self):
        from sklearn_psp import _nets

        backbone = _nets.load_backbone(_nets.BackboneRequest(**self._request))
        if backbone.sha256 != self.backbone_info_["sha256"]:
            raise WeightsError(
                f"backbone={self.backbone_info_['name']!r} was fitted with weights of sha256 "
                f"{self.backbone_info_['sha256']}, but those here have {backbone.sha256}; fit again, or bring them back"
            )
        pooling = _nets.PyramidPooling(
            bin_sizes=check_bin_sizes(self.bin_sizes),
            part_order=self.part_order,
            pooling=self.pooling,
            gem_power=self.gem_power,
            projection=self._checked_projection(),
            part_weights=self.part_weights_,
            aggregation=self.aggregation,
            normalize=self.normalize,
        )
        device = _nets.resolve_device(self.device_)
        plan = self._plan(backbone, device)
        return _nets.Runner(backbone, pooling, device=device, plan=plan, views=self._views())

    def _views(self):
        from sklearn_psp import _nets

        sizes = {scaled_size(self._request["image_size"], scale) for scale in self.scales_}
        # The largest first: the others are made from it.
        return _nets.Views(sorted(sizes, reverse=True), flip=self.flip)

    def _compute(self, X, method, on_error=None):
        """Read X batch by batch, and return the features and the failures."""
        from sklearn_psp._extraction import CachedFeatures, extract
        from sklearn_psp._images import as_images

        images = as_images(X, image_shape=self.image_shape)
        runner = self._runner()
        cache, levels = None, check_bin_sizes(self.bin_sizes)
        if self.cache is not None:
            cache = CachedFeatures(
                self._store(),
                runner,
                method,
                reading=self.resize,
                pooling=repr((levels, self.part_order, self.pooling, self.gem_power, self.normalize)),
                joining=repr((self.aggregation, self.part_weights_.tolist(), self._projection_key())),
            )
        shape = {
            "local_features": (self.n_parts_, self.backbone_info_["n_channels"]),
            "projected_features": (self.n_parts_, self._part_length()),
            "global_features": (self.n_features_out_,),
        }[method]
        reading = {
            "image_size": runner.views.sizes[0],
            "resize": self.resize,
            "on_error": on_error or self.on_error,
            "n_jobs": self.n_jobs,
        }
        return extract(images, runner, method, shape, reading=reading, cache=cache, verbose=self.verbose)

    def _projection_key(self):
        from sklearn_psp._images import array_key

        projection = self._checked_projection()
        return None if projection is None else array_key(projection)

    def _describe(self, X, method, on_error=None):
        check_is_fitted(self)
        features, failures = self._compute(check_rows(self, X, reset=False), method, on_error)
        return Descriptions(features, failures_frame(failures))
