"""Learned part weights beside uniform ones: mAP on images that were not learned from.

    python benchmarks/part_weights.py

Each set is split into stratified halves, five times. Weights and centre come from one half; the other half is searched
leave-one-out. One setting for all sets, the defaults.
"""

from __future__ import annotations

import statistics
import tempfile
import time

import numpy as np
from _report import save, table
from _sets import load_sets
from sklearn.model_selection import train_test_split

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer

_SEEDS = 5


def score(featurizer, paths, labels, seed):
    """Fit on one half, search the other; return mAP there, the weights, and the seconds of fitting."""
    learn, search, y_learn, y_search = train_test_split(
        paths, labels, test_size=0.5, stratify=labels, random_state=seed
    )
    start = time.perf_counter()
    featurizer.fit(learn, y_learn)
    seconds = time.perf_counter() - start
    retriever = NearestImageRetriever().fit(featurizer.transform(search), y_search)
    return retriever.score(), featurizer.part_weights_, seconds


def main():
    """Compare on every set."""
    rows, results = [], {}
    for name, (paths, labels) in load_sets().items():
        with tempfile.TemporaryDirectory() as folder:
            PSPNetFeaturizer(cache=folder, center=False).fit().transform(paths)
            runs = {
                weights: [
                    score(PSPNetFeaturizer(part_weights=weights, cache=folder), paths, labels, seed)
                    for seed in range(_SEEDS)
                ]
                for weights in ("uniform", "learned")
            }
        uniform, learned = ([run[0] for run in runs[weights]] for weights in ("uniform", "learned"))
        gains = [b - a for a, b in zip(uniform, learned, strict=True)]
        seconds = statistics.median(run[2] for run in runs["learned"])
        rows.append([name, np.mean(uniform), np.mean(learned), f"{np.mean(gains):+.4f}", f"{min(gains):+.4f}", seconds])
        results[name] = {
            "uniform": uniform,
            "learned": learned,
            "seconds": [run[2] for run in runs["learned"]],
            "weights": [run[1].tolist() for run in runs["learned"]],
        }
    print(table(["mAP", "uniform", "learned", "gain", "least gain", "fit, s"], rows))
    save("part_weights", results)


if __name__ == "__main__":
    main()
