"""Checks of what rates of false decisions are counted from: labels of pairs, scores, weights, and the target."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_flags", "as_scores", "check_pairs", "check_sample_weight", "check_target"]


def check_pairs(
    y_true: npt.ArrayLike, scores: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Check the arrays every rate of pairs takes.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        Whether a pair is genuine.
    scores : array-like of shape (n_pairs,)
        How alike the two of a pair are.
    sample_weight : array-like of shape (n_pairs,), default=None
        Weights of the pairs.

    Returns
    -------
    same : ndarray of shape (n_pairs,), bool
        Whether a pair is genuine.
    scores : ndarray of shape (n_pairs,), floating
        The scores in their own precision.
    sample_weight : ndarray of shape (n_pairs,), float64, or None
        The weights.

    Raises
    ------
    ValueError
        If they are empty, of different lengths, not numbers or not finite, or one kind of pairs is missing.
    """
    same, scores = as_flags(y_true, "y_true", "1 for a pair of the same person"), as_scores(scores, "scores")
    if len(same) != len(scores):
        raise ValueError(f"scores must hold one number for each of the {len(same)} pairs of y_true; got {len(scores)}")
    weights = check_sample_weight(sample_weight, len(same), of="pairs")
    for kind, here, rate in (("genuine (1)", same, "FRR"), ("impostor (0)", ~same, "FAR")):
        if not here.any():
            raise ValueError(f"y_true holds no {kind} pairs, so {rate} is undefined; pass pairs of both kinds")
        if weights is not None and not weights[here].any():
            raise ValueError(f"sample_weight is 0 for all {kind} pairs, so {rate} is undefined")
    return same, scores, weights


def as_flags(values: npt.ArrayLike, name: str, meaning: str) -> np.ndarray:
    """Make True or False of bool, 0 and 1."""
    flags = np.asarray(values)
    rule = f"{name} must be bool, or 0 and 1 ({meaning})"
    if flags.ndim != 1:
        raise ValueError(f"{name} must have one dimension; got the shape {flags.shape}")
    if not len(flags):
        raise ValueError(f"{name} is empty: a rate of nothing is undefined")
    if flags.dtype.kind == "O":  # pandas' own booleans, or a list with None
        try:
            flags = flags.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{rule}; it also holds something else: {error}") from None
    if flags.dtype.kind not in "biuf":
        raise ValueError(f"{rule}; got the dtype {flags.dtype}; compare labels first, as in name_a == name_b")
    if flags.dtype != bool:
        wrong = ~((flags == 0) | (flags == 1))
        if wrong.any():
            place = int(np.argmax(wrong))
            raise ValueError(f"{rule}; {name}[{place}] is {flags[place]}")
    return flags.astype(bool)


def as_scores(values: npt.ArrayLike, name: str, required: np.ndarray | None = None) -> np.ndarray:
    """Make an array of finite numbers, in their own precision where they have one.

    A threshold taken from float32 scores is then a float32 number, and stays exact when it is compared with others.
    """
    scores = np.asarray(values)
    if scores.ndim != 1:
        raise ValueError(f"{name} must have one dimension; got the shape {scores.shape}")
    if not len(scores):
        raise ValueError(f"{name} is empty: a rate of nothing is undefined")
    if scores.dtype.kind != "f":
        try:
            scores = scores.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be numbers: {error}") from None
    wrong = ~np.isfinite(scores)
    if required is not None:
        wrong &= required
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must be finite; {name}[{place}] is {scores[place]}, and {np.count_nonzero(wrong):,} of "
            f"{len(scores):,} are not; leave out what could not be compared, and report how often that happens"
        )
    return scores


def check_sample_weight(sample_weight: npt.ArrayLike | None, n: int, of: str = "queries") -> np.ndarray | None:
    """Make weights an array of float64, or keep None."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight must have the shape (n_{of},) = ({n},); got the shape {weights.shape}")
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"sample_weight must be finite and not negative; sample_weight[{row}] is {weights[row]}")
    return weights


def check_target(target: Any) -> tuple[str, float | None]:
    """Return the kind of a target, and its rate or None."""
    if isinstance(target, str) and target in ("accuracy", "eer"):
        return target, None
    if isinstance(target, tuple | list) and len(target) == 2 and target[0] == "far":
        rate = target[1]
        if isinstance(rate, Real) and not isinstance(rate, bool) and 0 < float(rate) <= 1:
            return "far", float(rate)
    raise ValueError(f'target must be "accuracy", "eer" or ("far", rate) with 0 < rate <= 1; got {target!r}')
