import numpy as np
import pytest

from sklearn_psp._indexes import ExactIndex
from sklearn_psp._indexes._pynndescent import PyNNDescentIndex
from sklearn_psp.utils._arrays import unit_rows


def unit(X):
    X = np.ascontiguousarray(X, dtype=np.float32)
    return unit_rows(X)


@pytest.fixture(scope="session")
def clustered():
    """3,000 unit vectors in 60 clusters: 10 nearest neighbours worth finding."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 64))
    return unit(centres[rng.integers(0, 60, 3000)] + 0.6 * rng.standard_normal((3000, 64)))


@pytest.fixture(scope="session")
def held_out(clustered):
    """500 queries that are not in the index."""
    rng = np.random.default_rng(1)
    return unit(clustered[rng.choice(3000, 500, replace=False)] + 0.05 * rng.standard_normal((500, 64)))


@pytest.fixture(scope="session")
def exact_index(clustered):
    return ExactIndex(clustered, metric="cosine")


@pytest.fixture(scope="session")
def graph_index(exact_index):
    """The one graph whose compilation (20-75 s) the suite pays for."""
    return PyNNDescentIndex(exact_index, random_state=0)
