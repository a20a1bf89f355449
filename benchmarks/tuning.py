"""A grid search with the cache, beside describing the images once, and beside the same search without a cache.

    python benchmarks/tuning.py
    python benchmarks/tuning.py --runtime torch --backbone resnet50

24 settings of pooling, levels and aggregation, five folds, over the 1,000 photographs of a set in ten classes. The
cache keeps feature maps, which are the same for all 24, so that the network sees each image once. The search without
a cache is run for 2 of the 24 settings, and its time multiplied by 12. The weights of resnet50 are random: its time
does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import numpy as np
from _report import save, table
from _sets import load_sets
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer

_GRID = {
    "psp__pooling": ["avg", "max", "gem"],
    "psp__bin_sizes": [(1,), (1, 2), (1, 2, 3), ((6, 1),)],
    "psp__aggregation": ["sum", "concat"],
}
# One of the least and one of the most costly
_TWO = [
    {"psp__pooling": ["avg"], "psp__bin_sizes": [(1,)], "psp__aggregation": ["sum"]},
    {"psp__pooling": ["gem"], "psp__bin_sizes": [(1, 2, 3)], "psp__aggregation": ["concat"]},
]
_N_SETTINGS = 24
_BACKBONES = {
    "efficientnet_lite0": {"backbone": "efficientnet_lite0"},
    "resnet50": {"backbone": "torchvision/resnet50", "weights": None, "random_state": 0},
}
# Grid search in multiples of describing all images once, at most; its time without a cache over its time, at least.
_MOST_PLAIN = {"efficientnet_lite0": 2.5, "resnet50": 2.0}
_LEAST_GAIN = 30
_LARGEST_DIFFERENCE = 1e-3


def timed(run):
    """Return the seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def search(featurizer, grid, paths, labels, n_jobs):
    """Run a grid search, and return its seconds and its cv_results_."""
    pipeline = Pipeline([("psp", featurizer), ("retriever", NearestImageRetriever())])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    grid_search = GridSearchCV(pipeline, grid, cv=folds, n_jobs=n_jobs, refit=False, error_score="raise")
    seconds, _ = timed(lambda: grid_search.fit(paths, labels))
    return seconds, grid_search.cv_results_


def scores(results):
    """Return the mean test scores by setting."""
    return {str(params): score for params, score in zip(results["params"], results["mean_test_score"], strict=True)}


def measure(name, paths, labels, runtime, n_jobs):
    """Measure one backbone."""
    params = {**_BACKBONES[name], "runtime": runtime}
    # Resolved once: what each process of a search measures for itself could differ, and scores with it.
    fitted = PSPNetFeaturizer(**params).fit(paths[:32])
    params |= {"runtime": fitted.runtime_, "precision": fitted.precision_}
    plain = [timed(lambda: PSPNetFeaturizer(**params).fit_transform(paths))[0] for _ in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        cached = PSPNetFeaturizer(**params, cache=folder)
        empty, results = search(cached, _GRID, paths, labels, n_jobs)
        full, again = search(cached, _GRID, paths, labels, n_jobs)
    two, without = search(PSPNetFeaturizer(**params), _TWO, paths, labels, n_jobs)
    with_cache, without = scores(results), scores(without)
    return {
        "runtime": fitted.runtime_,
        "precision": fitted.precision_,
        "batch_size": fitted.batch_size_,
        "plain_s": plain,
        "empty_cache_s": empty,
        "full_cache_s": full,
        "without_cache_s": two * _N_SETTINGS / len(without),
        "without_cache_measured_s": two,
        "difference": max(abs(with_cache[setting] - score) for setting, score in without.items()),
        "difference_empty_full": float(np.abs(results["mean_test_score"] - again["mean_test_score"]).max()),
        "scores": with_cache,
    }


def report(name, result, n):
    """Print the table and the targets of one backbone."""
    plain = statistics.median(result["plain_s"])
    seconds = {
        f"describing {n} images once, no cache": plain,
        "grid search, empty cache": result["empty_cache_s"],
        "grid search, full cache": result["full_cache_s"],
        "grid search, no cache (2 settings times 12)": result["without_cache_s"],
    }
    print(f"\n{name}, {result['runtime']}, {result['precision']}: 24 settings, 5 folds\n")
    print(table(["", "seconds", "plain transforms"], [[what, s, s / plain] for what, s in seconds.items()]) + "\n")
    most, difference = _MOST_PLAIN[name], result["difference"]
    ratio, gain = result["empty_cache_s"] / plain, result["without_cache_s"] / result["empty_cache_s"]
    print(f"grid search in plain transforms: {ratio:.2f}, <= {most} {_verdict(ratio <= most)}")
    print(f"without the cache / with it, empty: {gain:.1f}, >= {_LEAST_GAIN} {_verdict(gain >= _LEAST_GAIN)}")
    print(f"without the cache / with it, full: {result['without_cache_s'] / result['full_cache_s']:.1f}")
    print(f"largest difference of mean_test_score with and without: {difference:.1e}, ", end="")
    print(f"<= {_LARGEST_DIFFERENCE} {_verdict(difference <= _LARGEST_DIFFERENCE)}")
    print(f"largest difference with an empty and a full cache: {result['difference_empty_full']:.1e}", flush=True)


def _verdict(met):
    return "met" if met else "NOT MET"


def main():
    """Measure the backbones, print, and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runtime", choices=["auto", "torch", "openvino"], default="auto")
    parser.add_argument("--n-jobs", type=int, default=None)
    parser.add_argument("--backbone", choices=list(_BACKBONES), action="append", help="may be given twice; all if not")
    parser.add_argument("--quick", action="store_true", help="60 images; nothing is kept")
    args = parser.parse_args()
    paths, labels = load_sets()["corel1k"]
    if args.quick:
        step = len(paths) // 60
        paths, labels = paths[::step][:60], labels[::step][:60]
    results = {}
    for name in args.backbone or _BACKBONES:
        results[name] = measure(name, paths, labels, args.runtime, args.n_jobs)
        report(name, results[name], len(paths))
    if not args.quick:
        jobs = "" if args.n_jobs is None else f"_{args.n_jobs}_jobs"
        which = "" if args.backbone is None else "_" + "_".join(args.backbone)
        save(f"tuning_{args.runtime}{which}{jobs}", {"n_images": len(paths), "results": results})


if __name__ == "__main__":
    main()
