"""Cold start: a fresh process loads a saved gallery of 100,000 images and answers its first query.

    python benchmarks/cold_start.py

The gallery has 512 features, string ids, labels and two columns of metadata, and a PyNNDescent graph. The first round
warms the disk; times are medians over fresh processes. Beside it: building the same gallery, loading it with pickle,
and what the imports alone take.
"""

from __future__ import annotations

import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _report import save as keep
from _report import table
from search import vectors

from sklearn_psp import NearestImageRetriever, save

_N, _D, _ROUNDS = 100_000, 512, 7
_COMMON = "import time; start = time.perf_counter(); import json, sys, numpy; query = numpy.load(sys.argv[2]);"
_REPORT = "; print(json.dumps([loaded - start, time.perf_counter() - loaded]))"
_ASK = "loaded = time.perf_counter(); gallery.retrieve(query)"
SCRIPTS = {
    "load": f"{_COMMON} from sklearn_psp import load; gallery = load(sys.argv[1] + '.skops'); {_ASK}{_REPORT}",
    "pickle": f"{_COMMON} import pickle; gallery = pickle.load(open(sys.argv[1] + '.pickle', 'rb')); {_ASK}{_REPORT}",
    "imports alone": f"{_COMMON} import sklearn_psp._retriever, pynndescent; loaded = time.perf_counter(){_REPORT}",
}


def main():
    """Print the table and keep the numbers."""
    X = vectors(_N, _D, _N // 100, 0.7, 1)
    metadata = pd.DataFrame({"number": np.arange(_N), "title": [f"image {i}" for i in range(_N)]})
    start = time.perf_counter()
    gallery = NearestImageRetriever(algorithm="pynndescent", n_jobs=-1, random_state=0)
    gallery.fit(X, [f"class {i % 100}" for i in range(_N)], ids=[f"{i}.jpg" for i in range(_N)], metadata=metadata)
    built = time.perf_counter() - start
    seconds = {name: [] for name in SCRIPTS}
    with tempfile.TemporaryDirectory() as folder:
        path, query = str(Path(folder, "gallery")), str(Path(folder, "query.npy"))
        np.save(query, vectors(1, _D, _N // 100, 0.7, 2))
        start = time.perf_counter()
        save(gallery, path + ".skops")
        saved, size = time.perf_counter() - start, Path(path + ".skops").stat().st_size / 2**20
        Path(path + ".pickle").write_bytes(pickle.dumps(gallery))
        for i in range(_ROUNDS + 1):
            for name, script in SCRIPTS.items():
                start = time.perf_counter()
                run = subprocess.run([sys.executable, "-c", script, path, query], check=True, capture_output=True)
                whole = time.perf_counter() - start
                if i:
                    seconds[name].append([*json.loads(run.stdout), whole])
    rows = [[name, *map(statistics.median, zip(*values, strict=True))] for name, values in seconds.items()]
    print(f"built in {built:.1f} s in a fresh process, saved in {saved:.2f} s, {size:.0f} MiB")
    print(table(["", "imports and loading, s", "first query, s", "whole process, s"], rows))
    keep("cold_start", {"built_s": built, "saved_s": saved, "mib": size, "seconds": seconds})


if __name__ == "__main__":
    main()
