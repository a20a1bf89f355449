"""Faces matched: learned thresholds beside fixed ones, unknown people among the enrolled, faces partly covered.

    python benchmarks/face_matching.py

The images are those of face_pairs (300 labelled pairs) and orl_faces (40 people), aligned by `FaceAligner`. It finds
no face in some of orl_faces; they are left out everywhere. Five tables:

1. Descriptors. face_pairs: accuracy over ten stratified folds, each decided with the threshold of the other nine, and
   the area under the ROC curve. orl_faces, leave-one-out: recall@1 and mean average precision.
2. Thresholds. The same dlib descriptor, decided by the thresholds that face_recognition and deepface bring for it, and
   by those that `FaceVerifier` learns: on all pairs of twenty people of orl_faces, learned from the other twenty, five
   times; and on face_pairs, learned from orl_faces.
3. Open set. Twenty people of orl_faces enrolled with five images, their others as probes, ten unknown people that
   `FaceIdentifier` fits its threshold on, and ten others that it is tested with; five times. "no unknown" is the same
   with nothing but the gallery to fit on.
4. The same with one image enrolled of each.
5. Covered faces. Half of the images of everybody are the gallery, the others probes: as they are, with a black bar
   over the eyes, and over the mouth. Centre and part weights are learned from the gallery's images, as they are and,
   but where it says so, with both bars too; what is searched are always the images as they are.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import dlib
import numpy as np
import pandas as pd
from _report import save, table
from _sets import DATA, SETS
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from sklearn_psp import FaceAligner, FaceIdentifier, FaceVerifier, NearestImageRetriever, PSPNetFeaturizer
from sklearn_psp._nets._packaged import PACKAGED
from sklearn_psp._nets._weights import packaged_file
from sklearn_psp.exceptions import FewPairsWarning
from sklearn_psp.metrics import far_frr, lfw_accuracy

_SEEDS = 5
_SPEC = PACKAGED["dlib_face"]
_ONE_PART = {"bin_sizes": (1,), "pooling": "avg", "center": False}
_DESCRIPTORS = {
    "dlib_face, global": {"backbone": "dlib_face", **_ONE_PART},
    "dlib_face, parts 1, 2": {"backbone": "dlib_face", **_ONE_PART, "bin_sizes": (1, 2)},
    "dlib_face, parts 1, 2, in order": {
        "backbone": "dlib_face",
        **_ONE_PART,
        "bin_sizes": (1, 2),
        "aggregation": "concat",
    },
    "efficientnet_lite0, global": _ONE_PART,
    "efficientnet_lite0, parts, the default": {},
    "efficientnet_lite0, parts in order": {"aggregation": "concat"},
}
# face_recognition's tolerance, and deepface's for the model "Dlib" (deepface/config/threshold.py), as scores: cosine
# similarities, and distances with a minus sign.
_FIXED = {
    "face_recognition, deepface euclidean: 0.6": ("raw", "euclidean", -0.6),
    "deepface cosine: 0.07": ("unit", "cosine", 1 - 0.07),
    "deepface euclidean_l2: 0.4": ("unit", "euclidean", -0.4),
}
# Of chips of 150 pixels: top, bottom, left, right of the bar.
_BARS = {"plain": None, "eyes covered": (34, 62, 28, 122), "mouth covered": (88, 122, 40, 110)}

_PLAIN, _COVERED_TOO = ("plain",), tuple(_BARS)
# Parameters, and what the centre and the weights are learned from.
_COVERED = {
    "global, dlib's own": ({"bin_sizes": (1,), "center": False}, _PLAIN),
    "global, centred": ({"bin_sizes": (1,)}, _COVERED_TOO),
    "parts 1, 2, summed, learned from plain faces": ({"bin_sizes": (1, 2), "part_weights": "learned"}, _PLAIN),
    "parts 1, 2, summed": ({"bin_sizes": (1, 2), "part_weights": "learned"}, _COVERED_TOO),
    "parts 1, 2, in order, uniform weights": ({"bin_sizes": (1, 2), "aggregation": "concat"}, _COVERED_TOO),
    "upper and lower half, in order": (
        {"bin_sizes": ((2, 1),), "aggregation": "concat", "part_weights": "learned"},
        _COVERED_TOO,
    ),
}


def load():
    """Return chips of face_pairs with their pairs, and of orl_faces with their people, or leave with a message."""
    paths, people = SETS["orl_faces"]()
    photographs = sorted((DATA / "face_pairs").glob("*.jpg"))
    if not paths or not photographs:
        print("skipped: ../shared/data is absent (face_pairs, orl_faces)")
        sys.exit(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chips = FaceAligner(upsample=2, on_error="nan").fit_transform(paths)
    found = np.array([chip is not None for chip in chips])
    print(f"orl_faces: a face in {found.sum()} of {len(found)}")
    pairs = pd.read_csv(DATA / "face_pairs" / "master.csv")
    place = {path.name: i for i, path in enumerate(photographs)}
    pairs = (
        np.column_stack([pairs[f"file_{side}"].map(place) for side in "xy"]),
        (pairs["Decision"] == "Yes").to_numpy(),
    )
    return FaceAligner().transform(photographs), pairs, np.stack(chips[found].tolist()), np.array(people)[found]


def featurizer(**params):
    """Make a featurizer whose numbers do not depend on what is installed."""
    return PSPNetFeaturizer(**{"runtime": "torch", "precision": "float32", **params})


def dlibs(chips):
    """Return dlib's own descriptors."""
    network = dlib.face_recognition_model_v1(str(packaged_file(_SPEC.package, _SPEC.file)))
    return np.array([network.compute_face_descriptor(np.ascontiguousarray(chip)) for chip in chips], dtype=np.float32)


def all_pairs(people):
    """Return all pairs, as places, and whether they are of one person."""
    pairs = np.column_stack(np.triu_indices(len(people), 1))
    return pairs, people[pairs[:, 0]] == people[pairs[:, 1]]


def compare_descriptors(photographs, pairs, chips, people):
    """Print the table of descriptors, and return its numbers."""
    described = {"dlib, as face_recognition": (dlibs(photographs), dlibs(chips), "euclidean")}
    for name, params in _DESCRIPTORS.items():
        rows = [featurizer(**params).fit_transform(faces) for faces in (photographs, chips)]
        described[name] = (*rows, "cosine")
    places, same = pairs
    folds = np.empty(len(same), dtype=int)
    for fold, (_, test) in enumerate(StratifiedKFold(10, shuffle=True, random_state=0).split(same, same)):
        folds[test] = fold
    results = {}
    for name, (of_pairs, of_people, metric) in described.items():
        verifier = FaceVerifier(None, metric=metric, random_state=0).fit(of_pairs[places], same)
        scores = verifier.score_samples(of_pairs[places])
        accuracy = lfw_accuracy(same, scores, folds)
        gallery = NearestImageRetriever(n_neighbors=1, metric=metric).fit(of_people, people)
        results[name] = {
            "accuracy": accuracy.mean,
            "standard error": accuracy.standard_error,
            "auc": roc_auc_score(same, scores),
            "recall@1": float((gallery.predict() == people).mean()),
            "mAP": gallery.score(),
        }
    header = ["", "face_pairs, accuracy", "AUC", "orl_faces, recall@1", "mAP"]
    rows = [
        [name, f"{r['accuracy']:.4f} ± {r['standard error']:.4f}", r["auc"], r["recall@1"], f"{r['mAP']:.4f}"]
        for name, r in results.items()
    ]
    print(f"\n1. Descriptors\n{table(header, rows)}")
    return results


def halves_of(people, seed):
    """Return the images of one half of the people, and of the other."""
    names = np.unique(people)
    chosen = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
    mine = np.isin(people, chosen)
    return np.flatnonzero(mine), np.flatnonzero(~mine)


def compare_thresholds(photographs, pairs, chips, people):
    """Print the table of thresholds, and return its numbers."""
    raw = {"face_pairs": dlibs(photographs), "orl": dlibs(chips)}
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in raw.items()}
    kinds = {"raw": raw, "unit": unit}
    rates = {}

    def note(name, where, same, scores, threshold):
        far, frr = far_frr(same, scores, threshold)
        accuracy = float(np.mean((scores >= threshold) == same))
        rates.setdefault(name, {}).setdefault(where, []).append((far, frr, accuracy))
        rates[name].setdefault("thresholds", []).append(threshold)

    for seed in range(_SEEDS):
        learn, test = halves_of(people, seed)
        to_learn, same_learn = all_pairs(people[learn])
        to_test, same_test = all_pairs(people[test])
        for name, (kind, metric, threshold) in _FIXED.items():
            rows = kinds[kind]["orl"][test]
            note(name, "orl", same_test, score(rows, to_test, metric), threshold)
        for target in ("accuracy", "eer", ("far", 1e-3)):
            verifier = FaceVerifier(None, target=target, random_state=0)
            verifier.fit(unit["orl"][learn][to_learn], same_learn)
            name = f"FaceVerifier, target={target!r}"
            note(name, "orl", same_test, verifier.score_samples(unit["orl"][test][to_test]), verifier.threshold_)
            scores = verifier.score_samples(unit["face_pairs"][pairs[0]])
            note(name, "face_pairs", pairs[1], scores, verifier.threshold_)
    for name, (kind, metric, threshold) in _FIXED.items():
        note(name, "face_pairs", pairs[1], score(kinds[kind]["face_pairs"], pairs[0], metric), threshold)
    columns = ["FAR", "FRR", "accuracy"]
    rows = [
        [
            name,
            f"{np.mean(r['thresholds']):.3f}",
            *(f"{np.mean(values):.4f}" for where in ("orl", "face_pairs") for values in zip(*r[where], strict=True)),
        ]
        for name, r in rates.items()
    ]
    header = ["", "score", *(f"{where}, {column}" for where in ("orl_faces", "face_pairs") for column in columns)]
    print(f"\n2. Thresholds for one descriptor, means over {_SEEDS} halvings of the people\n{table(header, rows)}")
    return rates


def score(rows, pairs, metric):
    """Score pairs of descriptors."""
    a, b = (rows[pairs[:, side]].astype(np.float64) for side in range(2))
    if metric == "euclidean":
        return -np.linalg.norm(a - b, axis=1)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def open_set(rows, people, seed, n_enrolled, unknown_to_fit):
    """Enroll, and return the rates on others, with what fit said of them."""
    random = np.random.default_rng(seed)
    names = random.permutation(np.unique(people))
    enrolled, to_fit, to_test = names[:20], names[20:30], names[30:]
    images = {name: random.permutation(np.flatnonzero(people == name)) for name in names}
    gallery = np.concatenate([images[name][:n_enrolled] for name in enrolled])
    probes = np.concatenate([images[name][5:] for name in enrolled])
    unknown = np.concatenate([images[name] for name in to_fit]) if unknown_to_fit else np.empty(0, dtype=int)
    tested = np.concatenate([images[name] for name in to_test])
    identifier = FaceIdentifier(None, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewPairsWarning)
        identifier.fit(rows[np.r_[gallery, unknown]], [*people[gallery], *["unknown"] * len(unknown)])
    named = identifier.predict(rows[tested]) != "unknown"
    return {
        "fpir": float(named.mean()),
        "fnir": float((identifier.predict(rows[probes]) != people[probes]).mean()),
        "named": int(named.sum()),
        "people named": int(pd.unique(people[tested][named]).size),
        "of": len(tested),
        "fpir_": identifier.fpir_,
        "fnir_": identifier.fnir_,
        "said": [str(warning.message) for warning in caught],
    }


def identify_unknown(rows, people):
    """Print the tables of the open set, and return their numbers."""
    results = {}
    for title, n_enrolled in (("3. Open set", 5), ("4. One image of each enrolled", 1)):
        for what, unknown in (("ten unknown", True), ("no unknown", False)):
            runs = [open_set(rows, people, seed, n_enrolled, unknown) for seed in range(_SEEDS)]
            results[f"{n_enrolled} enrolled, {what}"] = runs
            mean = {name: np.mean([run[name] for run in runs]) for name in ("fpir", "fnir")}
            lines = [
                [seed, r["fpir"], r["fnir"], f"{r['named']} of {r['of']}", r["people named"], r["fpir_"], r["fnir_"]]
                for seed, r in enumerate(runs)
            ]
            lines.append(["mean", mean["fpir"], mean["fnir"], "", "", "", ""])
            header = ["split", "FPIR", "FNIR", "unknown named", "different ones", "fpir_ of fit", "fnir_ of fit"]
            print(f"\n{title}, threshold fitted with {what}\n{table(header, lines)}")
            for said in sorted({said for run in runs for said in run["said"]}):
                print(f"fit says: {said}")
    return results


def cover(chips, bar):
    """Return chips with a black bar."""
    chips = chips.copy()
    if bar is not None:
        top, bottom, left, right = bar
        chips[:, top:bottom, left:right] = 0
    return chips


def halves_of_everybody(people, seed):
    """Return half of the images of every person, and the other half."""
    random = np.random.default_rng(seed)
    shuffled = [random.permutation(np.flatnonzero(people == name)) for name in np.unique(people)]
    return (
        np.concatenate([places[: len(places) // 2] for places in shuffled]),
        np.concatenate([places[len(places) // 2 :] for places in shuffled]),
    )


def compare_covered(chips, people):
    """Print the table of covered faces, and return its numbers."""
    covered = {name: cover(chips, bar) for name, bar in _BARS.items()}
    results = {name: [] for name in _COVERED}
    with tempfile.TemporaryDirectory() as folder:  # the network sees each image once
        common = {"backbone": "dlib_face", "pooling": "avg", "cache": folder}
        for seed in range(_SEEDS):
            gallery, probes = halves_of_everybody(people, seed)
            for name, (params, kinds) in _COVERED.items():
                described = featurizer(**common, **params)
                learned_from = np.concatenate([covered[kind][gallery] for kind in kinds])
                described.fit(learned_from, np.tile(people[gallery], len(kinds)))
                search = NearestImageRetriever(n_neighbors=1).fit(described.transform(chips[gallery]), people[gallery])
                queries = {kind: described.transform(faces[probes]) for kind, faces in covered.items()}
                results[name].append(
                    {
                        kind: (
                            float((search.predict(rows) == people[probes]).mean()),
                            search.score(rows, people[probes]),
                        )
                        for kind, rows in queries.items()
                    }
                )
    rows = []
    for name, runs in results.items():
        recall, precision = ({kind: np.mean([run[kind][i] for run in runs]) for kind in _BARS} for i in range(2))
        losses = [f"{precision['plain'] - precision[kind]:.4f}" for kind in _BARS if kind != "plain"]
        rows.append([name, *(f"{recall[kind]:.3f} / {precision[kind]:.4f}" for kind in _BARS), *losses])
    header = ["recall@1 / mAP", *_BARS, "mAP lost, eyes", "mAP lost, mouth"]
    print(f"\n5. Covered faces, means over {_SEEDS} splits\n{table(header, rows)}")
    return results


def main():
    """Print all tables and keep the numbers."""
    photographs, pairs, chips, people = load()
    rows = featurizer(backbone="dlib_face", **_ONE_PART).fit_transform(chips)
    save(
        Path(__file__).stem,
        {
            "descriptors": compare_descriptors(photographs, pairs, chips, people),
            "thresholds": compare_thresholds(photographs, pairs, chips, people),
            "open set": identify_unknown(rows, people),
            "covered": compare_covered(chips, people),
        },
    )


if __name__ == "__main__":
    main()
