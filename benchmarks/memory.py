"""Memory while a hundred thousand JPEG files are described.

    python benchmarks/memory.py
    python benchmarks/memory.py --n 20000 --cache

The files are copies of a few small images (160 x 120, about 10 kB), each with bytes of its own after the end of its
JPEG: different content for whoever looks at the bytes. Resident memory is sampled every half second by a thread;
printed is its growth above what the process holds when everything is imported and the paths are listed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import threading
import time

import numpy as np
import psutil
from _jpegs import write_copies
from _report import save
from tqdm import tqdm

from sklearn_psp import PSPNetFeaturizer

_MB = 2**20
_POINTS = 20


def resident():
    """Return the resident memory of this process in MB."""
    return psutil.Process().memory_info().rss / _MB


def images_done():
    """Return how far the progress bar of the featurizer is."""
    return max((int(bar.n) for bar in list(tqdm._instances)), default=0)


class Sampler(threading.Thread):
    """Note time, images done and resident memory, every half second until stopped."""

    def __init__(self, interval=0.5):
        super().__init__(daemon=True)
        self.interval = interval
        self.samples = []
        self._stopped = threading.Event()
        self._start_time = time.perf_counter()

    def run(self):
        """Sample."""
        while not self._stopped.wait(self.interval):
            self.samples.append((time.perf_counter() - self._start_time, images_done(), resident()))

    def stop(self):
        """End the thread, and take one last sample."""
        self._stopped.set()
        self.join()
        self.samples.append((time.perf_counter() - self._start_time, images_done(), resident()))


def curve(samples, baseline, n):
    """Draw images done against MB above the import, as text."""
    points = [samples[i] for i in np.linspace(0, len(samples) - 1, min(_POINTS, len(samples))).astype(int)]
    # The bar is gone with the last sample, when all images are done.
    done = [*np.maximum.accumulate([done for _, done, _ in points[:-1]]).tolist(), n]
    above = [megabytes - baseline for _, _, megabytes in points]
    unit = max(max(above), 1) / 60
    lines = [f"{d:>9,}  {a:>8.0f}  {'#' * max(0, round(a / unit))}" for d, a in zip(done, above, strict=True)]
    return "\n".join([f"{'images':>9}  {'MB':>8}", *lines])


def describe(paths, cache, runtime):
    """Describe the files under the eyes of the sampler; return the samples, the result's size in MB, and it."""
    params = {} if cache is None else {"cache": cache}
    sampler = Sampler()
    sampler.start()
    # The bar is only there to be read from; what it draws goes nowhere.
    with contextlib.redirect_stderr(io.StringIO()):
        featurizer = PSPNetFeaturizer(center=False, runtime=runtime, verbose=1, **params).fit()
        features = featurizer.transform(paths)
    sampler.stop()
    return sampler.samples, features.nbytes / _MB, featurizer


def main():
    """Write the files, describe them, print the curve, and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--cache", action="store_true", help="describe with a cache directory, empty at first")
    parser.add_argument("--runtime", choices=["auto", "torch", "openvino"], default="auto")
    parser.add_argument("--quick", action="store_true", help="nothing is kept")
    args = parser.parse_args()
    light = resident()
    import sklearn_psp._nets  # noqa: F401  (torch is imported by the first fit otherwise)

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        paths = write_copies(folder, args.n)
        baseline = resident()
        samples, size, featurizer = describe(paths, cache if args.cache else None, args.runtime)
    peak = max(megabytes for _, _, megabytes in samples)
    seconds = samples[-1][0]
    settings = f"{featurizer.runtime_}, {featurizer.precision_}, batch {featurizer.batch_size_}"
    cached = "with a cache" if args.cache else "without a cache"
    print(f"{args.n:,} images in {seconds:.0f} s ({args.n / seconds:.0f} a second), {cached}, {settings}\n")
    print(curve(samples, baseline, args.n) + "\n")
    print(f"peak above the import {peak - baseline:.0f} MB, of which the result itself is {size:.0f} MB; ", end="")
    print(f"the import is {baseline:.0f} MB ({light:.0f} MB before torch)")
    if not args.quick:
        payload = {
            "n_images": args.n,
            "cache": args.cache,
            "runtime": featurizer.runtime_,
            "precision": featurizer.precision_,
            "before_torch_mb": light,
            "import_mb": baseline,
            "peak_above_import_mb": peak - baseline,
            "result_mb": size,
            "samples": [[round(t, 2), done, round(megabytes, 1)] for t, done, megabytes in samples],
        }
        save(f"memory_{args.n}{'_cache' if args.cache else ''}", payload)


if __name__ == "__main__":
    main()
