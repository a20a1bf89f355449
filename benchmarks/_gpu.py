"""Throughput on a GPU, beside the bare network and the card's own rate of matrix products."""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from _bare import TorchBare
from _jpegs import write_jpegs
from _report import interleave, median_ratio, table
from torch.utils.flop_counter import FlopCounterMode

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._nets import BackboneRequest, load_backbone

_BACKBONES = {"resnet50": (None, 0), "efficientnet_lite0": ("default", None)}  # weights and seed
_DEVICE = torch.device("cuda")
_BATCH_SIZES = (32, 64, 128, 256, 512)
_MATRIX = 8192


def matrix_rate(n=_MATRIX, repeats=50):
    """Return the operations per second of a bfloat16 product of two n x n matrices, the best of five measurements."""
    a, b = (torch.randn(n, n, device=_DEVICE, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for i in range(6):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            a @ b
        torch.cuda.synchronize()
        if i:
            rates.append(2 * n**3 * repeats / (time.perf_counter() - start))
    return max(rates)


def operations(backbone):
    """Count the operations of the network for one image: two for each multiplication and addition."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.module(torch.zeros(1, 3, 224, 224))
    return counter.get_total_flops()


class OnCard:
    """The bare network on images that lie in the card's memory."""

    def __init__(self, bare, images):
        self.bare, self.images = bare, torch.from_numpy(images).to(_DEVICE)

    def __call__(self):
        return self.bare(self.images)


def race(folder, rounds, quick):
    """Run both networks, print the tables, and return the numbers."""
    if not torch.cuda.is_available():
        print(
            "--device cuda: torch finds no CUDA device here; run it on a machine with an NVIDIA GPU and torch for CUDA"
        )
        sys.exit(1)
    n, n_files = (256, 64) if quick else (4096, 1024)
    card, rate = torch.cuda.get_device_name(), matrix_rate()
    print(f"{card}: {rate / 1e12:.0f} TFLOP/s in a bfloat16 product of {_MATRIX} x {_MATRIX} matrices", flush=True)
    images = np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)
    files = write_jpegs(folder, n_files, 500, 375)
    networks = {name: _race_one(name, images, files, rate, rounds) for name in _BACKBONES}
    return {"card": card, "matrix_rate": rate, "networks": networks}


def _race_one(name, images, files, rate, rounds):
    weights, seed = _BACKBONES[name]
    backbone = load_backbone(BackboneRequest(name, weights, None, (224, 224), seed))
    bare = TorchBare(backbone, "bfloat16", _DEVICE, _BATCH_SIZES)
    sweep = bare.tune(images[:1024])
    featurizer = PSPNetFeaturizer(
        name,
        weights=weights,
        random_state=seed,
        device=str(_DEVICE),
        runtime="torch",
        precision="bfloat16",
        scales=(1.0,),
        center=False,
    ).fit()
    runs = {
        "bare network, images on the card": (len(images), OnCard(bare, images)),
        "bare network, images in memory": (len(images), lambda: bare(images)),
        "ours, arrays": (len(images), lambda: featurizer.transform(images)),
        "ours, JPEG 500x375": (len(files), lambda: featurizer.transform(files)),
    }
    seconds = interleave({what: run for what, (_, run) in runs.items()}, rounds)
    each = {what: [s / runs[what][0] for s in values] for what, values in seconds.items()}
    base, count = each["bare network, images in memory"], operations(backbone)
    rows = []
    for what, values in each.items():
        speed = 1 / float(np.median(values))
        rows.append([what, round(speed), median_ratio(values, base), speed * count / rate])
    print(f"\n{name}, bfloat16, {count / 1e9:.2f} GFLOP an image; bare at its best: {bare.setting}; ", end="")
    print(f"ours: batch {featurizer.batch_size_}\n")
    print(table(["contestant", "images/s", "ratio to the bare network", "share of the matrix rate"], rows), flush=True)
    return {"seconds": seconds, "sweep": sweep, "operations": count, "batch_size": featurizer.batch_size_}
