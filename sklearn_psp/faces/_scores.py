"""How alike two faces are, and what that says of the person.

Everything is decided on one scale, s = 1 - d^2 / 2 with d the distance of two descriptors, which is their cosine
similarity where they have unit length. A metric only changes how s is shown, so that all metrics decide alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from sklearn_psp.utils._arrays import row_blocks

__all__ = [
    "METRICS",
    "Calibration",
    "as_score",
    "calibrate",
    "pair_similarities",
    "similarity_of_distance",
    "similarity_of_score",
]

METRICS = ("cosine", "euclidean")


def pair_similarities(rows, first, second):
    """Compare pairs of rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features), float32
        Descriptors.
    first, second : ndarray of shape (n_pairs,), int
        Which rows a pair is of.

    Returns
    -------
    ndarray of shape (n_pairs,), float64
        1 - d^2 / 2; not finite where a row is not.
    """
    similarities = np.empty(len(first))
    for block in row_blocks(len(first), rows.shape[1]):
        # From differences: a product of float32 rows cancels where they are nearly equal.
        difference = rows[first[block]].astype(np.float64) - rows[second[block]]
        similarities[block] = 1 - (difference * difference).sum(axis=1) / 2
    return similarities


def as_score(similarity, metric):
    """Show a similarity in a metric: itself for "cosine", the distance with a minus sign for "euclidean"."""
    # A threshold that nothing reaches may lie above the similarity of an image to itself, where no distance is.
    return similarity if metric == "cosine" else -np.sqrt(np.maximum(2 - 2 * np.asarray(similarity), 0))


def similarity_of_score(score, metric):
    """Return the similarity that is shown as a score; the way back of `as_score`."""
    return float(score) if metric == "cosine" else 1 - min(score, 0.0) ** 2 / 2


def similarity_of_distance(distance, metric):
    """Return the similarity of a distance as `NearestImageRetriever` gives it, in float64."""
    distance = np.asarray(distance, dtype=np.float64)
    return 1 - distance if metric == "cosine" else 1 - distance * distance / 2


class Calibration(NamedTuple):
    """What a similarity says: the log-odds of a genuine comparison are a straight line over it.

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

    def probability(self, similarity):
        """Probability that it is the same person, if as many are as among those learned from; NaN stays NaN."""
        return expit(self.slope * similarity + self.intercept)

    def log_likelihood_ratio(self, similarity):
        """Logarithm of how many times as likely a similarity is for the same person as for another one."""
        return self.slope * similarity + self.intercept - np.log(self.prior / (1 - self.prior))


def calibrate(same, similarity):
    """Learn what a similarity says, after Platt.

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
