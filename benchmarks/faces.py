"""The face network: faces per second beside dlib's own, and how far apart the descriptors are.

    python benchmarks/faces.py
    python benchmarks/faces.py --faces 12 --rounds 2 --threads 1    # a try

Both get the same aligned chips of 150 x 150 pixels in memory, cut out by dlib from the images of face_pairs and 50 of
orl_faces: finding and aligning faces is not in the times. dlib runs one by one, as `face_recognition` does, and handed
a list. Ours is `PSPNetFeaturizer(backbone="dlib_face", bin_sizes=(1,), pooling="avg", center=False, normalize=False)`,
one by one and in one call, in every runtime and precision. Each number of threads has a process of its own, on as many
cores; in it all contestants run once per round, and printed are medians over rounds, and medians of the rounds' ratios
to dlib one by one. Differences are the largest of any number of a descriptor, over all chips. Two kinds of decisions
are counted that are others than with dlib's descriptors: those of the 300 labelled pairs of face_pairs, at the
threshold that `FaceVerifier` learns from them and dlib's descriptors, which say whether a precision "keeps the
decisions"; and those of all pairs of chips at 0.6, the threshold that dlib's author gives.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import dlib
import numpy as np
import pandas as pd
from _report import interleave, median_ratio, save, table
from _sets import DATA
from PIL import Image

from sklearn_psp import FaceAligner, FaceVerifier, PSPNetFeaturizer
from sklearn_psp._nets._packaged import PACKAGED
from sklearn_psp._nets._weights import packaged_file
from sklearn_psp.exceptions import DeviceError
from sklearn_psp.utils._libraries import is_installed

_SPEC = PACKAGED["dlib_face"]
_THRESHOLD = 0.6
_CLOSE = 1e-4
_SETS = ("face_pairs/*.jpg", "orl_faces/s*/1.pgm", "orl_faces/s?/2.pgm", "orl_faces/s10/2.pgm")
_DLIB = "dlib, one by one"
# Of faces per second, in two threads: the least ratio to dlib one by one.
_TARGETS = {"float32": 20, "the fastest": 40}


def cut_chips(n):
    """Return the aligned faces of the sets, up to n of them, or leave with a message where there are none."""
    paths = [path for pattern in _SETS for path in sorted(DATA.glob(pattern))]
    if not paths:
        print("skipped: ../shared/data is absent (face_pairs, orl_faces)")
        sys.exit(0)
    five_points = dlib.shape_predictor(str(packaged_file(_SPEC.package, "models/shape_predictor_5_face_landmarks.dat")))
    detector, chips = dlib.get_frontal_face_detector(), []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.ascontiguousarray(image.convert("RGB"))
        chips += [dlib.get_face_chip(pixels, five_points(pixels, box), size=150) for box in detector(pixels, 1)]
        if n is not None and len(chips) >= n:
            break
    return np.stack(chips[:n])


def labelled_pairs():
    """Return the chips of face_pairs, one a photograph, the pairs as places among them, and which are of one person."""
    photographs = sorted((DATA / "face_pairs").glob("*.jpg"))
    table = pd.read_csv(DATA / "face_pairs" / "master.csv")
    place = {path.name: i for i, path in enumerate(photographs)}
    pairs = np.column_stack([table[f"file_{side}"].map(place) for side in "xy"])
    return {
        "photographs": FaceAligner().transform(photographs),
        "pairs": pairs,
        "same": (table["Decision"] == "Yes").to_numpy(),
    }


def featurizers():
    """Return fitted featurizers by their names; those this machine cannot run are left out."""
    made = {}
    for runtime in ("torch", "openvino"):
        if runtime == "openvino" and not is_installed("openvino"):
            continue
        for precision in ("float32", "bfloat16"):
            featurizer = PSPNetFeaturizer(
                "dlib_face",
                bin_sizes=(1,),
                pooling="avg",
                center=False,
                normalize=False,
                device="cpu",
                runtime=runtime,
                precision=precision,
            )
            try:
                made[f"{runtime}, {precision}"] = featurizer.fit()
            except DeviceError as error:
                print(f"left out: {error}", flush=True)
    return made


def agreement(rows, expected):
    """Compare descriptors with dlib's: the largest difference, and how many pairs are decided otherwise."""
    ours, theirs = (_are_near(descriptors) for descriptors in (rows, expected))
    return {
        "largest difference": float(np.abs(rows - expected).max()),
        "pairs": len(theirs),
        "pairs decided otherwise": int((ours != theirs).sum()),
    }


def _are_near(descriptors):
    i, j = np.triu_indices(len(descriptors), 1)
    descriptors = descriptors.astype(np.float64)
    return np.linalg.norm(descriptors[i] - descriptors[j], axis=1) < _THRESHOLD


def race(chips, labelled, n_timed, rounds):
    """Run all contestants in this process, and return seconds and agreement."""
    network = dlib.face_recognition_model_v1(str(packaged_file(_SPEC.package, _SPEC.file)))
    expected, of_photographs = (
        np.array([network.compute_face_descriptor(chip) for chip in some]) for some in (chips, labelled["photographs"])
    )
    pairs, same = labelled["pairs"], labelled["same"]
    verifier = FaceVerifier(None, metric="euclidean", random_state=0).fit(of_photographs[pairs], same)
    decisions = verifier.predict(of_photographs[pairs])
    timed = chips[np.arange(n_timed) % len(chips)]
    contestants = {
        _DLIB: lambda: [network.compute_face_descriptor(chip) for chip in timed],
        "dlib, a list": lambda: network.compute_face_descriptor(list(timed)),
    }
    agreements = {}
    for name, featurizer in featurizers().items():
        otherwise = verifier.predict(featurizer.transform(labelled["photographs"])[pairs]) != decisions
        agreements[name] = agreement(featurizer.transform(chips), expected) | {
            "labelled pairs": len(pairs),
            "labelled pairs decided otherwise": int(otherwise.sum()),
        }
        contestants |= {
            f"ours, {name}, one by one": lambda ours=featurizer: [ours.transform(chip[None]) for chip in timed],
            f"ours, {name}, in batches": lambda ours=featurizer: ours.transform(timed),
        }
    return {"seconds": interleave(contestants, rounds), "agreement": agreements, "n_timed": n_timed}


def race_elsewhere(chips_file, folder, n_threads, args):
    """Run `race` in a process with a number of threads, and as many cores."""
    result = Path(folder, f"{n_threads}.json")
    command = [sys.executable, __file__, "--child", str(chips_file), str(result), "--threads", str(n_threads)]
    command += ["--rounds", str(args.rounds), "--timed", str(args.timed)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(n_threads)})
    return json.loads(result.read_text())


def child(args):
    """Race in this process, on as many cores as there are threads."""
    import torch

    (n_threads,) = args.threads
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_threads])
    torch.set_num_threads(n_threads)
    chips_file, result = args.child
    given = dict(np.load(chips_file))
    Path(result).write_text(json.dumps(race(given.pop("chips"), given, args.timed, args.rounds)))


def report(results):
    """Print the tables and the targets."""
    for n_threads, result in results.items():
        seconds, n = result["seconds"], result["n_timed"]
        print(f"\n{n_threads} thread{'s' if n_threads > 1 else ''}, {n} faces")
        rows = [
            [name, f"{n / statistics.median(taken):.1f}", f"{median_ratio(taken, seconds[_DLIB]):.1f}"]
            for name, taken in seconds.items()
        ]
        print(table(["", "faces/s", "times dlib one by one"], rows))
    agreements = next(iter(results.values()))["agreement"]
    print()
    counted = ("labelled pairs", "pairs")
    rows = [
        [name, f"{a['largest difference']:.1e}", *(a[f"{what} decided otherwise"] for what in counted)]
        for name, a in agreements.items()
    ]
    first = next(iter(agreements.values()))
    header = ["", "largest difference to dlib", *(f"of {first[what]:,} {what} otherwise" for what in counted)]
    print(table(header, rows))
    _print_targets(results[max(results)], agreements)


def _print_targets(result, agreements):
    worst = max(a["largest difference"] for name, a in agreements.items() if name.endswith("float32"))
    print(f"\nlargest difference in float32: {worst:.1e}, <= {_CLOSE:g} {_verdict(worst <= _CLOSE)}")
    seconds = result["seconds"]
    ratios = {name: median_ratio(seconds[f"ours, {name}, in batches"], seconds[_DLIB]) for name in agreements}
    same = [name for name, a in agreements.items() if a["labelled pairs decided otherwise"] == 0]
    of = {"float32": [name for name in agreements if name.endswith("float32")], "the fastest": same}
    for what, least in _TARGETS.items():
        if not of[what]:
            print(f"batches in {what}: none decides as dlib does")
            continue
        best = max(of[what], key=ratios.get)
        ratio = ratios[best]
        print(f"batches in {what} ({best}): {ratio:.1f} times dlib, >= {least} {_verdict(ratio >= least)}")


def _verdict(met):
    return "met" if met else "NOT MET"


def main():
    """Cut the chips, race once for each number of threads, print the tables and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=None, help="chips that are compared; all by default")
    parser.add_argument("--timed", type=int, default=64, help="faces a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-save", action="store_true", help="keep no numbers: a try")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    chips = cut_chips(args.faces)
    print(f"{len(chips)} chips", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        chips_file = Path(folder, "chips.npz")
        np.savez(chips_file, chips=chips, **labelled_pairs())
        results = {n: race_elsewhere(chips_file, folder, n, args) for n in args.threads}
    report(results)
    if not args.no_save:
        save("faces", {"n_chips": len(chips), "threads": results})


if __name__ == "__main__":
    main()
