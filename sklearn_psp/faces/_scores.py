"""Similarities of faces, their scores in a metric, the odds they stand for, and a threshold fitted to pairs.

Everything is decided on one scale, s = 1 - d^2 / 2 with d the distance of two descriptors, which is their cosine
similarity where they have unit length. A metric only changes how s is shown, so that all metrics decide alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from sklearn_psp.metrics import equal_error_rate, far_frr, rate_interval, threshold_at, threshold_interval

__all__ = [
    "METRICS",
    "Calibration",
    "PairThreshold",
    "as_score",
    "calibrate",
    "fit_pair_threshold",
    "similarity_of_distance",
    "similarity_of_score",
]

METRICS = ("cosine", "euclidean")


def as_score(similarity: npt.ArrayLike, metric: str) -> Any:
    """Show a similarity in a metric: itself for "cosine", the distance with a minus sign for "euclidean"."""
    # A threshold that nothing reaches may lie above the similarity of an image to itself, where no distance is.
    return similarity if metric == "cosine" else -np.sqrt(np.maximum(2 - 2 * np.asarray(similarity), 0))


def similarity_of_score(score: float, metric: str) -> float:
    """Return the similarity that is shown as a score; the inverse of `as_score`."""
    return float(score) if metric == "cosine" else 1 - min(score, 0.0) ** 2 / 2


def similarity_of_distance(distance: npt.ArrayLike, metric: str) -> np.ndarray:
    """Return the similarity of a distance as `NearestImageRetriever` gives it, in float64."""
    distance = np.asarray(distance, dtype=np.float64)
    return 1 - distance if metric == "cosine" else 1 - distance * distance / 2


class Calibration(NamedTuple):
    """Log-odds of a genuine comparison, as a straight line over the similarity.

    Parameters
    ----------
    slope, intercept : float
        Of that line, for comparisons of which `prior` are genuine.
    prior : float in (0, 1)
        Share of the genuine ones among those that it was learned from.
    """

    slope: float
    intercept: float
    prior: float

    def probability(self, similarity: npt.ArrayLike) -> Any:
        """Probability that it is the same person, if as many are as among those learned from; NaN stays NaN."""
        return expit(self.slope * np.asarray(similarity) + self.intercept)

    def log_likelihood_ratio(self, similarity: np.ndarray) -> np.ndarray:
        """Logarithm of how many times as likely a similarity is for the same person as for another one."""
        return self.slope * similarity + self.intercept - np.log(self.prior / (1 - self.prior))


def calibrate(same: np.ndarray, similarity: np.ndarray) -> Calibration:
    """Learn the odds that a similarity stands for, after Platt.

    Two comparisons are added in thought, a genuine and an impostor one, so that comparisons which a threshold separates
    do not give a step.

    Parameters
    ----------
    same : ndarray of shape (n,), bool
        Whether a comparison is genuine; some are, some are not.
    similarity : ndarray of shape (n,), float64
        The similarities.

    Returns
    -------
    Calibration
        The line; it falls where genuine comparisons are less alike than the others.

    References
    ----------
    Platt, "Probabilistic Outputs for Support Vector Machines", 1999, the targets of section 2.2.
    """
    n_genuine = int(np.count_nonzero(same))
    n_impostor = len(same) - n_genuine
    believed = np.where(same, (n_genuine + 1) / (n_genuine + 2), 1 / (n_impostor + 2))
    # A target between 0 and 1 is one comparison of each kind, with weights.
    # Of equal numbers the deviation is often not 0, but rounding.
    center, spread = similarity.mean(), similarity.std() if np.ptp(similarity) else 1.0
    X = np.tile((similarity - center) / spread, 2)[:, None]
    y = np.repeat([1, 0], len(similarity))
    weights = np.concatenate((believed, 1 - believed))
    line = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(X, y, sample_weight=weights)
    slope = float(line.coef_[0, 0] / spread)
    return Calibration(slope, float(line.intercept_[0] - slope * center), n_genuine / len(same))


class PairThreshold(NamedTuple):
    """Threshold fitted to labelled pairs, its error rates there, and the calibration of their similarities.

    Parameters
    ----------
    similarity : float
        The threshold as a similarity: pairs at or above it are accepted.
    shown : float
        The same in the metric.
    interval : tuple of two floats
        Confidence interval, in the metric.
    far, frr, eer : float
        False acceptance, false rejection and equal error rate.
    far_interval, frr_interval : tuple of two floats
        Confidence intervals of the rates.
    n_genuine, n_impostor : int
        Number of pairs.
    calibration : Calibration
        Odds of a genuine pair.
    """

    similarity: float
    shown: float
    interval: tuple[float, float]
    far: float
    frr: float
    eer: float
    far_interval: tuple[float, float]
    frr_interval: tuple[float, float]
    n_genuine: int
    n_impostor: int
    calibration: Calibration


def fit_pair_threshold(
    same: np.ndarray,
    similarity: np.ndarray,
    target: Any,
    *,
    items: np.ndarray,
    metric: str,
    confidence: float,
    random_state: Any,
) -> PairThreshold:
    """Fit a threshold to labelled pairs.

    Parameters
    ----------
    same : ndarray of shape (n_pairs,), bool
        Whether a pair is genuine; some are, some are not.
    similarity : ndarray of shape (n_pairs,), float64
        Similarities of the two of each pair.
    target : {"accuracy", "eer"} or tuple ("far", rate)
        What the threshold is to reach.
    items : ndarray of shape (n_pairs, 2), int
        Images of each pair, over which the interval of the threshold is bootstrapped.
    metric : {"cosine", "euclidean"}
        What the threshold is shown in.
    confidence : float in (0, 1)
        Of the intervals.
    random_state : int, RandomState instance or None
        Seed of the bootstrap.

    Returns
    -------
    PairThreshold
        The threshold and all that is known of it.

    Warns
    -----
    FewPairsWarning
        If there are too few impostor pairs for the target.
    """
    threshold = threshold_at(same, similarity, target)
    interval = threshold_interval(
        same, similarity, target, items=items, confidence=confidence, random_state=random_state
    )
    rejected = as_score(similarity[similarity < threshold], metric)
    # A distance is coarser than a similarity: rounded, the threshold may fall on a pair that it rejects.
    lowest = np.nextafter(rejected.max(initial=-np.inf), np.inf)
    low, high = (float(as_score(end, metric)) for end in interval)
    far, frr = far_frr(same, similarity, threshold)
    n_genuine = int(np.count_nonzero(same))
    n_impostor = len(same) - n_genuine
    far_interval, frr_interval = (
        rate_interval(round(rate * n), n, confidence=confidence) for rate, n in ((far, n_impostor), (frr, n_genuine))
    )
    return PairThreshold(
        similarity=threshold,
        shown=float(max(as_score(threshold, metric), lowest)),
        interval=(low, high),
        far=far,
        frr=frr,
        eer=equal_error_rate(same, similarity),
        far_interval=far_interval,
        frr_interval=frr_interval,
        n_genuine=n_genuine,
        n_impostor=n_impostor,
        calibration=calibrate(same, similarity),
    )
