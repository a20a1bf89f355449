"""Fitted state of a featurizer: given in one step, kept in a pickle or a file, adapted to another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_psp._featurizer._packing import pack_featurizer, unpack_featurizer
from sklearn_psp._persistence import is_saving
from sklearn_psp.exceptions import RuntimeFallbackWarning
from sklearn_psp.utils._compat import _fit_context
from sklearn_psp.utils._libraries import is_installed
from sklearn_psp.utils._warnings import warn_user

if TYPE_CHECKING:
    from sklearn_psp._nets import Plan

__all__ = ["PackedStateMixin", "adapted_state", "columns_of", "replace_fit", "set_fitted"]

_COLUMNS = ("n_features_in_", "feature_names_in_")
# Of the images of a fit: what an earlier fit may have left and the next one need not make.
_OF_IMAGES = (*_COLUMNS, "errors_")


def columns_of(estimator: Any) -> dict[str, Any]:
    """Return what scikit-learn has noted of the columns of X."""
    return {name: value for name, value in vars(estimator).items() if name in _COLUMNS}


def replace_fit(featurizer: Any, fitted: dict[str, Any]) -> None:
    """Give an estimator the attributes of a fit, and none of an earlier one.

    One assignment: neither an interruption nor another thread finds some of the old beside some of the new.
    """
    kept = {name: value for name, value in vars(featurizer).items() if name not in _OF_IMAGES}
    featurizer.__dict__ = kept | fitted


@_fit_context(prefer_skip_nested_validation=True)
def set_fitted(featurizer: Any, *, part_weights: Any = None, center: Any = None, plan: Plan | None = None) -> Any:
    """Fit a featurizer without images, with what was learned elsewhere.

    Parameters
    ----------
    featurizer : PSPNetFeaturizer
        Its parameters are validated; what an earlier fit learned is replaced.
    part_weights : array-like of shape (n_parts,), default=None
        The weights w_i. None: those of the parameter, ones for "learned".
    center : array-like of shape (n_features_out_,), default=None
        What is subtracted, as `shrunk_mean` makes it of descriptors; nothing is with `center=False`. None: zeros.
    plan : Plan, default=None
        How the network is run, as `model_of(another).plan` tells it. None: it is resolved.

    Returns
    -------
    PSPNetFeaturizer
        The same, fitted.
    """
    from sklearn_psp._featurizer._feature_model import resolve_model

    params = featurizer.get_params(deep=False)
    model = resolve_model(params, part_weights=part_weights, center=center, plan=plan)
    replace_fit(featurizer, model.attributes())
    return featurizer


class PackedStateMixin:
    """The state of an estimator with a network and tables: for a file without pickle it is packed."""

    def __getstate__(self) -> Any:
        state: Any = super().__getstate__()
        return pack_featurizer(state, _read_weights) if is_saving() else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpack_featurizer(state, _make_module))  # type: ignore[misc]  # of BaseEstimator


def adapted_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return what of a loaded featurizer's attributes is different here.

    A `_n_workers` of None says that the plan has to be made again; the precision stays in any case.

    Parameters
    ----------
    state : dict
        The attributes, perhaps of an earlier version or of another machine.

    Returns
    -------
    dict
        Those to replace or to add.
    """
    changes: dict[str, Any] = {}
    if "image_size_" not in state and "_request" in state:  # fitted before there was "auto"
        changes["image_size_"] = state["_request"]["image_size"]
    if state.get("device_", "cpu") != "cpu" and state["device"] == "auto":
        # Fitted on a GPU and loaded where there may be none: "auto" is resolved anew.
        from sklearn_psp import _nets

        device = str(_nets.resolve_device("auto"))
        if device != state["device_"]:
            changes |= {"device_": device, "_n_workers": None}
    if state.get("runtime_") == "openvino" and state["runtime"] == "auto" and not is_installed("openvino"):
        warn_user(
            RuntimeFallbackWarning(
                "fitted with OpenVINO, which is not installed here: torch runs the network, to the same feature maps "
                "except for rounding; pip install 'sklearn_psp[cpu]'"
            )
        )
        changes |= {"runtime_": "torch", "_n_workers": None}
    return changes


def _read_weights(request: dict[str, Any], sha256: str | None) -> np.ndarray:
    from sklearn_psp import _nets

    fields = {"output_stride": None, "image_size": (0, 0), **request}
    return _nets.pack_weights(_nets.BackboneRequest(**fields), sha256)


def _make_module(module: Any, tensors: np.ndarray) -> Any:
    from sklearn_psp import _nets

    return _nets.module_with(module, tensors)
