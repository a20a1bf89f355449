"""Retrieval quality: mAP and recall@1 of descriptors on the same weights, with their cost.

    python benchmarks/quality.py

Four sets are searched leave-one-out; the fifth are the photographs that scikit-learn and scikit-image bring, searched
for with distorted copies of them. Every row is computed in this run on the same images. Cost is the time to describe
images that are in memory, resizing included, divided by that of global average pooling: the median of interleaved
rounds.
"""

from __future__ import annotations

import statistics

import numpy as np
import timm
from _report import interleave, save, table
from _sets import load_sets
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import FeatureUnion
from torch import nn

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer
from sklearn_psp._nets import BackboneRequest, load_backbone
from sklearn_psp.datasets import load_photographs, make_distorted_copies
from sklearn_psp.metrics import recall_at_1_scorer

_ROUNDS = 5


class LastBlock(nn.Module):
    """EfficientNet-Lite0 up to the block before its last convolution: 320 channels instead of 1,280."""

    def __init__(self):
        super().__init__()
        loaded = load_backbone(BackboneRequest("efficientnet_lite0", "default", None, (224, 224))).module.network
        self.network = timm.create_model("tf_efficientnet_lite0")
        self.network.load_state_dict(loaded.state_dict())

    def forward(self, x):
        """Map images in [0, 1] to feature maps."""
        x = self.network.bn1(self.network.conv_stem(2 * x - 1))
        return self.network.blocks(x)


class CentredParts(TransformerMixin, BaseEstimator):
    """The other order of normalisation: centre the local features, then sum and normalise."""

    def fit(self, X, y=None):
        """Learn the mean local feature."""
        self.featurizer_ = PSPNetFeaturizer(scales=(1.0,), center=False).fit()
        self._fitted_on, self._parts = X, self.featurizer_.transform_parts(X)
        self.mean_ = len(X) / (len(X) + 50) * self._parts.mean(axis=(0, 1))
        return self

    def transform(self, X):
        """Describe images."""
        parts = self._parts if X is self._fitted_on else self.featurizer_.transform_parts(X)
        sums = (parts - self.mean_).sum(axis=1)
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def baseline(**params):
    """One scale, not centred: what others use."""
    return PSPNetFeaturizer(scales=(1.0,), center=False, **params)


def side_by_side(*featurizers, weights=None):
    """Concatenate descriptors; their cosine is the weighted mean of the single ones."""
    names = [f"f{i}" for i in range(len(featurizers))]
    weights = dict(zip(names, weights, strict=True)) if weights else None
    return FeatureUnion(list(zip(names, featurizers, strict=True)), transformer_weights=weights)


one_scale = PSPNetFeaturizer(scales=(1.0,))
DESCRIPTORS = {
    "global average pooling (GAP)": baseline(bin_sizes=(1,), pooling="avg"),
    "GeM, p = 3": baseline(bin_sizes=(1,), pooling="gem"),
    "R-MAC (max parts 1, 2, 3)": baseline(),
    "**default**": PSPNetFeaturizer(),
    "one scale, 224": one_scale,
    "one scale, 256": PSPNetFeaturizer(scales=(1.0,), image_size=256),
    "one scale + flip": PSPNetFeaturizer(scales=(1.0,), flip=True),
    "one scale, parts centred before the sum": CentredParts(),
    "one scale + the tap before": side_by_side(
        one_scale, PSPNetFeaturizer(LastBlock(), scales=(1.0,)), weights=(1.0, 0.5)
    ),
    "lite2, one scale, 224": PSPNetFeaturizer("efficientnet_lite2", scales=(1.0,)),
    "lite2, one scale, 240": PSPNetFeaturizer("efficientnet_lite2", scales=(1.0,), image_size=240),
}


def evaluate(featurizer, paths, labels):
    """Return leave-one-out mAP and recall@1."""
    descriptors = clone(featurizer).fit_transform(paths)
    gallery = NearestImageRetriever(algorithm="exact").fit(descriptors, labels)
    return gallery.score(), recall_at_1_scorer(gallery, None, labels)


def evaluate_copies(featurizer, seeds=(0, 1, 2)):
    """Return mAP and recall@1 of distorted copies of the bundled photographs, means over seeds."""
    photographs = load_photographs()
    featurizer = clone(featurizer)
    gallery = NearestImageRetriever().fit(featurizer.fit_transform(photographs.filenames), photographs.target)
    scores = []
    for seed in seeds:
        copies = make_distorted_copies(photographs.filenames, photographs.target, random_state=seed)
        queries = featurizer.transform(copies.images)
        scores.append((gallery.score(queries, copies.target), recall_at_1_scorer(gallery, queries, copies.target)))
    return tuple(np.mean(scores, axis=0).tolist())


def costs():
    """Seconds to describe 64 images of 500 x 375 in memory, by descriptor and round."""
    images = np.random.default_rng(0).integers(0, 255, (64, 375, 500, 3), dtype=np.uint8)
    fitted = {name: clone(featurizer).fit(images[:2]) for name, featurizer in DESCRIPTORS.items()}
    return interleave({name: lambda f=f: f.transform(images) for name, f in fitted.items()}, _ROUNDS)


def main():
    """Print the table and keep the numbers."""
    sets = load_sets()
    seconds = costs()
    base = seconds["global average pooling (GAP)"]
    results, rows = {}, []
    for name, featurizer in DESCRIPTORS.items():
        scores = {s: evaluate(featurizer, *data) for s, data in sets.items()}
        scores["distorted copies"] = evaluate_copies(featurizer)
        cost = statistics.median(s / b for s, b in zip(seconds[name], base, strict=True))
        mean = float(np.mean([m for m, _ in scores.values()]))
        results[name] = {"scores": scores, "mean_map": mean, "cost": cost, "seconds": seconds[name]}
        rows.append([name, *[f"{m:.3f} / {r:.3f}" for m, r in scores.values()], mean, f"{cost:.2f}"])
        print(rows[-1], flush=True)
    print(table(["descriptor (mAP / recall@1)", *sets, "distorted copies", "mean mAP", "cost"], rows))
    save("quality", {"results": results})


if __name__ == "__main__":
    main()
