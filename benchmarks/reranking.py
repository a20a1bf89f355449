"""Re-ranking: mAP and time of every re-ranker on the default descriptors, one setting for all sets.

    python benchmarks/reranking.py

Every image of each set is searched for in the others: it is left out of its own results, of its own neighbours and of
the neighbours of all others. mAP is that of the full ranking: what a re-ranker leaves out follows in the plain order.
Times are for one query out of many, the exact search included: "first" is the first query after `fit`, when no
neighbours are known yet, "later" one after all others have been searched for.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from _report import save, table
from _sets import load_sets
from sklearn.base import clone

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._indexes import ExactIndex
from sklearn_psp.metrics import mean_average_precision
from sklearn_psp.reranking import make_reranker

METHODS = ("none", "aqe", "alpha_qe", "dba", "kreciprocal", "diffusion")
_FIRST = 15
_BLOCK = 200


class PlainSearch:
    """The order of the index, in the shape of a re-ranker."""

    shortlist = 1000

    def fit(self, X, *, index):
        """Take the index."""
        self.index = index
        return self

    def rerank(self, Q, n_neighbors, *, own):
        """Search."""
        distances, positions = self.index.query(Q, n_neighbors + 1)
        keep = positions != own[:, None]
        return distances[keep].reshape(len(Q), -1), positions[keep].reshape(len(Q), -1)


def make(name):
    """Make a fresh one."""
    return PlainSearch() if name == "none" else clone(make_reranker(name))


def full_rankings(reranker, X, index):
    """Rank all others for each row: positions of shape (n, n - 1)."""
    n = len(X)
    for start in range(0, n, _BLOCK):
        own = np.arange(start, min(start + _BLOCK, n))
        n_ranked = n - 1 if type(reranker).__name__ == "QueryExpansion" else min(reranker.shortlist, n - 1)
        _, first = reranker.rerank(X[own], n_ranked, own=own)
        _, plain = index.query(X[own], n)
        for i, row in zip(own, plain, strict=True):
            known = np.zeros(n, dtype=bool)
            known[[i, *first[i - start]]] = True
            yield i, np.concatenate([first[i - start], row[~known[row]]])


def score(reranker, X, labels, index):
    """mAP over all rows, each left out in turn."""
    relevance = np.array([labels[ranking] == labels[i] for i, ranking in full_rankings(reranker, X, index)])
    return mean_average_precision(relevance[relevance.any(axis=1)])


def times(name, X, index, fitted):
    """Milliseconds of a first query after fit, and of a later one."""
    rng = np.random.default_rng(0)
    first = []
    for i in rng.permutation(len(X))[:_FIRST]:
        reranker = make(name).fit(X, index=index)
        start = time.perf_counter()
        reranker.rerank(X[[i]], 10, own=np.array([i]))
        first.append(time.perf_counter() - start)
    own = rng.permutation(len(X))[:_BLOCK]
    start = time.perf_counter()
    fitted.rerank(X[own], 10, own=own)
    return 1e3 * statistics.median(first), 1e3 * (time.perf_counter() - start) / len(own)


def main():
    """Print the table and keep the numbers."""
    sets = {}
    for name, (paths, labels) in load_sets().items():
        X = np.ascontiguousarray(PSPNetFeaturizer().fit_transform(paths), dtype=np.float32)
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        sets[name] = X, np.unique(labels, return_inverse=True)[1]
    results, rows = {}, []
    for method in METHODS:
        scores, first, later = {}, {}, {}
        for name, (X, labels) in sets.items():
            index = ExactIndex(X, metric="cosine")
            reranker = make(method).fit(X, index=index)
            scores[name] = float(score(reranker, X, labels, index))
            first[name], later[name] = times(method, X, index, reranker)
        mean = float(np.mean(list(scores.values())))
        setting = None if method == "none" else repr(make(method))
        params = None if method == "none" else make(method).get_params()
        results[method] = {
            "reranker": setting,
            "params": params,
            "map": scores,
            "mean_map": mean,
            "first_query_ms": first,
            "later_query_ms": later,
        }
        ms = [f"{statistics.median(t.values()):.1f}" for t in (first, later)]
        rows.append([method, *scores.values(), mean, *ms])
        print(rows[-1], flush=True)
    print(table(["re-ranker (mAP)", *sets, "mean", "first, ms", "later, ms"], rows))
    save("reranking", {"results": results, "sizes": {name: len(X) for name, (X, _) in sets.items()}})


if __name__ == "__main__":
    main()
