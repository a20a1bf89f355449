"""Pairs of images in every form a user may pass, as the different images and who is paired with whom."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xxhash

from sklearn_psp.exceptions import ImageInputError

__all__ = ["Pairs", "as_pairs"]

_FORMS = "a list of pairs, an array (n, 2, ...) or a DataFrame with two columns"


class Pairs(NamedTuple):
    """Pairs of images, each image once.

    Attributes
    ----------
    items : list or ndarray
        The images, or their descriptors.
    first, second : ndarray of shape (n_pairs,), intp
        Which of them a pair is of.
    index : pandas.Index
        What the pairs are called: the index of a DataFrame, else positions.
    """

    items: Any
    first: np.ndarray
    second: np.ndarray
    index: pd.Index

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.first)

    def people(self, same: np.ndarray) -> np.ndarray:
        """Number the people, as far as genuine pairs tell: images that a chain of them connects are of one.

        Parameters
        ----------
        same : ndarray of shape (n_pairs,), bool
            Whether a pair is genuine.

        Returns
        -------
        ndarray of shape (n_items,), int32
            The person of each image.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        edges = (np.ones(np.count_nonzero(same), dtype=np.int8), (self.first[same], self.second[same]))
        return connected_components(coo_array(edges, shape=(len(self.items),) * 2), directed=False)[1]


def as_pairs(pairs: Any, *, descriptors: bool = False) -> Pairs:
    """Bring pairs to one form, in which an image of several pairs stands once.

    Parameters
    ----------
    pairs : list, array or DataFrame
        Pairs of images: a list or another iterable of pairs, an array of shape (n, 2, ...), or a DataFrame with two
        columns.
    descriptors : bool, default=False
        Whether they are pairs of vectors, not of images.

    Returns
    -------
    Pairs
        The pairs. A path, an object, or numbers that are in several pairs are there once.

    Raises
    ------
    ImageInputError
        If they are no pairs.
    """
    index = None
    if isinstance(pairs, pd.DataFrame):
        if pairs.shape[1] != 2:
            raise ImageInputError(
                f"pairs is a DataFrame of {pairs.shape[1]} columns ({', '.join(map(repr, pairs.columns[:10]))}), but "
                "two are needed: pass the columns that hold the images, for example pairs[['first', 'second']]"
            )
        index = pairs.index
        pairs = list(zip(*(pairs.iloc[:, side].tolist() for side in range(2)), strict=True))
    elif isinstance(pairs, np.ndarray) and pairs.dtype.kind in "buif":
        return _from_numbers(pairs, descriptors)
    pairs = _listed(pairs)
    for i, pair in enumerate(pairs):
        _check_pair(i, pair)
    if descriptors:
        try:
            numbers = np.asarray([[np.asarray(item, dtype=np.float64) for item in pair] for pair in pairs])
        except (TypeError, ValueError) as error:
            raise ImageInputError(
                f"featurizer=None takes pairs of descriptors, vectors of one length, which these are not ({error}); "
                'for images pass a featurizer, such as "dlib_face"'
            ) from error
        return _from_numbers(numbers, descriptors)._replace(index=_named(index, len(pairs)))
    items: list = []
    known: dict = {}
    places = np.array([[_place(item, items, known) for item in pair] for pair in pairs], dtype=np.intp)
    return Pairs(items, places[:, 0], places[:, 1], _named(index, len(pairs)))


def _listed(pairs: Any) -> list:
    if isinstance(pairs, str | bytes | os.PathLike | Mapping) or not isinstance(pairs, Iterable):
        raise ImageInputError(f"pairs must be {_FORMS}, got {type(pairs).__name__}")
    pairs = list(pairs)
    if not pairs:
        raise ImageInputError("pairs is empty: pass at least one pair")
    return pairs


def _check_pair(i: int, pair: Any) -> None:
    is_pair = isinstance(pair, Sequence | np.ndarray | pd.Series) and not isinstance(pair, str | bytes | bytearray)
    if is_pair and len(pair) == 2:
        return
    what = f"{type(pair).__name__} of length {len(pair)}" if is_pair else type(pair).__name__
    raise ImageInputError(
        f"pairs must be {_FORMS}, but pairs[{i}] is no pair: a {what}; of two lists of images make "
        "list(zip(first, second, strict=True))"
    )


def _place(item: Any, items: list, known: dict) -> int:
    # Equal bytes are found by their content later; an id stays unique while `items` holds the object.
    key = os.fspath(item) if isinstance(item, str | os.PathLike) else id(item)
    if key not in known:
        known[key] = len(items)
        items.append(item)
    return known[key]


def _from_numbers(pairs: np.ndarray, descriptors: bool) -> Pairs:
    expected = "(n, 2, n_features)" if descriptors else "(n, 2, height, width) or (n, 2, height, width, channels)"
    if pairs.ndim not in ((3,) if descriptors else (4, 5)) or pairs.shape[1] != 2:
        raise ImageInputError(f"pairs must have the shape {expected}, got {pairs.shape}")
    if not len(pairs):
        raise ImageInputError("pairs is empty: pass at least one pair")
    items = pairs.reshape(2 * len(pairs), *pairs.shape[2:])
    keys = [xxhash.xxh3_128_digest(np.ascontiguousarray(item).data) for item in items]
    places, known = pd.factorize(np.array(keys, dtype=object))
    if len(known) < len(items):
        items = items[np.unique(places, return_index=True)[1]]
    places = places.reshape(-1, 2)
    return Pairs(items, places[:, 0], places[:, 1], _named(None, len(pairs)))


def _named(index: pd.Index | None, n_pairs: int) -> pd.Index:
    return pd.RangeIndex(n_pairs) if index is None else index
