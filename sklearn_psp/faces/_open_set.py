"""Open set of identities: how alike faces are to them, and a threshold that keeps unknown people out.

"Mated" is a face of somebody who is enrolled, "non-mated" one of anybody else, as in the field's standards
(ISO/IEC 19795-1, NIST FRVT); users call the latter unknown people.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sklearn_psp.exceptions import FewPairsWarning
from sklearn_psp.faces._identity_names import plain
from sklearn_psp.faces._scores import Calibration, calibrate, similarity_of_distance, similarity_of_score
from sklearn_psp.metrics import fpir_fnir, rate_interval, threshold_at_fpir
from sklearn_psp.utils._arrays import blocks, squared_norms
from sklearn_psp.utils._warnings import warn_user

__all__ = [
    "Cohort",
    "OpenSet",
    "Rule",
    "cohort",
    "fit_open_set",
    "given_threshold",
    "identity_similarities",
    "same_image_of_two",
]

# Compared at a time: 16 MiB of products, and 8 MiB of 128 features.
_QUERIES, _VECTORS = 256, 8192
# Enough for a rate of 0.01 to be known to a fifth; the time of 2,000 probes is that of 2,000 exact queries.
_N_PROBES, _N_OTHERS = 2_000, 100_000
# Similarities of probes to identities, in float64: 128 MiB.
_MOST_SIMILARITIES = 1 << 24
# Slope of the log-odds over the spread of similarities where these say nothing: who is more alike stays ahead.
_LEAST_SLOPE = 1e-6
_UNKNOWN = (math.nan, math.nan)


class Rule(NamedTuple):
    """Parameters of `FaceIdentifier` by which a threshold is set when its gallery changes."""

    fpir: float
    threshold: float | None
    unknown_label: Any
    random_state: Any


class OpenSet(NamedTuple):
    """Threshold, error rates and calibration of a gallery, on the scale of similarities.

    Parameters
    ----------
    threshold : float
        The threshold.
    fpir, fnir : float
        Rates on the probes; NaN where there were none.
    fpir_interval, fnir_interval : tuple of two floats
        Their confidence intervals.
    n_mated, n_nonmated : int
        Number of probes.
    calibration : tuple or None
        The fields of a `Calibration`; None where nobody has two images, or one person is alone.
    """

    threshold: float
    fpir: float = math.nan
    fpir_interval: tuple[float, float] = _UNKNOWN
    fnir: float = math.nan
    fnir_interval: tuple[float, float] = _UNKNOWN
    n_mated: int = 0
    n_nonmated: int = 0
    calibration: tuple | None = None


def fit_open_set(
    vectors: np.ndarray,
    codes: np.ndarray,
    n_identities: int,
    nonmated: np.ndarray,
    *,
    metric: str,
    fpir: float | None,
    threshold: float | None,
    random_state: np.random.RandomState,
) -> OpenSet:
    """Fit the threshold of a gallery, and measure it.

    Non-mated probes are the images of unknown people and, as they would fare if they were not enrolled, images of the
    gallery against everybody else. Mated probes are the same images of the gallery against the others.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, n_features), float32
        The gallery; of unit length for the metric "cosine".
    codes : ndarray of shape (n_vectors,), int
        Whose image each is, from 0; everybody has one.
    n_identities : int
        Number of identities, at least one.
    nonmated : ndarray of shape (n_nonmated, n_features), float32
        Images of people who are not enrolled.
    metric : {"cosine", "euclidean"}
        The metric that the gallery is searched by.
    fpir : float or None
        The rate that the threshold is fitted for; None: for a closed set, which needs none.
    threshold : float or None
        A threshold that was given; needed if there is one person alone and no image of anybody else.
    random_state : RandomState
        Draws probes.

    Returns
    -------
    OpenSet
        The threshold and the rest.

    Warns
    -----
    FewPairsWarning
        If there are too few probes for the rate, or nobody has two images.
    """
    n_probes = max(100, min(_N_PROBES, _MOST_SIMILARITIES // n_identities))
    own, best_other, others = cohort(
        vectors, codes, n_identities, n_probes=n_probes, n_others=_N_OTHERS, random_state=random_state
    )
    highest = best_other[np.isfinite(best_other)]
    if len(nonmated):
        to_identities = identity_similarities(nonmated, vectors, codes, n_identities)
        highest = np.concatenate((to_identities.max(axis=1), highest))
        others = np.concatenate((others, to_identities.ravel()))
    mated = np.isfinite(own)
    calibration = None
    if mated.any() and len(others):
        calibration = tuple(_rising(own[mated], others))
    if fpir is None:
        return OpenSet(-math.inf, calibration=calibration)
    own, best_other, highest = (_as_searched(similarities, metric) for similarities in (own, best_other, highest))
    fitted = threshold is None
    if threshold is None:
        threshold = threshold_at_fpir(highest, fpir)
        if threshold > highest.max():
            # By a step of float32: one of float64 would be lost where the threshold is shown as a distance.
            threshold = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
    if not mated.any():
        knows = ". The threshold is fitted to unknown people alone" if fitted else ""
        warn_user(
            FewPairsWarning(
                "nobody has two images in the gallery: how often enrolled people are not recognised (fnir_) cannot "
                f"be measured, and probabilities cannot be given{knows}; enroll two or more images of some people"
            )
        )
    result = OpenSet(threshold, n_mated=int(mated.sum()), n_nonmated=len(highest), calibration=calibration)
    return _measured(result, own[mated], (own > best_other)[mated], highest)


def given_threshold(
    people: np.ndarray, nonmated: np.ndarray, metric: str, rule: Rule, before: OpenSet | None
) -> float | None:
    """Return the threshold of a gallery where none is to be fitted.

    Parameters
    ----------
    people : ndarray of shape (n_identities,)
        Who is enrolled.
    nonmated : ndarray of shape (n_nonmated, n_features), float32
        Images of people who are not enrolled.
    metric : {"cosine", "euclidean"}
        The metric that the gallery is searched by.
    rule : Rule
        Parameters of `FaceIdentifier`.
    before : OpenSet or None
        What the gallery had before it changed; None: it is new.

    Returns
    -------
    float or None
        A similarity, given or kept; None: it is to be fitted.

    Raises
    ------
    ValueError
        If a new gallery holds one person alone, and there are no images of anybody else.

    Warns
    -----
    FewPairsWarning
        If a gallery that has changed holds one person alone; the threshold is kept.
    """
    if rule.threshold is not None:
        return similarity_of_score(rule.threshold, metric)
    if rule.unknown_label is None or len(people) > 1 or len(nonmated):
        return None
    message = (
        f"{plain(people[0])!r} is the only person enrolled, and there are no images of unknown people: nothing tells "
        f"how alike two people may be; enroll others, or give fit images of others with y={rule.unknown_label!r}"
    )
    if before is None:
        raise ValueError(f"{message}, or pass threshold=")
    warn_user(FewPairsWarning(f"{message}; the threshold stays what it was"))
    return before.threshold


def _rising(own: np.ndarray, others: np.ndarray) -> Calibration:
    """Calibrate, with a slope above 0 even where images of one person are no more alike than those of two."""
    similarities = np.concatenate((own, others))
    line = calibrate(np.repeat([True, False], [len(own), len(others)]), similarities)
    least = _LEAST_SLOPE / (float(similarities.std()) if np.ptp(similarities) else 1.0)
    if line.slope >= least:
        return line
    level = math.log(line.prior / (1 - line.prior)) - least * float(similarities.mean())
    return Calibration(least, level, line.prior)


def _as_searched(similarities: np.ndarray, metric: str) -> np.ndarray:
    """Round similarities as the search does, whose distances are float32, so that `predict` decides as counted here."""
    half_squares = np.maximum(1 - similarities, 0)
    distances = half_squares if metric == "cosine" else np.sqrt(2 * half_squares)
    return similarity_of_distance(distances.astype(np.float32), metric)


def _measured(result: OpenSet, own: np.ndarray, first: np.ndarray, nonmated: np.ndarray) -> OpenSet:
    """Add the rates at the threshold, as far as there are probes."""
    rates: dict = {}
    # The metric takes probes of both kinds; of those that are missing one is made up, and its rate is not looked at.
    mated, ranks_first = (own, first) if len(own) else (np.zeros(1), np.ones(1, dtype=bool))
    fpir, fnir = fpir_fnir(mated, ranks_first, nonmated if len(nonmated) else np.zeros(1), result.threshold)
    for name, rate, n in (("fpir", fpir, len(nonmated)), ("fnir", fnir, len(own))):
        if n:
            rates |= {name: rate, f"{name}_interval": rate_interval(round(rate * n), n)}
    return result._replace(**rates)


def identity_similarities(
    queries: np.ndarray, vectors: np.ndarray, codes: np.ndarray, n_identities: int, own: np.ndarray | None = None
) -> np.ndarray:
    r"""Similarity of queries to identities: that to the most alike image of each.

    .. math:: s(x, p) = \max_{v \in p} 1 - \tfrac{1}{2} \lVert x - v \rVert^2

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_features), float32
        Descriptors; of unit length for the metric "cosine", as `vectors`.
    vectors : ndarray of shape (n_vectors, n_features), float32
        The gallery.
    codes : ndarray of shape (n_vectors,), int
        Whose image each is, from 0; everybody has one.
    n_identities : int
        Number of identities.
    own : ndarray of shape (n_queries,), int, or None, default=None
        Which of the vectors each query is, and is not compared with.

    Returns
    -------
    ndarray of shape (n_queries, n_identities), float64
        The similarities; minus infinity where a query is all there is of an identity.
    """
    order = np.argsort(codes, kind="stable")
    ordered_codes = codes[order]
    similarities = np.full((len(queries), n_identities), -np.inf)
    for part in blocks(len(order), _VECTORS):
        # float64: products of float32 rows do not tell nearly equal images apart.
        vectors_of = vectors[order[part]].astype(np.float64)
        halves = squared_norms(vectors[order[part]]) / 2
        first = ordered_codes[part.start]
        identities = slice(first, ordered_codes[part.stop - 1] + 1)
        starts = np.searchsorted(ordered_codes[part], np.arange(identities.start, identities.stop))
        for block in blocks(len(queries), _QUERIES):
            products = queries[block].astype(np.float64) @ vectors_of.T
            products += 1 - squared_norms(queries[block])[:, None] / 2 - halves
            if own is not None:
                products[own[block][:, None] == order[part]] = -np.inf
            best = np.maximum.reduceat(products, starts, axis=1)
            np.maximum(similarities[block, identities], best, out=similarities[block, identities])
    return similarities


class Cohort(NamedTuple):
    """Similarities of images of the gallery that are taken out of it, one by one.

    Parameters
    ----------
    own : ndarray of shape (n_probes,), float64
        Similarity to the other images of the same identity; minus infinity where there are none.
    best_other : ndarray of shape (n_probes,), float64
        The best similarity to anybody else, which is what this face would score if it were not enrolled; minus infinity
        where nobody else is.
    others : ndarray of shape (n,), float64
        Similarities to other identities, all or some.
    """

    own: np.ndarray
    best_other: np.ndarray
    others: np.ndarray


def cohort(
    vectors: np.ndarray,
    codes: np.ndarray,
    n_identities: int,
    *,
    n_probes: int,
    n_others: int,
    random_state: np.random.RandomState,
) -> Cohort:
    """Take images out of a gallery one by one, and compare them with what is left.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, n_features), float32
        The gallery.
    codes : ndarray of shape (n_vectors,), int
        Whose image each is, from 0; everybody has one.
    n_identities : int
        Number of identities.
    n_probes : int
        How many are taken out, at most; drawn at random.
    n_others : int
        How many similarities to other identities are returned, at most.
    random_state : RandomState
        Draws.

    Returns
    -------
    Cohort
        The similarities.
    """
    probes = _drawn(len(vectors), n_probes, random_state)
    similarities = identity_similarities(vectors[probes], vectors, codes, n_identities, own=probes)
    is_own = codes[probes][:, None] == np.arange(n_identities)
    own = similarities[is_own]
    others = similarities[~is_own]
    best_other = np.where(is_own, -np.inf, similarities).max(axis=1)
    return Cohort(own, best_other, others[_drawn(len(others), n_others, random_state)])


def _drawn(n: int, n_most: int, random_state: np.random.RandomState) -> np.ndarray:
    return np.arange(n) if n <= n_most else np.sort(random_state.choice(n, n_most, replace=False))


def same_image_of_two(vectors: np.ndarray, codes: np.ndarray) -> tuple[int, int] | None:
    """Find an image that is there as two identities.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, n_features), float32, C-contiguous
        Descriptors.
    codes : ndarray of shape (n_vectors,), int
        Whose image each is.

    Returns
    -------
    tuple of two ints, or None
        Two vectors that are the same, of two identities.
    """
    vectors = np.ascontiguousarray(vectors) + np.float32(0)  # -0.0 is 0.0
    whole = vectors.view(np.dtype((np.void, vectors.itemsize * vectors.shape[1])))[:, 0]
    _, first, group = np.unique(whole, return_index=True, return_inverse=True)
    other = np.flatnonzero(codes != codes[first[group]])
    return (int(first[group[other[0]]]), int(other[0])) if len(other) else None
