"""Error rates written a second time, pair by pair in plain loops, straight from the definitions."""

import itertools
import math


def far(y_true, scores, threshold):
    impostors = [score for same, score in zip(y_true, scores, strict=True) if not same]
    return sum(score >= threshold for score in impostors) / len(impostors)


def frr(y_true, scores, threshold):
    genuine = [score for same, score in zip(y_true, scores, strict=True) if same]
    return sum(score < threshold for score in genuine) / len(genuine)


def thresholds(scores):
    return [*sorted(set(scores)), math.inf]


def tar_at_far(y_true, scores, target):
    return max(1 - frr(y_true, scores, t) for t in thresholds(scores) if far(y_true, scores, t) <= target)


def equal_error_rate(y_true, scores):
    """Walk along the drawn curve to where it meets the diagonal."""
    points = [(far(y_true, scores, t), frr(y_true, scores, t)) for t in thresholds(scores)]
    for (far_a, frr_a), (far_b, frr_b) in itertools.pairwise(points):
        if far_b <= frr_b:
            # far_a + x (far_b - far_a) = frr_a + x (frr_b - frr_a)
            x = (far_a - frr_a) / ((far_a - frr_a) + (frr_b - far_b))
            return far_a + x * (far_b - far_a)
    raise AssertionError("the curve ends at FAR 0 and FRR 1")


def accuracy(y_true, scores, threshold):
    return sum((score >= threshold) == bool(same) for same, score in zip(y_true, scores, strict=True)) / len(scores)


def best_accuracy(y_true, scores):
    return max(accuracy(y_true, scores, t) for t in thresholds(scores))


def fpir(nonmated_scores, threshold):
    return sum(score >= threshold for score in nonmated_scores) / len(nonmated_scores)


def fnir(mated_scores, mated_first, threshold):
    missed = [not (first and s >= threshold) for s, first in zip(mated_scores, mated_first, strict=True)]
    return sum(missed) / len(missed)
