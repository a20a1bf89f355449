"""Clustered galleries and an index with removed rows."""

import numpy as np
import pytest

from sklearn_psp.reranking import DatabaseAugmentation, Diffusion, KReciprocal, QueryExpansion

from . import oracles

RERANKERS = {
    "aqe": (
        QueryExpansion(k=4, alpha=0.0),
        lambda G, q: oracles.query_expansion(G, q, 4, 0.0),
    ),
    "alpha_qe": (
        QueryExpansion(k=5, alpha=3.0),
        lambda G, q: oracles.query_expansion(G, q, 5, 3.0),
    ),
    "dba": (
        DatabaseAugmentation(k=4, alpha=1.5),
        lambda G, q: oracles.database_augmentation(G, q, 4, 1.5, True),
    ),
    "dba_gallery_only": (
        DatabaseAugmentation(k=3, alpha=0.0, expand_query=False),
        lambda G, q: oracles.database_augmentation(G, q, 3, 0.0, False),
    ),
    "kreciprocal": (
        KReciprocal(k=7, k_expansion=3),
        lambda G, q: oracles.k_reciprocal(G, q, 7, 3, 0.3),
    ),
    "kreciprocal_single": (
        KReciprocal(k=5, k_expansion=1, lambda_value=0.0),
        lambda G, q: oracles.k_reciprocal(G, q, 5, 1, 0.0),
    ),
    "kreciprocal_wide": (
        KReciprocal(k=2, k_expansion=6, lambda_value=0.5),
        lambda G, q: oracles.k_reciprocal(G, q, 2, 6, 0.5),
    ),
    "diffusion": (
        Diffusion(k=4, query_k=3, gamma=3.0),
        lambda G, q: oracles.diffusion(G, q, 4, 3, 0.9, 3.0),
    ),
    "diffusion_far": (
        Diffusion(k=2, query_k=1, alpha=0.99, gamma=1.0),
        lambda G, q: oracles.diffusion(G, q, 2, 1, 0.99, 1.0),
    ),
}


class View:
    """Exact cosine search over some rows, by the definition: ties go to the smaller position."""

    def __init__(self, X, rows=None):
        self.X = X.astype(np.float64)
        self.rows = np.arange(len(X)) if rows is None else np.sort(rows)
        self.queries = 0

    @property
    def n_samples(self):
        return len(self.rows)

    def query(self, Q, k):
        assert Q.dtype == np.float32
        assert 1 <= k <= self.n_samples
        self.queries += len(Q)
        if len(Q) == 0:
            return np.empty((0, k), dtype=np.float32), np.empty((0, k), dtype=np.intp)
        differences = self.X[None, self.rows] - Q[:, None].astype(np.float64)
        distances = ((differences**2).sum(axis=2) / 2).astype(np.float32)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(distances, order, axis=1), self.rows[order]


def clustered(n, n_features=6, n_clusters=5, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_clusters, n_features))
    X = centres[rng.integers(n_clusters, size=n)] + noise * rng.normal(size=(n, n_features))
    return oracles.unit(X).astype(np.float32)


@pytest.fixture(params=list(RERANKERS))
def case(request):
    """A re-ranker and its oracle."""
    return RERANKERS[request.param]


@pytest.fixture
def reranker(case):
    return case[0]
