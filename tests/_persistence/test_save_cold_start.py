"""What a fresh process loads in order to load a file: no torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA

from sklearn_psp._persistence import save

LOAD = """
import sys
from sklearn_psp import load
estimator = load(sys.argv[1])
assert estimator.components_.shape == (2, 9)
heavy = {"torch", "torchvision", "timm", "numba", "pynndescent", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
name = "sklearn.externals.array_api_compat.torch"
assert name not in sys.modules
import sklearn.externals.array_api_compat
assert "torch" not in vars(sklearn.externals.array_api_compat)
"""
REAL = """
import sklearn.externals.array_api_compat.torch as real
import torch
assert real.tensor is torch.tensor
"""
SAVE = """
import sys
from sklearn_psp import save
from sklearn.decomposition import PCA
save(PCA(), sys.argv[1] + ".again")
assert "torch" not in sys.modules
"""
AFTER_TORCH = """
import torch, sys
from sklearn_psp._persistence._save import import_skops
import_skops()
import sklearn.externals.array_api_compat.torch as real
assert real.tensor is torch.tensor
"""


@pytest.mark.parametrize("code", [LOAD, LOAD + REAL, SAVE, AFTER_TORCH], ids=["load", "real", "save", "after_torch"])
def test_fresh_process__loads_torch_only_where_it_is_asked_for(code, path):
    save(PCA(2).fit(np.random.default_rng(0).normal(size=(50, 9))), path)
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
