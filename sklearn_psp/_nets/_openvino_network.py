"""The network that OpenVINO runs on the CPU: images in, feature maps out."""

from __future__ import annotations

import functools
import os
import threading

import numpy as np
import torch

from sklearn_psp._nets._networks import Backbone, fold_batch_norm, on_one_line
from sklearn_psp._nets._pyramid import Views
from sklearn_psp.exceptions import BackboneError, DeviceError
from sklearn_psp.utils._libraries import import_optional_dependency
from sklearn_psp.utils._warnings import quiet_thread

__all__ = ["OpenVINONetwork", "check_openvino", "import_openvino"]

_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}
# Of the largest value of the maps: what OpenVINO's float32 may differ from torch's. 6e-6 was measured.
_TOLERANCE = 1e-3
_LONGEST_REASON = 600
_CORE_LOCK = threading.Lock()


class OpenVINONetwork:
    """The compiled network; may be called from several threads, each of which has a request of its own.

    Parameters
    ----------
    backbone : Backbone
        The network.
    precision : {"float32", "bfloat16", "float16"}
        In which it computes.
    views : Views
        Sizes at which it sees an image, and whether mirrored.

    Raises
    ------
    BackboneError
        If OpenVINO cannot convert the network.
    DeviceError
        If the processor does not compute in that precision.
    MissingDependencyError
        If OpenVINO is not installed.
    """

    def __init__(self, backbone: Backbone, precision: str, views: Views):
        self.views = views
        self.n_streams = 1
        self._backbone = backbone
        self._precision = precision
        # As many as torch may use here: under joblib that is this worker's share of the cores.
        self._n_threads = torch.get_num_threads()
        self._local = threading.local()
        self._lock = threading.Lock()
        for size in views.sizes:
            model = self._model(size, np.dtype(np.uint8))
            self.n_streams = max(self.n_streams, model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def maps(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps of each view, float32; see `TorchNetwork.maps`."""
        found = []
        for view, mirrored in self.views.of(batch):
            # One image at a time: as fast as a batch, and no image's maps depend on those beside it.
            images = view.permute(0, 2, 3, 1).contiguous().numpy()
            request = self._request(images.shape[1:3], images.dtype)
            output = request.get_output_tensor(0)
            rows = np.empty((len(images), *output.shape[1:]), dtype=np.float32)
            for i in range(len(images)):
                request.infer({0: images[i : i + 1]}, share_inputs=True, share_outputs=True)
                rows[i] = output.data[0]
            maps = torch.from_numpy(rows).permute(0, 3, 1, 2)
            found.append(maps.flip(-1) if mirrored else maps)
        return found

    def _request(self, size, dtype):
        key = (os.getpid(), *size, dtype)
        requests = self._local.__dict__.setdefault("requests", {})
        if key not in requests:
            with self._lock:
                requests[key] = self._model(size, dtype).create_infer_request()
        return requests[key]

    def _model(self, size, dtype):
        """Return the network compiled for one size of image; made once and kept with the backbone."""
        # Of this process: its threads do not live on in a forked child.
        key = ("openvino", os.getpid(), self._precision, self._n_threads, tuple(size), dtype)
        return self._backbone.once(key, lambda: self._compiled(tuple(size), dtype))

    def _compiled(self, size, dtype):
        ov, core = import_openvino(), _core(os.getpid())
        if _CAPABILITIES[self._precision] not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError(
                f"precision={self._precision!r}: OpenVINO does not compute in it on this processor; "
                "use 'float32' or 'auto', or runtime='torch'"
            )
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _TYPES[self._precision],
            "INFERENCE_NUM_THREADS": self._n_threads,
        }
        model = _with_pixels(ov, _converted(ov, self._backbone, size).clone(), self._backbone.spec, dtype)
        return core.compile_model(model, "CPU", options)


def import_openvino():
    """Import OpenVINO, or say how to install it."""
    return import_optional_dependency("openvino", extra="cpu", purpose="runtime='openvino'")


def check_openvino(backbone: Backbone) -> None:
    """Convert a network, and compare what it gives for noise with what torch gives.

    Conversion follows one image through the network: where its Python code takes another turn for another image,
    the converted network does not.

    Raises
    ------
    BackboneError
        If the network cannot be converted, or gives something else.
    """
    views = Views([backbone.image_size])
    noise = torch.randint(
        0, 256, (1, 3, *backbone.image_size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    (maps,) = OpenVINONetwork(backbone, "float32", views).maps(noise)
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.spec.mean, backbone.spec.std))
    with torch.inference_mode():
        expected = backbone.module((noise / 255 - mean) / std)
    difference = (maps - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
    if not difference <= _TOLERANCE:
        raise BackboneError(
            f"backbone={backbone.spec.name!r} gives other feature maps when OpenVINO runs it (by {difference:.2g} of "
            "the largest value); use runtime='torch'"
        )


def _core(process_id):
    with _CORE_LOCK:
        return _make_core(process_id)


@functools.cache
def _make_core(process_id):
    return import_openvino().Core()


def _converted(ov, backbone, size):
    """Convert the folded network for images of one size; made once for all precisions, and kept with the backbone."""
    return backbone.once(("openvino model", os.getpid(), size), lambda: _convert(ov, backbone, size))


def _convert(ov, backbone, size):
    # For one size: padding may be worked out in Python.
    module = fold_batch_norm(backbone.module, backbone.image_size)
    example = torch.zeros(1, 3, *size)
    try:
        # torch says that it will do without TorchScript some day; OpenVINO reads it faster than an exported program.
        with quiet_thread(), torch.inference_mode():
            traced = torch.jit.trace(module, example, check_trace=False)
            return ov.convert_model(traced, example_input=example, input=[1, 3, *size])
    except Exception as error:
        raise BackboneError(
            f"backbone={backbone.spec.name!r} cannot be converted by OpenVINO ({type(error).__name__}: "
            f"{on_one_line(error, _LONGEST_REASON)}); use runtime='torch'"
        ) from error


def _with_pixels(ov, model, spec, dtype):
    """Let a network take images as they are, (1, height, width, 3) in [0, 255], and give maps with channels last."""
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type(dtype)).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    mean, std = ([255 * value for value in values] for values in (spec.mean, spec.std))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(mean).scale(std)
    steps.output().model().set_layout(ov.Layout("NCHW"))
    steps.output().tensor().set_layout(ov.Layout("NHWC")).set_element_type(ov.Type.f32)
    return steps.build()
