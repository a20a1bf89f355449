"""Classification: heads on parts and networks trained, beside scikit-learn's classifiers on the same features.

    python benchmarks/learning.py [--parts accuracy images_per_second searched] [--device auto]

flowers12 with its own training and test images, corel1k with its database and queries, grocery in stratified halves.
Heads are trained with five seeds, the last stage with three on grocery and one elsewhere; on grocery a seed also
decides the halves. Ridge and logistic regression, which have no seed, are scikit-learn's with their defaults, but for
`max_iter`. Seconds are those of fitting, with the images read and described once.

Afterwards: groceries searched by a network that was trained on the other half of the classes; and images a second of
training all layers, beside a bare loop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
from _report import RESULTS, interleave, save, table
from _sets import load_sets
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import train_test_split

from sklearn_psp import NearestImageRetriever, PSPNetClassifier, PSPNetFeaturizer

_SEEDS = 5
_TRAINED_SEEDS = {"grocery": 3}
_GAP = {"bin_sizes": (1,), "pooling": "avg", "center": False, "scales": (1.0,)}
_SEARCHED = {"losses": ("categorical_crossentropy", "arcface"), "seeds": 2}


def splits(name, paths, labels):
    """Yield (training, test) positions, one pair for each seed."""
    places = np.arange(len(paths))
    if name == "grocery":
        for seed in range(_SEEDS):
            yield train_test_split(places, test_size=0.5, stratify=labels, random_state=seed)
        return
    folder = {"flowers12": "/test/", "corel1k": "/queries/"}[name]
    test = np.array([folder in path for path in paths])
    for _ in range(_SEEDS):
        yield places[~test], places[test]


def contestants(name, seed, device, *, train):
    """Return functions of (training images, labels, test images, labels) that give accuracy, by name."""
    halves = name == "grocery"

    def on_features(make, options):
        def run(X, y, X_test, y_test):
            featurizer = PSPNetFeaturizer(device=device, **options)
            classifier = make().fit(featurizer.fit_transform(X), y)
            seconds = time.perf_counter()
            return classifier.score(featurizer.transform(X_test), y_test), seconds

        return run

    def ours(**params):
        def run(X, y, X_test, y_test):
            model = PSPNetClassifier(random_state=seed, device=device, **params).fit(X, y)
            seconds = time.perf_counter()
            return model.score(X_test, y_test), seconds

        return run

    found = {}
    if halves or seed == 0:
        found["ridge on GAP"] = on_features(RidgeClassifier, _GAP)
        found["ridge on parts"] = on_features(RidgeClassifier, {})
        found["logistic regression on parts"] = on_features(lambda: LogisticRegression(max_iter=1000), {})
    found["head"] = ours()
    found["head, label smoothing"] = ours(loss="label_smoothing")
    if train and seed < _TRAINED_SEEDS.get(name, 1):
        found["last stage"] = ours(train="last_stage")
    return found


def accuracies(sets, device, *, train):
    """Print and return accuracy and seconds of every contestant on every set."""
    results = {}
    for name, (paths, labels) in sets.items():
        paths, labels = np.asarray(paths), np.asarray(labels)
        runs = {}
        for seed, (learn, test) in enumerate(splits(name, paths, labels)):
            for who, run in contestants(name, seed, device, train=train).items():
                start = time.perf_counter()
                accuracy, fitted = run(paths[learn], labels[learn], paths[test], labels[test])
                runs.setdefault(who, []).append((accuracy, fitted - start))
                print(f"{name}, seed {seed}: {who} {accuracy:.4f}, {fitted - start:.1f} s", flush=True)
        results[name] = {
            who: {"accuracy": [a for a, _ in some], "seconds": [s for _, s in some]} for who, some in runs.items()
        }
    who = list(next(iter(results.values())))
    means = {name: {w: float(np.mean(results[name][w]["accuracy"])) for w in who} for name in results}
    seconds = {name: {w: statistics.median(results[name][w]["seconds"]) for w in who} for name in results}
    print("\nAccuracy, mean of the seeds")
    print(table(["", *results], [[w, *(f"{means[name][w]:.4f}" for name in results)] for w in who]))
    print("\nSeconds of fitting, median of the seeds")
    print(table(["", *results], [[w, *(f"{seconds[name][w]:.1f}" for name in results)] for w in who]))
    return results


def searched(paths, labels, device):
    """Print and return mAP of groceries of classes that the network was not trained on."""
    paths, labels = np.asarray(paths), np.asarray(labels)
    classes = np.unique(labels)
    results = {}
    for seed in range(_SEARCHED["seeds"]):
        learned = np.isin(labels, np.random.RandomState(seed).permutation(classes)[: len(classes) // 2])
        X, y, gallery, y_gallery = paths[learned], labels[learned], paths[~learned], labels[~learned]
        featurizers = {
            "untrained": PSPNetFeaturizer(device=device).fit(X),
            "untrained, one scale": PSPNetFeaturizer(device=device, scales=(1.0,)).fit(X),
        }
        for loss in _SEARCHED["losses"]:
            model = PSPNetClassifier(train="last_stage", loss=loss, random_state=seed, device=device).fit(X, y)
            featurizers[f"last stage, {loss}"] = model.featurizer_
        for who, featurizer in featurizers.items():
            score = NearestImageRetriever().fit(featurizer.transform(gallery), y_gallery).score()
            results.setdefault(who, []).append(score)
            print(f"searched, seed {seed}: {who} {score:.4f}", flush=True)
    print("\nmAP of the other half of the classes")
    print(table(["", "mean", "least"], [[w, f"{np.mean(s):.4f}", f"{min(s):.4f}"] for w, s in results.items()]))
    return results


def steps(device):
    """Print and return images a second: our training of all layers against a bare loop of torch."""
    from sklearn_psp import _nets
    from sklearn_psp._training import trainable_copy

    device = _nets.resolve_device(device)
    on_gpu = device.type == "cuda"
    name, n, batch_size = ("torchvision/resnet50", 4096, 64) if on_gpu else ("efficientnet_lite0", 256, 32)
    weights = None if on_gpu else "default"
    X = np.random.RandomState(0).randint(0, 256, size=(n, 224, 224, 3), dtype=np.uint8)
    y = np.arange(n) % 10
    request = _nets.BackboneRequest(name, weights, None, (224, 224), seed=0)
    backbone = _nets.load_backbone(request)

    def bare(pass_size):
        network = trainable_copy(backbone.module, backbone.image_size, "all").to(device)
        head = torch.nn.Linear(backbone.n_channels, 10).to(device)
        optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=1e-4)
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=on_gpu)

        def epoch():
            for rows in np.array_split(np.random.RandomState(0).permutation(n), n // batch_size):
                optimizer.zero_grad()
                for some in np.array_split(rows, max(1, len(rows) // pass_size)):
                    images = torch.from_numpy(X[some]).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
                    with autocast:
                        scores = head(network(images).amax((2, 3)))
                    classes = torch.from_numpy(y[some]).to(device)
                    loss = torch.nn.functional.cross_entropy(scores.float(), classes) * len(some) / len(rows)
                    loss.backward()
                optimizer.step()
            if on_gpu:
                torch.cuda.synchronize()

        return epoch

    params = {"backbone": name, "weights": weights, "train": "all", "augment": False, "epochs": 1}
    model = PSPNetClassifier(
        **params, metrics=(), batch_size=batch_size, device=str(device), random_state=0, warm_start=True
    ).fit(X, y)
    rates = {}
    contestants = {"ours": _one_epoch(model, X, y), f"bare, batch of {batch_size}": bare(batch_size)}
    if not on_gpu:
        contestants["bare, 8 at a time"] = bare(8)
    for who, seconds in interleave(contestants, 3).items():
        rates[who] = n / statistics.median(seconds)
    print(f"\nTraining all of {name} on {device}, images a second, reading from memory")
    print(table(["", "images/s"], [[who, f"{rate:.1f}"] for who, rate in rates.items()]))
    return rates


def _one_epoch(model, X, y):
    """Return a function that trains for one epoch more, without making a featurizer of the result."""
    from sklearn_psp._classifier._fitting import Fitting
    from sklearn_psp._classifier._labelled import labelled
    from sklearn_psp._classifier._settings import ClassifierSettings, FittedModel

    previous = FittedModel.of(vars(model))
    fitting = Fitting(ClassifierSettings.of(model.get_params(deep=False)), labelled(X, y), previous=previous)
    training, batches = fitting.continued(previous), fitting.batches(previous.classes)

    def epoch():
        training.restart(1)
        training.run(batches, epochs=training.epochs)

    return epoch


def main():
    """Run all of it, or some parts; each is kept as soon as it is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", default=["accuracy", "images_per_second", "searched"])
    parser.add_argument("--sets", nargs="+", default=["flowers12", "corel1k", "grocery"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--skip-training", action="store_true", help="of the network: heads alone")
    options = parser.parse_args()
    sets = load_sets()
    chosen = {name: sets[name] for name in options.sets}
    parts = {
        "accuracy": lambda: accuracies(chosen, options.device, train=not options.skip_training),
        "images_per_second": lambda: steps(options.device),
        "searched": lambda: searched(*sets["grocery"], options.device),
    }
    for part in options.parts:
        kept = RESULTS / "learning.json"
        before = json.loads(kept.read_text()) if kept.exists() else {}
        save("learning", {**before, part: parts[part]()})


if __name__ == "__main__":
    main()
