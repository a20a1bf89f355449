"""Who is it? Written a second time, image by image in plain loops, straight from the definitions."""

from __future__ import annotations

import math

import numpy as np


def _prepared(X, metric):
    X = np.asarray(X, dtype=np.float64)
    return [row / np.linalg.norm(row) if metric == "cosine" else row for row in X]


def person_similarities(queries, X, names, metric="euclidean", own=None):
    """Return a dict for each query: the similarity of the most alike image of each person."""
    queries, X = _prepared(queries, metric), _prepared(X, metric)
    tables = []
    for i, query in enumerate(queries):
        table = dict.fromkeys(names, -math.inf)
        for j, image in enumerate(X):
            if own is None or own[i] != j:
                table[names[j]] = max(table[names[j]], 1 - sum((query - image) ** 2) / 2)
        tables.append(table)
    return tables


def ranked(queries, X, names, metric="euclidean"):
    """Return the people of each query as pairs (similarity, name), the most alike first."""
    tables = person_similarities(queries, X, names, metric)
    return [sorted(((s, name) for name, s in table.items()), reverse=True) for table in tables]


def leave_one_out(X, names, metric="euclidean"):
    """Return, for each image taken out, its similarity to its person, the best to another, and all to others."""
    own, best_other, others = [], [], []
    for name, table in zip(names, person_similarities(X, X, names, metric, own=range(len(X))), strict=True):
        own.append(table.pop(name))
        best_other.append(max(table.values(), default=-math.inf))
        others += table.values()
    return own, best_other, others


def probes(X, names, strangers=(), metric="euclidean"):
    """Return mated scores, whether the own person ranks first, and scores of non-mated probes, as lists."""
    own, best_other, _ = leave_one_out(X, names, metric)
    mated = [(s, s > other) for s, other in zip(own, best_other, strict=True) if math.isfinite(s)]
    nonmated = [s for s in best_other if math.isfinite(s)]
    nonmated += [max(table.values()) for table in person_similarities(strangers, X, names, metric)]
    return [s for s, _ in mated], [first for _, first in mated], nonmated


def as_score(similarity, metric):
    """Show a similarity as the metric does: itself, or the distance with a minus sign."""
    return similarity if metric == "cosine" else -math.sqrt(max(0.0, 2 - 2 * similarity))
