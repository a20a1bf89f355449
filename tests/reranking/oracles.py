"""The papers' equations, dense and in float64, one query at a time and with no thought of speed."""

import numpy as np


def unit(X):
    X = np.asarray(X, dtype=np.float64)
    return X / np.linalg.norm(X, axis=-1, keepdims=True)


def order_by(distances):
    return np.argsort(distances, kind="stable")


def neighbours(G, i, k):
    """Nearest others of row i."""
    order = order_by(1 - G @ G[i])
    return order[order != i][:k]


def average(x, others, alpha):
    s = others @ x
    w = np.ones(len(s)) if alpha == 0 else (np.maximum(s, 0) / s.max()) ** alpha
    return unit(x + (w[:, None] * others).sum(axis=0))


def query_expansion(G, q, k, alpha):
    G, q = unit(G), unit(q)
    nearest = order_by(1 - G @ q)[:k]
    return 1 - G @ average(q, G[nearest], alpha)


def database_augmentation(G, q, k, alpha, expand_query):
    G, q = unit(G), unit(q)
    nearest = order_by(1 - G @ q)[:k]
    averages = np.array([average(G[i], G[neighbours(G, i, k)], alpha) if len(G) > 1 else G[i] for i in range(len(G))])
    return 1 - averages @ (average(q, G[nearest], alpha) if expand_query else q)


def diffusion(G, q, k, query_k, alpha, gamma):
    G, q = unit(G), unit(q)
    n = len(G)
    A = np.zeros((n, n))
    for i in range(n):
        for j in neighbours(G, i, k):
            A[i, j] = A[j, i] = max(0, G[i] @ G[j]) ** gamma
    D = A.sum(axis=1)
    S = A / np.sqrt(np.outer(np.where(D > 0, D, 1), np.where(D > 0, D, 1)))
    nearest = order_by(1 - G @ q)[:query_k]
    y = np.zeros(n)
    y[nearest] = np.maximum(0, G[nearest] @ q) ** gamma / np.sqrt(len(nearest))
    return 1 - (1 - alpha) * np.linalg.solve(np.eye(n) - alpha * S, y)


def k_reciprocal(G, q, k, k_expansion, lambda_value):
    """Sets of Python over the gallery and, as its last member, the query."""
    P = np.vstack([unit(G), unit(q)])
    n = len(P)
    d = 1 - P @ P.T
    ranks = [[j for j in np.argsort(d[i], kind="stable") if j != i] for i in range(n)]

    def near(p, size):
        return {p, *ranks[p][:size]}

    def reciprocal(p, size):
        return {g for g in near(p, size) if p in near(g, size)}

    half = max(1, round(k / 2))
    V = np.zeros((n, n))
    for p in range(n):
        found = R = reciprocal(p, k)
        for g in R:
            R_half = reciprocal(g, half)
            if 3 * len(R & R_half) >= 2 * len(R_half):
                found = found | R_half
        for g in found:
            V[p, g] = np.exp(-d[p, g])
        V[p] /= V[p].sum()
    expanded = np.array([V[list(near(p, k_expansion - 1))].mean(axis=0) for p in range(n)])
    jaccard = 1 - np.minimum(expanded, expanded[-1]).sum(axis=1) / np.maximum(expanded, expanded[-1]).sum(axis=1)
    return ((1 - lambda_value) * jaccard + lambda_value * d[-1])[:-1]
