"""What pickle and `sklearn_psp.save` keep of a featurizer, and what it becomes on another machine."""

from __future__ import annotations

import warnings

from sklearn_psp._persistence import is_saving, pack_featurizer, unpack_featurizer
from sklearn_psp.exceptions import RuntimeFallbackWarning
from sklearn_psp.utils._optional import is_installed

__all__ = ["PackedStateMixin", "StateMixin"]


class PackedStateMixin:
    """The state of an estimator with a network and tables: for a file without pickle it is packed."""

    def __getstate__(self):
        state = super().__getstate__()
        return pack_featurizer(state, _read_weights) if is_saving() else state

    def __setstate__(self, state):
        super().__setstate__(unpack_featurizer(state, _make_module))


class StateMixin(PackedStateMixin):
    """The state of a `PSPNetFeaturizer`."""

    def __setstate__(self, state):
        super().__setstate__(state)
        if "image_size_" not in self.__dict__ and "_request" in self.__dict__:  # fitted before there was "auto"
            self.image_size_ = self._request["image_size"]
        if self.__dict__.get("device_", "cpu") != "cpu" and self.device == "auto":
            # Fitted on a GPU and loaded where there may be none: "auto" is resolved anew, the precision stays.
            from sklearn_psp import _nets

            fitted_on, self.device_ = self.device_, str(_nets.resolve_device("auto"))
            if self.device_ != fitted_on:
                self._n_workers = None
        if self.__dict__.get("runtime_") == "openvino" and self.runtime == "auto" and not is_installed("openvino"):
            warnings.warn(
                RuntimeFallbackWarning(
                    "fitted with OpenVINO, which is not installed here: torch runs the network, to the same feature "
                    "maps but for rounding; pip install 'sklearn_psp[cpu]'"
                ),
                stacklevel=2,
            )
            self.runtime_, self._n_workers = "torch", None


def _read_weights(request, sha256):
    from sklearn_psp import _nets

    fields = {"output_stride": None, "image_size": (0, 0), **request}
    return _nets.pack_weights(_nets.BackboneRequest(**fields), sha256)


def _make_module(module, tensors):
    from sklearn_psp import _nets

    return _nets.module_with(module, tensors)
