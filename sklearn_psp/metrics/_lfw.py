"""The protocol of Labeled Faces in the Wild: its list of pairs, and its accuracy over folds."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import Bunch

from sklearn_psp.metrics._verification import threshold_at
from sklearn_psp.utils._flags import check_pairs

__all__ = ["lfw_accuracy", "read_lfw_pairs"]

_SAME, _DIFFERENT = "'name number number'", "'name number name number'"


def lfw_accuracy(y_true: npt.ArrayLike, scores: npt.ArrayLike, folds: npt.ArrayLike) -> Bunch:
    r"""Accuracy of verification by the protocol of Labeled Faces in the Wild.

    Each fold is decided with the threshold that is most accurate on all other folds. Of the accuracies :math:`p_i` of
    the k folds, the mean and its standard error are reported [1]_:

    .. math:: \hat\mu = \frac{1}{k} \sum_i p_i, \qquad
        S_E = \frac{\hat\sigma}{\sqrt{k}}, \qquad \hat\sigma^2 = \frac{1}{k - 1} \sum_i (p_i - \hat\mu)^2

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,), bool or 0 and 1
        1 for a genuine pair (the same person), 0 for an impostor pair.
    scores : array-like of shape (n_pairs,), float
        Similarity of the two of each pair; higher is more alike. For distances pass `-distances`.
    folds : array-like of shape (n_pairs,)
        The fold of each pair, such as the column `fold` of `read_lfw_pairs`: integers, strings or any labels. No person
        should be in two folds.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes:

        mean : float
            Mean of the accuracies of the folds.
        standard_error : float
            Standard error of the mean.
        folds : ndarray of shape (n_folds,)
            Names of the folds, sorted.
        accuracies : ndarray of shape (n_folds,), float64
            Accuracy on each fold.
        thresholds : ndarray of shape (n_folds,), float64
            Threshold of the decisions on each fold.

    Raises
    ------
    ValueError
        If there are fewer than two folds, a fold is missing, all pairs outside a fold are of one kind, the lengths
        differ, or a score is not a finite number.

    See Also
    --------
    read_lfw_pairs : Reads the pairs of the protocol.
    threshold_at : The threshold of a fold, with the target "accuracy".

    Notes
    -----
    The training data of the network belong to the protocol too: a figure is reported under one of the six headings of
    [2]_, mostly "unrestricted with labeled outside data".

    References
    ----------
    .. [1] G. B. Huang et al., "Labeled Faces in the Wild: A Database for Studying Face Recognition in Unconstrained
       Environments", University of Massachusetts, Amherst, Technical Report 07-49, 2007.
    .. [2] G. B. Huang and E. Learned-Miller, "Labeled Faces in the Wild: Updates and New Reporting Procedures",
       University of Massachusetts, Amherst, Technical Report UM-CS-2014-003, 2014.

    Examples
    --------
    >>> from sklearn_psp.metrics import lfw_accuracy
    >>> y_true = [1, 1, 0, 0, 1, 1, 0, 0]
    >>> scores = [0.9, 0.8, 0.2, 0.4, 0.7, 0.3, 0.1, 0.2]
    >>> result = lfw_accuracy(y_true, scores, folds=[0, 0, 0, 0, 1, 1, 1, 1])
    >>> result.mean, result.standard_error
    (0.75, 0.0)
    """
    same, values, _ = check_pairs(y_true, scores)
    fold_of, names = _check_folds(folds, len(same))
    accuracies, thresholds = np.empty(len(names)), np.empty(len(names))
    for fold, name in enumerate(names):
        here = fold_of == fold
        for kind, of_kind in (("genuine (1)", same), ("impostor (0)", ~same)):
            if not of_kind[~here].any():
                raise ValueError(f"outside the fold {name} there are no {kind} pairs to choose its threshold on")
        thresholds[fold] = threshold_at(same[~here], values[~here], "accuracy")
        accuracies[fold] = np.mean((values[here].astype(np.float64) >= thresholds[fold]) == same[here])
    return Bunch(
        mean=float(accuracies.mean()),
        standard_error=float(accuracies.std(ddof=1) / np.sqrt(len(names))),
        folds=names,
        accuracies=accuracies,
        thresholds=thresholds,
    )


def read_lfw_pairs(path: str | os.PathLike) -> pd.DataFrame:
    """Read a list of pairs in the format of Labeled Faces in the Wild.

    The first line of `pairs.txt` holds the number of folds and n, the number of pairs of either kind in a fold; that
    of `pairsDevTrain.txt` and `pairsDevTest.txt` only n, for one fold. For each fold follow n lines `name number
    number`, two images of the same person, and then n lines `name number name number`, images of two people.

    Parameters
    ----------
    path : str or path-like
        The file. Fields are separated by tabs, or by spaces in lines without a tab.

    Returns
    -------
    pairs : DataFrame
        One row a pair, in the order of the file, with the columns `fold` (from 0), `name_a`, `number_a`, `name_b`,
        `number_b`, `same` (bool), and `file_a`, `file_b`: the files below the folder of the images, such as
        `Abel_Pacheco/Abel_Pacheco_0001.jpg`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not in the format, with the number of the line.

    See Also
    --------
    lfw_accuracy : The accuracy of the protocol.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_psp.metrics import read_lfw_pairs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pairs.txt")
    ...     _ = path.write_text("1\\t1\\nAda\\t1\\t2\\nAda\\t3\\tBob\\t1\\n")
    ...     pairs = read_lfw_pairs(path)
    >>> pairs[["fold", "file_a", "file_b", "same"]]
       fold            file_a            file_b   same
    0     0  Ada/Ada_0001.jpg  Ada/Ada_0002.jpg   True
    1     0  Ada/Ada_0003.jpg  Bob/Bob_0001.jpg  False
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [(number, line.strip()) for number, line in enumerate(file, start=1) if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from None
    if not lines:
        raise ValueError(f"{path} is empty; its first line must hold the number of folds and of pairs of either kind")
    n_folds, n_pairs = _read_header(path, *lines[0])
    rows = []
    for place, (number, line) in enumerate(lines[1:]):
        fold, in_fold = divmod(place, 2 * n_pairs)
        if fold == n_folds:
            raise ValueError(
                f"{path}, line {number}: one pair too many; line {lines[0][0]} promises {_expected(n_folds, n_pairs)}"
            )
        rows.append((fold, *_read_pair(path, number, line, in_fold < n_pairs)))
    if len(rows) < 2 * n_folds * n_pairs:
        raise ValueError(
            f"{path} ends after line {lines[-1][0]} with {len(rows):,} pairs; line {lines[0][0]} promises "
            f"{_expected(n_folds, n_pairs)}"
        )
    pairs = pd.DataFrame(rows, columns=["fold", "name_a", "number_a", "name_b", "number_b", "same"])
    for side in "ab":
        names, numbers = pairs[f"name_{side}"], pairs[f"number_{side}"]
        pairs[f"file_{side}"] = [f"{name}/{name}_{number:04d}.jpg" for name, number in zip(names, numbers, strict=True)]
    return pairs


def _check_folds(folds: npt.ArrayLike, n_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the fold of each pair as a number, and the names of the folds."""
    given = np.asarray(folds)
    if given.shape != (n_pairs,):
        raise ValueError(f"folds must hold one fold for each of the {n_pairs} pairs; got the shape {given.shape}")
    fold_of, names = pd.factorize(given, sort=True)
    if (fold_of < 0).any():
        raise ValueError(f"folds must not be missing; folds[{int(np.argmax(fold_of < 0))}] is")
    if len(names) < 2:
        raise ValueError(
            f"folds must name at least two folds; got {len(names)}: a threshold is chosen on the other folds"
        )
    return fold_of, np.asarray(names)


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split("\t")] if "\t" in line else line.split()


def _read_header(path: str | os.PathLike, number: int, line: str) -> tuple[int, int]:
    fields = _fields(line)
    if len(fields) not in (1, 2) or not all(_is_number(field) for field in fields):
        raise ValueError(
            f"{path}, line {number}: must hold the number of folds and of pairs of either kind in a fold, such as "
            f"'10 300', or the latter only; got {line!r}"
        )
    return (1, int(fields[0])) if len(fields) == 1 else (int(fields[0]), int(fields[1]))


def _read_pair(path: str | os.PathLike, number: int, line: str, same: bool) -> tuple[str, int, str, int, bool]:
    fields = _fields(line)
    where = f"{path}, line {number}"
    if len(fields) != (3 if same else 4):
        expected = f"{_SAME}, a pair of the same person" if same else f"{_DIFFERENT}, a pair of two people"
        raise ValueError(f"{where}: must be {expected}; got {line!r}")
    name_a, number_a, name_b, number_b = (*fields[:2], fields[0], fields[2]) if same else fields
    for text in (number_a, number_b):
        if not _is_number(text):
            raise ValueError(f"{where}: the number of an image must be an integer from 1; got {text!r}")
    if not same and name_a == name_b:
        raise ValueError(f"{where}: {name_a!r} is paired with itself where a pair of two people must be")
    return name_a, int(number_a), name_b, int(number_b), same


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def _expected(n_folds: int, n_pairs: int) -> str:
    return f"{2 * n_folds * n_pairs:,} pairs: {n_folds} folds with {n_pairs} of either kind"
