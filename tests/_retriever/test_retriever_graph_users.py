"""The graphs go where scikit-learn's neighbour graphs go: clustering, embedding, label propagation."""

import warnings

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.manifold import TSNE, Isomap
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import LabelPropagation

from sklearn_psp import NearestImageRetriever


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 25)
    return (5 * np.eye(4)[y] + rng.standard_normal((100, 4)) / 2).astype(np.float32), y


def test_dbscan_finds_the_clusters(data):
    X, y = data
    pipeline = make_pipeline(NearestImageRetriever(10), DBSCAN(eps=0.1, metric="precomputed"))
    found = pipeline.fit_predict(X)
    assert adjusted_rand_score(y, found) > 0.9


@pytest.mark.parametrize(
    "embedding",
    [
        Isomap(n_neighbors=30, metric="precomputed"),
        TSNE(perplexity=9, metric="precomputed", init="random", random_state=0, max_iter=250),
    ],
)
def test_embeddings_keep_neighbours_together(data, embedding):
    X, y = data
    graph = NearestImageRetriever(99, mode="distance").fit(X)
    if isinstance(embedding, Isomap):
        shown = embedding.fit_transform(graph.kneighbors_graph().toarray())
    else:
        shown = make_pipeline(NearestImageRetriever(30), embedding).fit_transform(X)
    votes = NearestImageRetriever(3, metric="euclidean").fit(shown, y).predict()
    assert np.mean(votes == y) > 0.9


def test_label_propagation_spreads_few_labels(data):
    X, y = data
    retriever = NearestImageRetriever(7, mode="connectivity").fit(X)
    known = np.full(100, -1)
    known[[0, 30, 60, 90]] = y[[0, 30, 60, 90]]

    def kernel(A, B):
        return retriever.kneighbors_graph(A) if A is not B else retriever.kneighbors_graph()

    propagated = LabelPropagation(kernel=kernel, max_iter=1000).fit(X, known)
    assert np.mean(propagated.transduction_ == y) > 0.9


@pytest.mark.filterwarnings("ignore:precomputed_knn:UserWarning")
def test_umap_takes_the_neighbours(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of what umap could do with Tensorflow
        import umap

    X, y = data
    distances, positions = NearestImageRetriever(15).fit(X).kneighbors(X)
    shown = umap.UMAP(n_neighbors=15, precomputed_knn=(positions, distances), random_state=0, n_jobs=1).fit_transform(X)
    votes = NearestImageRetriever(3, metric="euclidean").fit(shown, y).predict()
    assert np.mean(votes == y) > 0.9
