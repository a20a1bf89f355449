"""Make one small saved file of every kind, in the format that `save` writes now.

    python tests/_persistence/make_files.py

They go to `files/formatN/` beside this script, with what the estimators answer in `expected.npz`. Run it once when the
number of the format goes up, and keep what it made: `test_save_formats.py` loads the files of every format there was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sklearn_psp import (
    FaceAligner,
    FaceIdentifier,
    FaceVerifier,
    NearestImageRetriever,
    PSPNetClassifier,
    PSPNetFeaturizer,
    save,
)
from sklearn_psp._persistence._save import FORMAT
from sklearn_psp.metrics import make_retrieval_scorer, recall_at_k
from sklearn_psp.reranking import QueryExpansion

FILES = Path(__file__).parent / "files"
NETWORK = {
    "backbone": "efficientnet_lite0",
    "weights": "default",
    "image_size": 64,
    "scales": (1.0,),
    "device": "cpu",
    "precision": "float32",
    "runtime": "torch",
    "batch_size": 4,
    "n_jobs": 1,
}


def estimators(X, y, pairs, images):
    """Fit one of every kind, by name."""
    metadata = pd.DataFrame({"year": np.arange(40), "name": [f"n{i}" for i in range(40)]})
    gallery = NearestImageRetriever(n_neighbors=3).fit(X, y, ids=[f"i{i}" for i in range(40)], metadata=metadata)
    yield "gallery", gallery
    graph = NearestImageRetriever(n_neighbors=3, algorithm="pynndescent", random_state=0, n_jobs=1)
    yield "graph", graph.fit(X, y)
    yield "featurizer", PSPNetFeaturizer(**NETWORK).fit(images)
    retriever = NearestImageRetriever(n_neighbors=2, reranker="diffusion")
    search = Pipeline([("psp", PSPNetFeaturizer(**NETWORK)), ("retriever", retriever)])
    yield "search", search.fit(images, np.repeat([0, 1], 6))
    yield "verifier", FaceVerifier(featurizer=None).fit(pairs, [1, 1, 1, 0, 0, 0])
    yield "identifier", FaceIdentifier(featurizer=None).fit(X, y)
    yield "classifier", PSPNetClassifier(epochs=2, random_state=0, **NETWORK).fit(images, np.repeat(["u", "v"], 6))
    yield "aligner", FaceAligner(detector=None, size=32).fit(images)
    grid = GridSearchCV(
        NearestImageRetriever(reranker=QueryExpansion()),
        {"n_neighbors": [2, 3]},
        cv=StratifiedKFold(2, shuffle=True, random_state=0),
        scoring=make_retrieval_scorer(recall_at_k, k=2),
    )
    yield "grid", grid.fit(X, y)


def answer(name, estimator, X, pairs, images):
    """Return what an estimator answers."""
    if name in ("gallery", "graph"):
        return estimator.kneighbors(X[:5])[1]
    if name == "featurizer":
        return estimator.transform(images[:3])
    if name == "aligner":
        return estimator.transform(images[:3])
    if name == "verifier":
        return estimator.decision_function(pairs)
    if name in ("identifier", "grid"):
        return estimator.predict(X[:5]).astype(str)
    return np.asarray(estimator.predict(images[:4])).astype(str if name == "classifier" else int)


def main():
    """Fit, save, and keep the answers."""
    folder = FILES / f"format{FORMAT}"
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((40, 8)).astype(np.float32), np.repeat(list("abcdefgh"), 5)
    images = generator.integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    pairs = np.stack([X[[0, 1]], X[[5, 6]], X[[10, 11]], X[[0, 5]], X[[10, 20]], X[[1, 30]]])
    expected = {}
    for name, estimator in estimators(X, y, pairs, images):
        save(estimator, folder / f"{name}.skops")
        expected[name] = answer(name, estimator, X, pairs, images)
    np.savez_compressed(folder / "expected.npz", X=X, pairs=pairs, images=images, **expected)


if __name__ == "__main__":
    main()
