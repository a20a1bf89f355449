"""Pictures per second, from arrays and from JPEG files, beside the bare network.

    python benchmarks/throughput.py

The bare network is the same network (folded), runtime and precision, from a uint8 batch in memory, normalisation and
global average pooling included, at its own best of the batch sizes 1 to 64 and of the two memory formats. All
contestants run once per round, in one process; printed are medians over rounds, and medians of the rounds' ratios.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _report import interleave, median_ratio, save, table
from PIL import Image
from sklearn.datasets import load_sample_images

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._images import read_batches
from sklearn_psp._nets import BackboneRequest, load_backbone
from sklearn_psp._nets._precision import autocast, prepared

_N = 128
_ROUNDS = 5
_CPU = torch.device("cpu")
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class Bare:
    """The network and nothing else."""

    def __init__(self, precision, size):
        backbone = load_backbone(BackboneRequest("efficientnet_lite0", "default", None, (size, size)))
        self.module = copy.deepcopy(prepared(backbone, _CPU, precision))
        self.precision = precision
        self.use("channels_last", 8)

    def use(self, memory_format, batch_size):
        """Set memory format and batch size."""
        self.format, self.batch_size = memory_format, batch_size
        self.module.to(memory_format=_FORMATS[memory_format])

    def tune(self, pictures):
        """Find the best batch size and memory format: the best of two passes over 64 pictures."""
        speeds = {}
        for setting in itertools.product(_FORMATS, (1, 2, 4, 8, 16, 32, 64)):
            self.use(*setting)
            self(pictures[:64])
            seconds = []
            for _ in range(2):
                start = time.perf_counter()
                self(pictures[:64])
                seconds.append(time.perf_counter() - start)
            speeds[setting] = 64 / min(seconds)
        self.use(*max(speeds, key=speeds.get))
        return {f"{f} {b}": s for (f, b), s in speeds.items()}

    @torch.inference_mode()
    def __call__(self, pictures):
        features = []
        for i in range(0, len(pictures), self.batch_size):
            batch = torch.from_numpy(pictures[i : i + self.batch_size]).permute(0, 3, 1, 2)
            batch = batch.to(torch.float32, memory_format=_FORMATS[self.format]).div_(127.5).sub_(1)
            with autocast(_CPU, self.precision):
                features.append(self.module(batch).float().mean((2, 3)))
        return torch.cat(features).numpy()


def write_jpegs(folder, width, height):
    """Write crops of scikit-learn's two photographs, each of them different."""
    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    paths = []
    for i in range(_N):
        picture = Image.fromarray(photographs[i % 2])
        left, top = rng.integers(0, 80, 2)
        crop = picture.crop((left, top, left + 560, top + 347)).resize((width, height), Image.Resampling.BICUBIC)
        paths.append(str(folder / f"{width}_{i}.jpg"))
        crop.save(paths[-1], quality=90)
    return paths


def decode(paths, size):
    """Read the files and do nothing with them."""
    for _ in read_batches(paths, batch_size=8, image_size=(size, size)):
        pass


def import_seconds(statement):
    """Return the seconds a fresh interpreter takes for a statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def featurize(precision, folder):
    """Race ours against the bare network in one precision."""
    rng = np.random.default_rng(0)
    arrays = {size: rng.integers(0, 256, (_N, size, size, 3), dtype=np.uint8) for size in (176, 224, 256)}
    bare = {size: Bare(precision, size) for size in arrays}
    sweeps = {size: b.tune(arrays[size]) for size, b in bare.items()}
    one = PSPNetFeaturizer(scales=(1.0,), precision=precision, center=False).fit()
    two = PSPNetFeaturizer(precision=precision, center=False).fit()
    small, large = write_jpegs(folder, 500, 375), write_jpegs(folder, 1600, 1200)
    contestants = {
        "bare network, 224": lambda: bare[224](arrays[224]),
        "ours, one scale, arrays": lambda: one.transform(arrays[224]),
        "ours, one scale, JPEG 500x375": lambda: one.transform(small),
        "ours, one scale, JPEG 1600x1200": lambda: one.transform(large),
        "reading alone, JPEG 500x375": lambda: decode(small, 224),
        "reading alone, JPEG 1600x1200": lambda: decode(large, 224),
        "bare network, 176 and 256": lambda: (bare[176](arrays[176]), bare[256](arrays[256])),
        "ours, default, arrays": lambda: two.transform(arrays[256]),
        "ours, default, JPEG 500x375": lambda: two.transform(small),
    }
    seconds = interleave(contestants, _ROUNDS)
    rows = []
    for name, values in seconds.items():
        base = "bare network, 176 and 256" if "default" in name or "176" in name else "bare network, 224"
        rows.append([name, round(_N / statistics.median(values)), median_ratio(values, seconds[base])])
    best = {size: f"{b.format}, batch {b.batch_size}" for size, b in bare.items()}
    print(f"\nefficientnet_lite0, {precision}, {torch.get_num_threads()} threads")
    print(f"bare network at its best: {best}; ours chose batch {one.batch_size_}\n")
    print(table(["", "pictures/s", "ratio to the bare network"], rows), flush=True)
    return {"seconds": seconds, "sweep": sweeps, "bare_best": best, "batch_size": one.batch_size_}


def imports():
    """Race the import of the package, without torch, against scikit-learn's own."""
    ours = "from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer"
    theirs = "from sklearn.neighbors import NearestNeighbors"
    seconds = interleave({s: lambda s=s: import_seconds(s) for s in (theirs, ours)}, _ROUNDS)
    rows = [[f"`{s}`", statistics.median(v), 1 / median_ratio(v, seconds[theirs])] for s, v in seconds.items()]
    print("\n" + table(["fresh process", "seconds", "ratio"], rows), flush=True)
    return seconds


def main():
    """Run the races and keep the numbers."""
    results = {"imports": imports()}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("bfloat16", "float32"):
            results[precision] = featurize(precision, Path(folder))
    save("throughput", results)


if __name__ == "__main__":
    main()
