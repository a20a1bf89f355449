"""Images per second, from arrays and from JPEG files, beside the bare network and what people do without us.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --device cuda

The bare network is the same network, runtime and precision, from a uint8 batch in memory, normalisation and global
average pooling included, at its own best settings (`_bare.py`): in torch folded, of the batch sizes 1 to 64, the two
memory formats, and one batch on all cores or one on each; in OpenVINO by its asynchronous queue, of the batch sizes 1
to 16. The peers (`_peers.py`) run the same weights in float32. All contestants run once per round, in one process;
printed are medians over rounds, and medians of the rounds' ratios, beside the targets. On a GPU (`_gpu.py`) the measure
is the card's own rate of matrix products.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch
from _bare import OpenVINOBare, TorchBare, default_backbone
from _jpegs import write_jpegs
from _peers import make_peers
from _report import interleave, median_ratio, save, table

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._images import read_batches
from sklearn_psp._nets import PyramidPooling
from sklearn_psp._nets._plan import one_core_threads

_RUNTIMES = ("torch", "openvino")
_PRECISIONS = ("bfloat16", "float32")
_SMALL, _LARGE = "JPEG 500x375", "JPEG 1600x1200"
# The default scales of 224 pixels
_TWO_SCALES = (176, 256)


class Name(NamedTuple):
    """A contestant; runtime and precision are empty where they play no role."""

    what: str
    runtime: str = ""
    precision: str = ""


class Target(NamedTuple):
    """A ratio, and the least (or with `at_most` the largest) that it should be; None where it is only stated."""

    text: str
    ratio: float
    bound: float | None
    at_most: bool = False

    def __str__(self):
        if self.bound is None:
            return f"{self.text}: {self.ratio:.3f}"
        met = self.ratio <= self.bound if self.at_most else self.ratio >= self.bound
        sign, verdict = "<=" if self.at_most else ">=", "met" if met else "NOT MET"
        return f"{self.text}: {self.ratio:.3f}, {sign} {self.bound:g} {verdict}"


def decode(paths, size):
    """Read the files and do nothing with them."""
    for _ in read_batches(paths, batch_size=8, image_size=(size, size)):
        pass


def import_seconds(statement):
    """Return the seconds a fresh interpreter takes for a statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def imports(rounds):
    """Race the import of the package, without torch, against scikit-learn's own."""
    ours = "from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer"
    theirs = "from sklearn.neighbors import NearestNeighbors"
    seconds = interleave({s: lambda s=s: import_seconds(s) for s in (theirs, ours)}, rounds)
    rows = [[f"`{s}`", statistics.median(v), 1 / median_ratio(v, seconds[theirs])] for s, v in seconds.items()]
    print("\n" + table(["fresh process", "seconds", "ratio"], rows), flush=True)
    return seconds


class Pooling:
    """The featurizer's pooling on feature maps that are there already, batch after batch, a thread on each core."""

    def __init__(self, maps, n):
        self.pool, self.maps = PyramidPooling(), maps
        self.n_batches = -(-n // len(maps))
        self.executor = one_core_threads(torch.get_num_threads())

    @torch.inference_mode()
    def _pool(self, _):
        self.pool(self.maps)

    def __call__(self):
        list(self.executor.map(self._pool, range(self.n_batches)))


def _maps(backbone, runtime, precision, images):
    """Return feature maps as the runtimes leave them: channels last, OpenVINO's in float32."""
    network = TorchBare(backbone, precision if runtime == "torch" else "float32")
    network.use(("channels_last", len(images), 1))
    with torch.inference_mode():
        return network.maps(images).contiguous(memory_format=torch.channels_last)


def lane(runtime, precision, images, files, quick):
    """Make the contestants of one runtime and precision; return them and what was found out on the way."""
    backbones = {size: default_backbone(size) for size in images}
    if runtime == "torch":
        bare = {size: TorchBare(backbone, precision) for size, backbone in backbones.items()}
    else:
        bare = {size: OpenVINOBare(backbone, precision, size) for size, backbone in backbones.items()}
    sweeps = {size: b.tune(images[size][:64], quick) for size, b in bare.items()}
    common = {"runtime": runtime, "precision": precision, "center": False}
    one = PSPNetFeaturizer(scales=(1.0,), **common).fit()
    two = PSPNetFeaturizer(**common).fit()
    maps = _maps(backbones[224], runtime, precision, images[224][: one.batch_size_])
    contestants = {
        "bare network, 224": lambda: bare[224](images[224]),
        "ours, one scale, arrays": lambda: one.transform(images[224]),
        f"ours, one scale, {_SMALL}": lambda: one.transform(files[_SMALL]),
        f"ours, one scale, {_LARGE}": lambda: one.transform(files[_LARGE]),
        "pooling alone": Pooling(maps, len(images[224])),
        "bare network, 176 and 256": lambda: [bare[size](images[size]) for size in _TWO_SCALES],
        "ours, default, arrays": lambda: two.transform(images[256]),
        f"ours, default, {_SMALL}": lambda: two.transform(files[_SMALL]),
    }
    found = {
        "bare_best": {size: " ".join(map(str, b.setting)) for size, b in bare.items()},
        "batch_size": [one.batch_size_, two.batch_size_],
        "sweep": sweeps,
    }
    print(
        f"{runtime}, {precision}: bare at its best: {found['bare_best']}; ours chose batch {one.batch_size_}",
        flush=True,
    )
    return {Name(what, runtime, precision): run for what, run in contestants.items()}, found


def files_only(files):
    """Make the contestants that read files without us, and reading by itself."""
    contestants, peers = {}, make_peers()
    for kind, paths in files.items():
        contestants[Name(f"reading alone, {kind}")] = lambda paths=paths: decode(paths, 224)
        for name, peer in peers.items():
            contestants[Name(f"{name}, {kind}", "torch", "float32")] = lambda peer=peer, paths=paths: peer(paths)
    return contestants


def base_of(name):
    """Return the bare network that a contestant is compared with, or None."""
    if not name.runtime:
        return None
    two = "default" in name.what or "176" in name.what
    return name._replace(what="bare network, 176 and 256" if two else "bare network, 224")


def rows_of(seconds, n):
    """Lay out the one table."""
    rows = []
    for name, values in seconds.items():
        base = base_of(name)
        ratio = "" if base is None else median_ratio(values, seconds[base])
        rows.append([*name, round(n / statistics.median(values)), ratio])
    return rows


def _fastest(seconds, what):
    """Return the seconds of the fastest contestant whose name begins so and ends with the kind of file."""
    start, end = what
    found = [v for name, v in seconds.items() if name.what.startswith(start) and name.what.endswith(end)]
    return min(found, key=statistics.median)


def lane_targets(seconds, runtime, precision):
    """Compare ours with the bare network, with reading, and pooling with the network."""

    def of(what):
        return seconds[Name(what, runtime, precision)]

    bare, label = of("bare network, 224"), f"{runtime} {precision}"
    arrays = median_ratio(of("ours, one scale, arrays"), bare)
    yield Target(f"{label}: arrays / bare network", arrays, 0.97 if runtime == "torch" else None)
    yield Target(
        f"{label}: default, arrays / bare network",
        median_ratio(of("ours, default, arrays"), of("bare network, 176 and 256")),
        None,
    )
    for kind in (_SMALL, _LARGE):
        ours, alone = (
            of(f"ours, one scale, {kind}"),
            list(zip(seconds[Name(f"reading alone, {kind}")], bare, strict=True)),
        )
        slower = median_ratio(ours, [max(pair) for pair in alone])
        yield Target(f"{label}: {kind} / the slower of reading alone and network alone", slower, 0.9)
        # Both use all cores: where reading takes as long as the network, no more than half of the above is possible.
        both = median_ratio(ours, [sum(pair) for pair in alone])
        yield Target(f"{label}: {kind} / reading and then the network", both, None)
    yield Target(f"{label}: pooling / network, time", median_ratio(bare, of("pooling alone")), 0.03, at_most=True)


def runtime_targets(seconds):
    """Compare OpenVINO with torch."""
    for precision, bound in (("bfloat16", 2.2), ("float32", 1.9)):
        for what, least in (("ours, one scale, arrays", bound), ("bare network, 224", None)):
            torchs, openvinos = (seconds[Name(what, runtime, precision)] for runtime in ("torch", "openvino"))
            yield Target(f"{precision}: {what}: openvino / torch", median_ratio(openvinos, torchs), least)


def peer_targets(seconds, runtime):
    """Compare ours, in the faster precision, with the peers, at their faster settings."""
    bounds = {"tutorial loop": True, "embetter": True, "timm, DataLoader": False, "img2vec": False}
    for kind, (peer, held) in itertools.product((_SMALL, _LARGE), bounds.items()):
        ours = [seconds[Name(f"ours, one scale, {kind}", runtime, precision)] for precision in _PRECISIONS]
        ratio = median_ratio(min(ours, key=statistics.median), _fastest(seconds, (peer, kind)))
        least = {"torch": 2.0, "openvino": 4.0}[runtime]
        yield Target(f"{kind}: ours with {runtime} / {peer}", ratio, least if held else None)


def targets_of(seconds, runtimes):
    """Return all targets that these runtimes allow to state."""
    targets = [t for lane in itertools.product(runtimes, _PRECISIONS) for t in lane_targets(seconds, *lane)]
    if len(runtimes) == 2:
        targets += runtime_targets(seconds)
    return [*targets, *(t for runtime in runtimes for t in peer_targets(seconds, runtime))]


def race(folder, runtimes, n, rounds, quick):
    """Run everything on the CPU, print the table and the targets, and return the numbers."""
    rng = np.random.default_rng(0)
    images = {size: rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8) for size in (224, *_TWO_SCALES)}
    files = {_SMALL: write_jpegs(folder, n, 500, 375), _LARGE: write_jpegs(folder, n, 1600, 1200)}
    contestants, found = {}, {}
    print(f"efficientnet_lite0 at 224, {torch.get_num_threads()} threads, {n} images, {rounds} rounds")
    for runtime, precision in itertools.product(runtimes, _PRECISIONS):
        runs, found[f"{runtime} {precision}"] = lane(runtime, precision, images, files, quick)
        contestants |= runs
    seconds = interleave(contestants | files_only(files), rounds)
    targets = targets_of(seconds, runtimes)
    header = ["contestant", "runtime", "precision", "images/s", "ratio to its bare network"]
    print("\n" + table(header, rows_of(seconds, n)) + "\n", *targets, sep="\n", flush=True)
    return {
        "libraries": {name: version(name) for name in ("openvino", "embetter", "img2vec_pytorch")},
        "n_images": n,
        "n_threads": torch.get_num_threads(),
        "seconds": {" | ".join(filter(None, name)): values for name, values in seconds.items()},
        "targets": [target._asdict() for target in targets],
        "found": found,
    }


def main():
    """Run the races and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--runtimes", nargs="+", choices=_RUNTIMES, default=_RUNTIMES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few images, one round; nothing is kept")
    args = parser.parse_args()
    n, rounds = (16, 1) if args.quick else (128, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        if args.device == "cuda":
            from _gpu import race as race_on_gpu

            results = race_on_gpu(folder, rounds, args.quick)
        else:
            results = {"imports": imports(rounds), **race(folder, args.runtimes, n, rounds, args.quick)}
    if not args.quick:
        save("throughput" if args.device == "cpu" else "throughput_cuda", results)


if __name__ == "__main__":
    main()
