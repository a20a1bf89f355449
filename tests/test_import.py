"""What importing and searching loads: nothing heavy before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

SEARCH = """
import numpy as np
from sklearn_psp import PSPNetFeaturizer, NearestImageRetriever
X = np.random.default_rng(0).normal(size=(1000, 64))
gallery = NearestImageRetriever(n_neighbors=5).fit(X, np.arange(1000) % 10)
distances, indices = gallery.kneighbors(X[:20])
assert indices[:, 0].tolist() == list(range(20)), indices
assert len(gallery.retrieve(X[:3])) == 15
gallery.predict(X[:3])
PSPNetFeaturizer()
"""


def loaded_by(code):
    """Names of the top-level modules that a fresh interpreter has loaded after some code."""
    script = code + "\nimport sys\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=900, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"torch", "torchvision", "timm", "numba", "pynndescent", "matplotlib", "dask", "sklearn", "pandas", "PIL"}
    assert not loaded_by("import sklearn_psp; dir(sklearn_psp); sklearn_psp.__version__") & heavy


def test_searching_descriptors_loads_neither_torch_nor_numba():
    loaded = loaded_by(SEARCH)
    assert "sklearn_psp" in loaded
    assert not loaded & {"torch", "torchvision", "timm", "numba", "pynndescent", "matplotlib", "dask"}


def test_the_checks_load_neither_torch_nor_pytest():
    assert not loaded_by("import sklearn_psp.utils.estimator_checks") & {"torch", "pytest", "_pytest", "numba"}


def test_every_public_name_can_be_imported_and_is_listed():
    import sklearn_psp

    for name in sklearn_psp.__all__:
        assert getattr(sklearn_psp, name) is not None
        assert name in dir(sklearn_psp)


def test_unknown_name_is_an_attribute_error():
    import sklearn_psp

    with pytest.raises(AttributeError, match="module 'sklearn_psp' has no attribute 'PSPNet'"):
        sklearn_psp.PSPNet  # noqa: B018 - looking the name up is what is tested
