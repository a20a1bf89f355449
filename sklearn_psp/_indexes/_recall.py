"""Recall that is measured: how far a walk must go to find the share of neighbours that was asked for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_psp._indexes._graph import hold_out, set_leaf_budget
from sklearn_psp._indexes._subset import Subset

__all__ = ["EPSILONS", "HeldOut", "Recall", "choose_walk", "draw_sample"]

# PyNNDescent finds next to nothing with epsilon = 0, and beyond 0.5 it visits much of the graph.
EPSILONS = (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8)
# The standard error of the mean of 1,000 queries is .002-.004 where recall is .95.
_SAMPLE = 1000
# At most a hundredth of the vectors is held out at a time: without a twentieth walks found .83 where with all edges
# they found .89 (8,000 x 64, epsilon 0.02).
_SHARE = 100


# Epsilons that are not yet large, and what three of them have to add to a recall to go on.
_SHORT, _PATIENCE, _GAIN = 0.25, 3, 0.005


class Recall(NamedTuple):
    """Share of the k nearest that were found.

    Attributes
    ----------
    value : float in [0, 1]
        Mean over queries.
    error : float
        Its standard error.
    n_queries : int
        Queries it was measured with.
    """

    value: float
    error: float
    n_queries: int


def draw_sample(n, random_state):
    """Draw which vectors are held out: a twentieth, at most 1,000.

    Parameters
    ----------
    n : int
        Number of vectors.
    random_state : numpy.random.RandomState
        Where from.

    Returns
    -------
    ndarray of shape (n_sample,), intp
        Positions, ascending.
    """
    return np.sort(random_state.choice(n, max(1, min(_SAMPLE, n // 20)), replace=False))


class HeldOut:
    """Queries that are not in the graph, with their true neighbours.

    Parameters
    ----------
    graph : pynndescent.NNDescent
        The graph; it is not changed.
    exact : ExactIndex
        Exact search over the vectors of the graph.
    sample : ndarray of shape (n_queries,), intp
        Which vectors are held out, to be the queries.
    k : int
        Neighbours to find.
    """

    def __init__(self, graph, exact, sample, k):
        self._k = k
        self._rounds = []
        for part in np.array_split(sample, -(-len(sample) * _SHARE // exact.n_samples)):
            mask = np.ones(exact.n_samples, dtype=bool)
            mask[part] = False
            queries = exact.vectors[part]
            farthest = exact.query(queries, k, Subset(mask))[0][:, -1]
            farthest = np.sqrt(2 * farthest) if exact.metric == "cosine" else farthest
            self._rounds.append((hold_out(graph, part, exact.vectors), queries, farthest))

    def recall(self, epsilon, leaf_budget=None):
        """Measure the recall of walks with this epsilon, from this many leaves (None: as they are).

        Ties count as found: with the k-th neighbour as far as the next, either is right.
        """
        shares = []
        for graph, queries, farthest in self._rounds:
            if leaf_budget is not None:
                set_leaf_budget(graph, leaf_budget)
            found, distances = graph.query(queries, k=self._k, epsilon=epsilon)
            # The library's distances are Euclidean and rounded in another way.
            hits = (distances <= farthest[:, None] * (1 + 1e-5) + 1e-6) & (found >= 0)
            shares.append(hits.mean(axis=1))
        shares = np.concatenate(shares)
        return Recall(float(shares.mean()), float(shares.std() / np.sqrt(len(shares))), len(shares))


def choose_walk(held_out, target, leaf_budgets):
    """Find a short walk that reaches a recall, with one standard error to spare.

    Few leaves and a small epsilon come first. More leaves are tried where epsilon would have to be large: a walk does
    not leave the part of the graph it starts in, however far it goes.

    Parameters
    ----------
    held_out : HeldOut
        What to measure with.
    target : float in (0, 1]
        The recall wanted.
    leaf_budgets : sequence of int
        Leaves of the search tree that a walk may start from, ascending.

    Returns
    -------
    epsilon : float
        One of `EPSILONS`.
    leaf_budget : int
        One of `leaf_budgets`. If nothing reaches the target, both are those that come nearest.
    recall : Recall
        What they reach.
    """
    tried = []
    for leaf_budget in leaf_budgets:
        recalls = []
        for epsilon in EPSILONS:
            recalls.append(held_out.recall(epsilon, leaf_budget))
            if recalls[-1].value - recalls[-1].error >= target or _stuck(recalls):
                break
        reached = recalls[-1].value - recalls[-1].error >= target
        tried.append((not reached, epsilon if reached else -recalls[-1].value, epsilon, leaf_budget, recalls[-1]))
        if reached and epsilon <= _SHORT:
            break
    return min(tried)[2:]


def _stuck(recalls):
    """Whether going further has stopped to help."""
    return len(recalls) > _PATIENCE and recalls[-1].value - recalls[-1 - _PATIENCE].value < _GAIN
