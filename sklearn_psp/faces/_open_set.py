"""A threshold that keeps strangers out, and what it and scores are worth, from images whose people are known."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sklearn_psp.exceptions import FewPairsWarning
from sklearn_psp.faces._people import cohort, person_similarities
from sklearn_psp.faces._scores import Calibration, calibrate, similarity_of_distance
from sklearn_psp.metrics import fpir_fnir, rate_interval, threshold_at_fpir
from sklearn_psp.utils._warnings import warn_user

__all__ = ["OpenSet", "fit_open_set"]

# Enough for a rate of 0.01 to be known to a fifth; the time of 2,000 probes is that of 2,000 exact queries.
_N_PROBES, _N_OTHERS = 2_000, 100_000
# Similarities of probes to people, in float64: 128 MiB.
_MOST_SIMILARITIES = 1 << 24
# Of the log-odds, over the spread of similarities, where these say nothing.
_LEAST_SLOPE = 1e-6
_UNKNOWN = (math.nan, math.nan)


class OpenSet(NamedTuple):
    """What was learned, on the scale of similarities.

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
        The fields of a `Calibration`; None where nobody has two images.
    """

    threshold: float
    fpir: float = math.nan
    fpir_interval: tuple[float, float] = _UNKNOWN
    fnir: float = math.nan
    fnir_interval: tuple[float, float] = _UNKNOWN
    n_mated: int = 0
    n_nonmated: int = 0
    calibration: tuple | None = None


def fit_open_set(vectors, codes, n_people, strangers, *, metric, fpir, threshold, random_state):
    """Fit the threshold of a gallery, and measure it.

    Non-mated probes are the strangers and, as they would fare if they were not enrolled, images of the gallery
    against everybody else. Mated probes are the same images of the gallery against the others.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, n_features), float32
        The gallery; of unit length for the metric "cosine".
    codes : ndarray of shape (n_vectors,), int
        Whose image each is, from 0; everybody has one.
    n_people : int
        Number of people, at least one.
    strangers : ndarray of shape (n_strangers, n_features), float32
        Images of people who are not enrolled.
    metric : {"cosine", "euclidean"}
        The metric that the gallery is searched by.
    fpir : float or None
        The rate that the threshold is fitted for; None: for a closed set, which needs none.
    threshold : float or None
        A threshold that was given; needed if there is one person alone and no stranger.
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
    n_probes = max(100, min(_N_PROBES, _MOST_SIMILARITIES // n_people))
    own, best_other, others = cohort(
        vectors, codes, n_people, n_probes=n_probes, n_others=_N_OTHERS, random_state=random_state
    )
    nonmated = best_other[np.isfinite(best_other)]
    if len(strangers):
        to_people = person_similarities(strangers, vectors, codes, n_people)
        nonmated = np.concatenate((to_people.max(axis=1), nonmated))
        others = np.concatenate((others, to_people.ravel()))
    mated = np.isfinite(own)
    calibration = None
    if mated.any() and len(others):
        calibration = tuple(_rising(own[mated], others))
    if fpir is None:
        return OpenSet(-math.inf, calibration=calibration)
    own, best_other, nonmated = (_as_searched(similarities, metric) for similarities in (own, best_other, nonmated))
    fitted = threshold is None
    if fitted:
        threshold = threshold_at_fpir(nonmated, fpir)
        if threshold > nonmated.max():
            # By a step of float32: one of float64 would be lost where the threshold is shown as a distance.
            threshold = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
    if not mated.any():
        knows = ". The threshold knows strangers alone" if fitted else ""
        warn_user(
            FewPairsWarning(
                "nobody has two images in the gallery: how often enrolled people are not recognised (fnir_) cannot "
                f"be measured, and probabilities cannot be given{knows}; enroll two or more images of some people"
            )
        )
    result = OpenSet(threshold, n_mated=int(mated.sum()), n_nonmated=len(nonmated), calibration=calibration)
    return _measured(result, own[mated], (own > best_other)[mated], nonmated)


def _rising(own, others):
    """Calibrate; where a person is no more like themself than like others, so that who is more alike stays ahead."""
    similarities = np.concatenate((own, others))
    line = calibrate(np.repeat([True, False], [len(own), len(others)]), similarities)
    least = _LEAST_SLOPE / (float(similarities.std()) if np.ptp(similarities) else 1.0)
    if line.slope >= least:
        return line
    level = math.log(line.prior / (1 - line.prior)) - least * float(similarities.mean())
    return Calibration(least, level, line.prior)


def _as_searched(similarities, metric):
    """Round similarities as the search does, whose distances are float32, so that `predict` decides as counted here."""
    half_squares = np.maximum(1 - similarities, 0)
    distances = half_squares if metric == "cosine" else np.sqrt(2 * half_squares)
    return similarity_of_distance(distances.astype(np.float32), metric)


def _measured(result, own, first, nonmated):
    """Add the rates at the threshold, as far as there are probes."""
    rates = {}
    # The metric takes probes of both kinds; of those that are missing one is made up, and its rate is not looked at.
    probes = (own, first) if len(own) else (np.zeros(1), np.ones(1, dtype=bool))
    fpir, fnir = fpir_fnir(*probes, nonmated if len(nonmated) else np.zeros(1), result.threshold)
    for name, rate, n in (("fpir", fpir, len(nonmated)), ("fnir", fnir, len(own))):
        if n:
            rates |= {name: rate, f"{name}_interval": rate_interval(round(rate * n), n)}
    return result._replace(**rates)
