"""Pairs of images compared: their similarities, and the pairs that cannot be compared, with the reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sklearn_psp.exceptions import FaceError, ImageReadError
from sklearn_psp.faces._describing import FaceDescriptors, check_one_row_each, describe_images, reasons_of
from sklearn_psp.utils._arrays import row_blocks
from sklearn_psp.utils._pairs import Pairs

__all__ = ["compare_pairs", "failed_pairs", "pair_similarities", "pairs_error", "refused_pairs", "two_images_error"]

_SIDES = ("first", "second")
# As many as the reader of images names of missing files.
_N_NAMED = 10
_LEAVE_OUT = 'remove the pair or pass on_error="nan"'


def compare_pairs(
    featurizer: Any, pairs: Pairs, *, metric: str, on_error: str, same: np.ndarray | None = None
) -> tuple[np.ndarray, pd.DataFrame]:
    """Describe the images of pairs, each once, and compare the two of each pair.

    Parameters
    ----------
    featurizer : estimator or None
        A transformer of images, fitted unless `same` is given; None: the pairs hold descriptors.
    pairs : Pairs
        The pairs.
    metric : {"cosine", "euclidean"}
        For "cosine" descriptors are brought to unit length.
    on_error : {"raise", "nan"}
        What an image does that cannot be described, in every step of ours.
    same : ndarray of shape (n_pairs,), bool, or None, default=None
        Whether a pair is genuine; the featurizer is fitted, and told who is in the images as far as that tells.

    Returns
    -------
    similarities : ndarray of shape (n_pairs,), float64
        1 - d^2 / 2; NaN for pairs that cannot be compared.
    failures : DataFrame
        As of `failed_pairs`.

    Raises
    ------
    ImageReadError
        With `on_error="raise"`, if an image cannot be used; it names the pair, and has the class of the error of the
        featurizer.
    """
    who = pairs.people(same) if same is not None and featurizer is not None else None
    try:
        rows, failures = describe_images(featurizer, pairs.items, who, on_error=on_error, fit=same is not None)
    except ImageReadError as error:
        of_pairs = pairs_error(error, pairs)
        if of_pairs is None:
            raise
        raise of_pairs from error
    check_one_row_each(rows, len(pairs.items))
    described = FaceDescriptors(rows, metric, failures)
    valid = described.valid[pairs.first] & described.valid[pairs.second]
    similarities = np.full(pairs.n_pairs, np.nan)
    similarities[valid] = pair_similarities(described.rows, pairs.first[valid], pairs.second[valid])
    return similarities, failed_pairs(pairs, described.reasons())


def pair_similarities(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
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


def failed_pairs(pairs: Pairs, reasons: Mapping[int, str]) -> pd.DataFrame:
    """Tabulate the pairs that cannot be compared.

    Parameters
    ----------
    pairs : Pairs
        The pairs.
    reasons : dict of int to str
        Why an image cannot be used, by its place in `items`.

    Returns
    -------
    DataFrame
        One row for each such image of a pair: `index` (position of the pair), `side` ("first" or "second"), `source`
        and `reason`.
    """
    rows = []
    if reasons:
        from sklearn_psp._images import describe_source

        rows = [
            (int(pair), _SIDES[side], describe_source(pairs.items[places[pair]]), reasons[places[pair]])
            for side, places in enumerate((pairs.first, pairs.second))
            for pair in np.flatnonzero(np.isin(places, list(reasons)))
        ]
    rows.sort(key=lambda row: row[0])
    # Of arrays, as `failures_frame` and for its reason.
    frame = {"index": np.array([pair for pair, *_ in rows], dtype=np.int64)}
    for i, name in enumerate(("side", "source", "reason"), start=1):
        frame[name] = np.array([row[i] for row in rows], dtype=object)
    return pd.DataFrame(frame)


def pairs_error(error: ImageReadError, pairs: Pairs) -> ImageReadError | None:
    """Compose the error about pairs that follows from an error about their images.

    Parameters
    ----------
    error : ImageReadError
        Of a featurizer that was given `pairs.items`.
    pairs : Pairs
        The pairs.

    Returns
    -------
    ImageReadError or None
        Of the same class, with the table of `failed_pairs` as `errors`. None if the error does not tell which images
        it is about.
    """
    if error.errors is None or error.errors.empty:
        return None
    failures = failed_pairs(pairs, reasons_of(error.errors))
    if failures.empty:
        return None
    first = failures.iloc[0]
    if isinstance(error, FileNotFoundError):  # of missing files all are named at once
        images = failures.drop_duplicates("source")
        named = ", ".join(_place(row) for _, row in images.head(_N_NAMED).iterrows())
        more = f" and {len(images) - _N_NAMED:,} more (all in the error's .errors)" if len(images) > _N_NAMED else ""
        message = (
            f"{len(images):,} of {len(pairs.items):,} images are files that do not exist: {named}{more}; correct the "
            f"paths (the working directory is {os.getcwd()!r}), {_LEAVE_OUT}"
        )
    else:
        message = f"{_place(first)}: {first['reason']}; {_also(error.remedy)}{_LEAVE_OUT}"
    return type(error)(message, failures, remedy=error.remedy)


def two_images_error(error: type[ImageReadError], failures: pd.DataFrame, remedy: str | None = None) -> ImageReadError:
    """Compose the error about one of two images that cannot be compared, from the failures of their pair."""
    first = failures.iloc[0]
    also = "" if remedy is None else f"; {remedy}"
    return error(
        f"the {first['side']} image ({_quoted(first['source'])}) cannot be compared: {first['reason']}{also}",
        failures,
        remedy=remedy,
    )


def refused_pairs(failures: pd.DataFrame) -> FaceError:
    """Compose the error about pairs whose descriptors cannot be compared."""
    first = failures.iloc[0]
    return FaceError(f"{_place(first)}: {first['reason']}; {_LEAVE_OUT}", failures)


def _place(failure: pd.Series) -> str:
    return f"pairs[{failure['index']}], the {failure['side']} ({_quoted(failure['source'])})"


def _quoted(source: str) -> str:
    from sklearn_psp._images import quote_source

    return quote_source(source)


def _also(remedy: str | None) -> str:
    return "" if remedy is None else f"{remedy}, "
