"""The method beside others on the same feature maps: leave-one-out mAP on the four sets, one scale of 224 pixels.

    python benchmarks/methods.py

Everything is made of public parts: `PSPNetFeaturizer` with the parameters that give the other method or come close to
it, and scikit-learn. What is learned without labels (centre, PCA, words) is learned on the set that is searched.
"""

from __future__ import annotations

import tempfile

import numpy as np
from _report import save, table
from _sets import load_sets
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer

# Whitening to many components makes noise as loud as what tells classes apart; sets of few classes want few.
_N_COMPONENTS = (16, 64)
_N_WORDS = 16
_SAMPLED_CELLS = 20_000

_PARAMETERS = {
    "global average (GAP)": {"bin_sizes": (1,), "pooling": "avg", "center": False},
    "generalised mean (GeM)": {"bin_sizes": (1,), "pooling": "gem", "center": False},
    "sum of max-pooled regions (R-MAC)": {"center": False},
    "parts, summed, centred": {},
    "parts in order, concatenated, centred": {"aggregation": "concat"},
    "six stripes in order, concatenated, centred": {"aggregation": "concat", "bin_sizes": ((6, 1),)},
}


def descriptors(paths, cache):
    """Yield the name and the descriptors of each method."""
    one_scale = {"scales": (1.0,), "cache": cache}
    for name, params in _PARAMETERS.items():
        found = PSPNetFeaturizer(**params, **one_scale).fit_transform(paths)
        yield name, found
        if name == "global average (GAP)":
            for n in _N_COMPONENTS:
                whitened = PCA(n, whiten=True, random_state=0).fit_transform(found)
                yield f"sums of cells, whitened to {n} (SPoC without its weights)", normalize(whitened)
    yield f"{_N_WORDS} words of cells (VLAD)", _vlad(paths, one_scale)


def _vlad(paths, options):
    """Sum what the cells of the map differ from their word by, word by word (Jegou et al. 2010)."""
    cells = PSPNetFeaturizer(bin_sizes=((7, 7),), center=False, **options).fit().transform_parts(paths)
    flat = cells.reshape(-1, cells.shape[-1])
    sampled = np.random.RandomState(0).choice(len(flat), min(len(flat), _SAMPLED_CELLS), replace=False)
    words = MiniBatchKMeans(_N_WORDS, n_init=3, random_state=0).fit(flat[sampled])
    assigned = words.predict(flat).reshape(cells.shape[:2])
    sums = np.zeros((len(cells), _N_WORDS, cells.shape[-1]), dtype=np.float32)
    for word, center in enumerate(words.cluster_centers_.astype(np.float32)):
        here = assigned == word
        sums[:, word] = np.einsum("ncd,nc->nd", cells, here.astype(np.float32)) - here.sum(axis=1)[:, None] * center
    sums /= np.maximum(np.linalg.norm(sums, axis=2, keepdims=True), 1e-12)  # each word has the same say
    return normalize(sums.reshape(len(cells), -1))


def main():
    """Score every method on every set."""
    scores = {}
    for name, (paths, labels) in load_sets().items():
        with tempfile.TemporaryDirectory() as cache:
            for method, found in descriptors(paths, cache):
                score = NearestImageRetriever(algorithm="exact").fit(found, labels).score()
                scores.setdefault(method, {})[name] = score
                print(f"{name}: {method} {score:.4f}", flush=True)
    names = list(next(iter(scores.values())))
    print(table(["mAP", *names], [[method, *map(some.get, names)] for method, some in scores.items()]))
    save("methods", scores)


if __name__ == "__main__":
    main()
