"""Search: build, memory, time and recall beside raw PyNNDescent, hnswlib, faiss, usearch and scikit-learn.

    python benchmarks/search.py                    # 20,000 and 100,000 vectors
    python benchmarks/search.py 1000000x256        # one size; slow peers are left out above 100,000

Vectors are unit vectors in clusters: centres are drawn from a normal distribution, one for 100 vectors, and so is the
noise around them, whose length is `--noise` times that of a centre. Queries come from the same distribution and are not
in the index. Every contestant finds the 10 nearest by cosine distance (Euclidean on unit vectors for those without).
Times are medians of rounds in which each contestant runs once; those of one query are medians of 300. Memory is what
the process grew by while the index was built. "ours" is asked for a recall of .95, and the other graphs run with
their usual settings (hnswlib, faiss and usearch: M = 16, 200 candidates while building, 50 while searching).
"""

from __future__ import annotations

import argparse
import gc
import statistics
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
from _report import interleave, save, table
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from sklearn_psp import NearestImageRetriever

_K = 10
_QUERIES = 1000
_SIZES = ("20000x256", "20000x512", "50000x256", "100000x256", "100000x512")


def vectors(n, d, n_clusters, noise, seed):
    """Draw unit vectors in clusters, a block at a time."""
    centres = np.random.default_rng(0).standard_normal((n_clusters, d)).astype(np.float32)
    rng = np.random.default_rng(seed)
    X = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, 50_000):
        part = X[start : start + 50_000]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= noise
        part += centres[rng.integers(0, n_clusters, len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return X


class Ours:
    """The retriever."""

    def __init__(self, X, algorithm):
        self.retriever = NearestImageRetriever(_K, algorithm=algorithm, random_state=0, n_jobs=-1).fit(X)

    def query(self, Q):
        """Return positions of the nearest."""
        return self.retriever.kneighbors(Q)[1]


class RawPyNNDescent:
    """The library alone, as the retriever calls it: same graph, same epsilon, same start of the walk."""

    def __init__(self, X, ours):
        graph = ours.retriever._gallery.index.searcher
        self.graph, self.epsilon = graph._graph, graph._epsilon

    def query(self, Q):
        """Return positions of the nearest."""
        return self.graph.query(Q, k=_K, epsilon=self.epsilon)[0]


class ScikitLearn:
    """Brute force."""

    def __init__(self, X):
        self.index = NearestNeighbors(n_neighbors=_K, algorithm="brute").fit(X)

    def query(self, Q):
        """Return positions of the nearest."""
        return self.index.kneighbors(Q)[1]


class Faiss:
    """IndexFlatIP or IndexHNSWFlat."""

    def __init__(self, X, graph):
        import faiss

        if graph:
            self.index = faiss.IndexHNSWFlat(X.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
            self.index.hnsw.efConstruction, self.index.hnsw.efSearch = 200, 50
        else:
            self.index = faiss.IndexFlatIP(X.shape[1])
        self.index.add(X)

    def query(self, Q):
        """Return positions of the nearest."""
        return self.index.search(Q, _K)[1]


class Hnswlib:
    """Its index for the inner product."""

    def __init__(self, X):
        import hnswlib

        self.index = hnswlib.Index("ip", X.shape[1])
        self.index.init_index(len(X), M=16, ef_construction=200, random_seed=0)
        self.index.add_items(X)
        self.index.set_ef(50)

    def query(self, Q):
        """Return positions of the nearest."""
        return self.index.knn_query(Q, _K)[0]


class Usearch:
    """Its index for the inner product, in float32."""

    def __init__(self, X):
        from usearch.index import Index

        self.index = Index(
            ndim=X.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=200, expansion_search=50
        )
        self.index.add(np.arange(len(X)), X)

    def query(self, Q):
        """Return positions of the nearest."""
        keys = self.index.search(Q, _K).keys
        return np.asarray(keys).reshape(len(Q), -1)


def built(make):
    """Build, and tell how long it took and by how many MiB the process grew."""
    gc.collect()
    process = psutil.Process()
    before, start = process.memory_info().rss, time.perf_counter()
    index = make()
    seconds = time.perf_counter() - start
    gc.collect()
    return index, seconds, (process.memory_info().rss - before) / 2**20


def recall(found, truth):
    """Share of the true neighbours that were found."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def single(contestants, queries):
    """Microseconds of one query alone: one BLAS thread, 100 queries of each contestant in turn, three times.

    Not query by query: who comes after another finds its vectors in the cache.
    """
    seconds = {name: [] for name in contestants}
    with threadpool_limits(1):
        for first in (0, 300, 600):
            for name, index in contestants.items():
                for i in range(first, first + 110):
                    row = queries[i : i + 1]
                    start = time.perf_counter()
                    index.query(row)
                    if i >= first + 10:
                        seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) * 1e6 for name, values in seconds.items()}


def measure(n, d, noise, rounds):
    """Run all contestants on one set; return its rows, with the ratios that are promised."""
    X, Q = vectors(n, d, max(1, n // 100), noise, 1), vectors(_QUERIES, d, max(1, n // 100), noise, 2)
    large = n > 100_000
    makers = {
        "ours, exact": lambda: Ours(X, "exact"),
        "ours, graph": lambda: Ours(X, "pynndescent"),
        "scikit-learn brute": lambda: ScikitLearn(X),
        "faiss Flat": lambda: Faiss(X, graph=False),
        "faiss HNSW": lambda: Faiss(X, graph=True),
        "hnswlib": lambda: Hnswlib(X),
        "usearch": lambda: Usearch(X),
    }
    if large:
        for name in ("scikit-learn brute", "faiss HNSW", "hnswlib", "usearch"):
            del makers[name]
    indexes, rows = {}, {}
    for name, make in makers.items():
        try:
            indexes[name], seconds, memory = built(make)
        except Exception as error:  # a peer that cannot run here is said, and left out
            print(f"  {name} left out: {error}")
            continue
        rows[name] = {"build_s": seconds, "memory_mib": memory}
        print(f"  built {name} in {seconds:.1f} s", flush=True)
    indexes["raw PyNNDescent"] = RawPyNNDescent(X, indexes["ours, graph"])
    rows["raw PyNNDescent"] = dict(rows["ours, graph"])

    scores = np.empty((_QUERIES, n), dtype=np.float32)
    batches = {name: lambda index=index: index.query(Q) for name, index in indexes.items()}
    batches["bare product"] = lambda: np.matmul(Q, X.T, out=scores)
    seconds = interleave(batches, rounds)
    truth = indexes["ours, exact"].query(Q)
    alone = single(indexes, Q)
    for name, index in indexes.items():
        rows[name] |= {
            "batch_us": statistics.median(seconds[name]) / _QUERIES * 1e6,
            "batch_seconds": seconds[name],
            "single_us": alone[name],
            "recall": recall(index.query(Q), truth),
        }
    rows["bare product"] = {"batch_seconds": seconds["bare product"]}
    ours = indexes["ours, graph"].retriever
    exact, product = seconds["ours, exact"], seconds["bare product"]
    graph, raw = seconds["ours, graph"], seconds["raw PyNNDescent"]
    build = rows["ours, graph"]["build_s"] - rows["ours, exact"]["build_s"]
    gain = (rows["ours, exact"]["batch_us"] - rows["ours, graph"]["batch_us"]) / 1e6
    promises = {
        "exact batch / bare product": statistics.median(a / b for a, b in zip(exact, product, strict=True)),
        "graph batch / raw batch": statistics.median(a / b for a, b in zip(graph, raw, strict=True)),
        "graph single - raw single, us": alone["ours, graph"] - alone["raw PyNNDescent"],
        "recall_": ours.recall_,
        "recall of queries": rows["ours, graph"]["recall"],
        "epsilon": ours._gallery.index.searcher._epsilon,
        "queries in a batch that pay for the graph": build / gain if gain > 0 else float("inf"),
    }
    return {"rows": rows, "promises": promises, "changes": changes(ours, X, Q), "threads": threads(ours, Q)}


def changes(retriever, X, Q):
    """Milliseconds to add one image, to find it, and to remove it; and of a filtered query."""
    n = retriever.n_samples_fit_
    adding, finding, removing = [], [], []
    for i in range(20):
        row, name = Q[i : i + 1], [n + i]
        start = time.perf_counter()
        retriever.partial_fit(row, ids=name)
        added = time.perf_counter()
        found = retriever.kneighbors(row, 1)[1][0, 0]
        assert retriever.ids_[found] == name[0]
        done = time.perf_counter()
        retriever.remove(name)
        adding.append(added - start)
        finding.append(done - added)
        removing.append(time.perf_counter() - done)
    times = {"add": adding, "find": finding, "remove": removing}
    result = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    for share in (0.001, 0.1, 0.9):
        mask = np.random.default_rng(0).random(n) < share
        times = []
        for i in range(5):
            start = time.perf_counter()
            retriever.retrieve(Q[i : i + 1], where=mask)
            times.append(time.perf_counter() - start)
        result[f"retrieve where {share:.1%} may be found"] = statistics.median(times) * 1e3
    return result


def threads(retriever, Q):
    """Rows of 10,000 single queries in 8 threads that differ from those of one thread, for ours and the library."""
    graph = retriever._gallery.index.searcher
    queries = np.concatenate([Q] * 10)[:, None]
    differences = {}
    for name, query in {
        "ours": lambda row: retriever.kneighbors(row)[1],
        "raw PyNNDescent": lambda row: graph._graph.query(row, k=_K, epsilon=graph._epsilon)[0].copy(),
    }.items():
        expected = [query(row) for row in queries]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(query, queries))
        differences[name] = sum(not np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    return differences


def main():
    """Print a table for each size and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", nargs="*", default=_SIZES, help="like 20000x512")
    parser.add_argument("--noise", type=float, default=0.7, help="length of the noise beside that of a centre")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    for size in args.sizes:
        n, d = map(int, size.split("x"))
        print(f"{n:,} vectors of {d} numbers, noise {args.noise}, {threading.active_count()} thread", flush=True)
        result = measure(n, d, args.noise, args.rounds)
        rows = [
            [name, *(f"{row[key]:,.{digits}f}" for key, digits in _COLUMNS.values())]
            for name, row in result["rows"].items()
            if "recall" in row
        ]
        print(table(["engine", *_COLUMNS], rows))
        for part in ("promises", "changes", "threads"):
            print(f"  {part}: " + ", ".join(f"{name} {value:.4g}" for name, value in result[part].items()), flush=True)
        save(f"search_{size}", {"noise": args.noise, "k": _K, "n_queries": _QUERIES, **result})


_COLUMNS = {
    "build, s": ("build_s", 1),
    "memory, MiB": ("memory_mib", 0),
    "batch, us/query": ("batch_us", 0),
    "single, us": ("single_us", 0),
    "recall@10": ("recall", 4),
}


if __name__ == "__main__":
    main()
