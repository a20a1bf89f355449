"""Threads whose first use of a network is at the same time: it is made once, and gives the bits of one thread."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sklearn_psp import PSPNetFeaturizer

N_THREADS = 8
RUNTIMES = pytest.mark.parametrize("runtime", ["torch", "openvino"])
IMAGES = np.random.default_rng(0).integers(0, 256, (2 * N_THREADS, 64, 64, 3), dtype=np.uint8)

# A fresh interpreter, where nothing is loaded, folded, converted or measured yet.
SCRIPT = f"""
import collections, json, pickle, sys, threading, warnings
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import sklearn_psp._nets
from sklearn_psp._nets import _openvino_network, _plan, _networks

counts = collections.Counter()

def counted(module, name):
    original = getattr(module, name)
    def count(*args, **kwargs):
        counts[name] += 1
        return original(*args, **kwargs)
    setattr(module, name, count)

counted(_networks, "fold_batch_norm")
counted(_openvino_network, "_convert")
counted(_plan, "_resolve")
settings = list(warnings.filters), warnings.showwarning
start = threading.Barrier({N_THREADS})

def first_use(work):
    start.wait(120)
    return work()

with open(sys.argv[1], "rb") as file:
    featurizers, images = pickle.load(file)
jobs = [lambda f=f, i=i: JOB for i, f in enumerate(featurizers)]
with ThreadPoolExecutor({N_THREADS}) as executor:
    found = list(executor.map(first_use, jobs))
with open(sys.argv[1], "wb") as file:
    pickle.dump(found, file)
assert (list(warnings.filters), warnings.showwarning) == settings
print(json.dumps(counts))
"""


def in_threads(folder, job, featurizers):
    """Run a job in threads of a fresh interpreter; return what it gave by thread, and how often networks were made."""
    path = folder / "job.pkl"
    path.write_bytes(pickle.dumps((featurizers, IMAGES)))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("JOB", job), str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parent,
    )
    assert run.returncode == 0, run.stderr
    return pickle.loads(path.read_bytes()), json.loads(run.stdout)


def featurizer(runtime, **params):
    fast = {"precision": "float32", "batch_size": 2, "device": "cpu", "n_jobs": 1, "center": False}
    return PSPNetFeaturizer(runtime=runtime, image_size=64, scales=(1.0, 1.5), **fast | params)


@RUNTIMES
def test_first_transform_in_eight_threads_gives_the_bits_of_one(tmp_path, runtime):
    fitted = featurizer(runtime).fit()
    expected = [fitted.transform(IMAGES[2 * i : 2 * i + 2]) for i in range(N_THREADS)]
    # One featurizer for all of them, as a server has it.
    found, made = in_threads(tmp_path, "f.transform(images[2 * i : 2 * i + 2])", [fitted] * N_THREADS)
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    assert made == ({"fold_batch_norm": 1} if runtime == "torch" else {"_convert": 2}), "one for each scale"


@RUNTIMES
def test_first_fit_in_eight_threads_loads_and_measures_once(tmp_path, runtime):
    unfitted = [featurizer(runtime, precision="auto") for _ in range(N_THREADS)]
    found, made = in_threads(tmp_path, "(f.fit().precision_, f.n_features_out_)", unfitted)
    assert len(set(found)) == 1
    assert made["_resolve"] == 1
