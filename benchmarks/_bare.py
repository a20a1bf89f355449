"""The network and nothing else: what a featurizer can at best be as fast as.

Both take a uint8 batch in memory; normalisation and global average pooling are included. Neither uses the package's
own way through its runtimes: each is written straight on torch or OpenVINO, and tuned by measurement.
"""

from __future__ import annotations

import copy
import itertools
import time
import warnings

import numpy as np
import openvino as ov
import openvino.properties as properties
import openvino.properties.hint as hints
import torch
from openvino.preprocess import PrePostProcessor
from torch import nn

from sklearn_psp._nets import BackboneRequest, load_backbone
from sklearn_psp._nets._networks import prepared
from sklearn_psp._nets._plan import one_core_threads

CPU = torch.device("cpu")
CPU_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def default_backbone(size):
    """Load the default network for square images of a size."""
    return load_backbone(BackboneRequest("efficientnet_lite0", "default", None, (size, size)))


class _Bare:
    """Tuning: the settings of a network are tried one after the other, and the fastest is kept."""

    setting = None

    def settings(self, quick):
        """Return the settings to try."""
        raise NotImplementedError

    def use(self, setting):
        """Take a setting."""
        raise NotImplementedError

    def tune(self, images, quick=False):
        """Find the best setting: the best of two passes over the images; return images per second of each."""
        speeds = {}
        for setting in self.settings(quick):
            self.use(setting)
            self(images)
            seconds = []
            for _ in range(2):
                start = time.perf_counter()
                self(images)
                seconds.append(time.perf_counter() - start)
            speeds[setting] = len(images) / min(seconds)
        self.use(max(speeds, key=speeds.get))
        return {" ".join(map(str, setting)): speed for setting, speed in speeds.items()}

    @property
    def batch_size(self):
        """Images per batch."""
        return self.setting[1]


class TorchBare(_Bare):
    """The folded network in torch; a setting is (memory format, batch size, number of batches side by side).

    A batch runs on all cores, or as many as there are cores run side by side, each in a thread with one core.
    """

    def __init__(self, backbone, precision, device=CPU, batch_sizes=CPU_BATCH_SIZES):
        self.module = copy.deepcopy(prepared(backbone, device, precision)).eval()
        self.precision, self.device, self.batch_sizes = precision, device, batch_sizes
        self.executor = one_core_threads(torch.get_num_threads())
        mean, std = backbone.spec.mean, backbone.spec.std
        if len({*mean}) == len({*std}) == 1:  # numbers instead of a broadcast, which takes many times as long on a CPU
            self.shift, self.divisor = 255 * mean[0], 255 * std[0]
        else:
            self.shift, self.divisor = (255 * torch.tensor(v, device=device).view(3, 1, 1) for v in (mean, std))

    def settings(self, quick):
        """Return all memory formats, batch sizes and ways to use the cores; if quick, few."""
        formats, sizes = (["channels_last"], (4, 8)) if quick else (_FORMATS, self.batch_sizes)
        side_by_side = {1, torch.get_num_threads()} if self.device.type == "cpu" else {1}
        return itertools.product(formats, sizes, sorted(side_by_side))

    def use(self, setting):
        """Take a memory format, a batch size and a number of batches side by side."""
        self.setting = setting
        self.module.to(memory_format=_FORMATS[setting[0]])

    def maps(self, images):
        """Return the feature maps of one batch, an array or a tensor."""
        batch = torch.as_tensor(images).to(self.device).permute(0, 3, 1, 2)
        batch = batch.to(torch.float32, memory_format=_FORMATS[self.setting[0]]).sub_(self.shift).div_(self.divisor)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision != "float32"):
            return self.module(batch)

    @torch.inference_mode()
    def features(self, images):
        """Return the pooled feature maps of one batch."""
        return self.maps(images).float().mean((2, 3))

    def __call__(self, images):
        batches = (images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size))
        run = self.executor.map if self.setting[2] > 1 else map
        return torch.cat([*run(self.features, batches)]).cpu().numpy()


class _Pooled(nn.Module):
    """A network and global average pooling."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        """Return the mean of the feature maps."""
        return self.network(x).mean((2, 3))


class OpenVINOBare(_Bare):
    """The network in OpenVINO, by its queue of asynchronous requests; a setting is (who normalises, batch size).

    Normalisation is part of the graph, which then takes uint8 images as they lie in memory, or done by numpy.
    """

    batch_sizes = (1, 2, 4, 8, 16)

    def __init__(self, backbone, precision, size):
        self.backbone, self.size = backbone, size
        self.core = ov.Core()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = ov.convert_model(_Pooled(backbone.module).eval(), example_input=torch.zeros(1, 3, size, size))
        self.config = {
            hints.performance_mode: hints.PerformanceMode.THROUGHPUT,
            hints.inference_precision: ov.Type.bf16 if precision == "bfloat16" else ov.Type.f32,
            properties.inference_num_threads: torch.get_num_threads(),
        }

    def settings(self, quick):
        """Return both places of normalisation and all batch sizes; if quick, two settings."""
        return itertools.product(["graph"] if quick else ["graph", "numpy"], (1, 4) if quick else self.batch_sizes)

    def use(self, setting):
        """Compile for a setting."""
        self.setting = where, batch_size = setting
        model = self.model.clone()
        model.reshape([batch_size, 3, self.size, self.size])
        if where == "graph":
            model = self._with_normalisation(model)
        self.queue = ov.AsyncInferQueue(self.core.compile_model(model, "CPU", self.config))
        self.queue.set_callback(self._keep)

    def _with_normalisation(self, model):
        spec, processor = self.backbone.spec, PrePostProcessor(model)
        image = processor.input()
        image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        image.model().set_layout(ov.Layout("NCHW"))
        steps = image.preprocess().convert_element_type(ov.Type.f32)
        steps.mean([255 * m for m in spec.mean]).scale([255 * s for s in spec.std])
        return processor.build()

    def _normalised(self, batch):
        """Normalise in numpy; the three channels are all alike in the default network."""
        (mean,), (std,) = {*self.backbone.spec.mean}, {*self.backbone.spec.std}
        batch = np.multiply(batch, np.float32(1 / (255 * std)), dtype=np.float32)
        batch -= np.float32(mean / std)
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))

    def _keep(self, request, start):
        self.features[start : start + self.batch_size] = request.get_output_tensor().data

    def __call__(self, images):
        if len(images) % self.batch_size:
            raise ValueError(f"{len(images)} images are no multiple of the batch size {self.batch_size}")
        self.features = np.empty((len(images), self.backbone.n_channels), dtype=np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            if self.setting[0] == "numpy":
                # Copied into the request: the array is gone before the request is done.
                self.queue.start_async(self._normalised(batch), start)
            else:
                self.queue.start_async(batch, start, share_inputs=True)
        self.queue.wait_all()
        return self.features
