"""A cached run that is killed twenty times gives the same descriptors as one that is left alone.

    python benchmarks/kill.py

A process describes images with a cache and is killed (SIGKILL) a random time after it has begun; it is started again,
twenty times, and then left to finish. Its descriptors are compared bit for bit with those of an uninterrupted run with
another cache. What each process would measure for itself, precision and batch size, is taken from that first run.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _jpegs import write_jpegs
from _report import save, table

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._cache import open_store


def child(params, cache, paths, output):
    """Describe the images, telling the parent when it begins and when it is done."""
    featurizer = PSPNetFeaturizer(cache=cache, center=False, **params).fit()
    resolved = {name: getattr(featurizer, name + "_") for name in ("runtime", "precision", "batch_size")}
    print(json.dumps({"entries": len(open_store(cache)), "resolved": resolved}), flush=True)
    start = time.perf_counter()
    np.save(output, featurizer.transform(paths))
    print(json.dumps({"seconds": time.perf_counter() - start, "entries": len(open_store(cache))}), flush=True)


class Run:
    """A child process that has begun to describe the images."""

    def __init__(self, *job):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.process.stdin.write(json.dumps(job))
        self.process.stdin.close()
        self.begun = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the child ended with {self.process.wait()}")
        return json.loads(line)

    def finish(self):
        """Let it finish, and return what it says."""
        answer = self._answer()
        self.process.wait()
        return answer

    def kill_after(self, seconds):
        """Kill it, and return whether it was still running."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self.process.wait() == -signal.SIGKILL


def attack(job, delays, per_image):
    """Start, kill, and start again; yield a row for each attempt."""
    for i, delay in enumerate(delays):
        run = Run(*job)
        killed = run.kill_after(delay)
        yield [i + 1, round(run.begun["entries"] / per_image), float(delay), "yes" if killed else "it was done"]


def main():
    """Run, kill, compare, and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=1200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--runtime", choices=["auto", "torch", "openvino"], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="nothing is kept")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(*json.load(sys.stdin))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_jpegs(folder, args.n, 500, 375)
        job = [{"runtime": args.runtime}, str(folder / "whole"), paths, str(folder / "whole.npy")]
        first = Run(*job)
        params, whole = first.begun["resolved"], first.finish()
        # Some are killed while the network is still being made, some in the middle, some when nothing is left to do.
        delays = np.random.default_rng(args.seed).uniform(0, whole["seconds"] / 2, args.kills)
        job = [params, str(folder / "killed"), paths, str(folder / "killed.npy")]
        rows = list(attack(job, delays, whole["entries"] / args.n))
        last = Run(*job)
        found = round(last.begun["entries"] / (whole["entries"] / args.n))
        last.finish()
        expected, got = np.load(folder / "whole.npy"), np.load(folder / "killed.npy")
    rows.append([len(rows) + 1, found, "", "no"])
    equal = expected.shape == got.shape and expected.tobytes() == got.tobytes()
    print(f"{args.n} images, {params}: uninterrupted in {whole['seconds']:.1f} s\n")
    print(table(["attempt", "images found in the cache", "killed after s", "killed"], rows) + "\n")
    n_killed = sum(row[3] == "yes" for row in rows)
    different = int((expected != got).any(axis=1).sum())
    print(f"killed {n_killed} times; the descriptors are {'equal bit for bit' if equal else 'NOT EQUAL'}", end="")
    print("" if equal else f": {different} images differ, by at most {np.abs(expected - got).max():.1e}")
    if not args.quick:
        save("kill", {"params": params, "n_images": args.n, "whole_s": whole["seconds"], "rows": rows, "equal": equal})
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
