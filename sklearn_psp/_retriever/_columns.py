"""Columns that grow at the end: adding a row copies few of those there are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sklearn_psp._persistence import decode_array, encode_array

__all__ = ["Column", "Ids", "Labels"]


class Column:
    """Values in pieces, each more than twice as long as the next, so that n additions copy n log n values.

    Parameters
    ----------
    *pieces : ndarray or DataFrame
        The values, row by row; never changed.
    """

    def __init__(self, *pieces: Any):
        self._pieces = pieces
        self._starts = np.cumsum([0, *map(len, pieces)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def added(self, piece: Any) -> Column:
        """Return a column with further rows."""
        return Column(*_grown(self._pieces, piece, _concatenate))

    def take(self, rows: np.ndarray) -> Any:
        """Return some rows."""
        if len(self._pieces) == 1:
            return _take(self._pieces[0], rows)
        piece_of = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(piece_of, kind="stable")
        taken = [_take(piece, rows[piece_of == i] - self._starts[i]) for i, piece in enumerate(self._pieces)]
        back = np.empty(len(rows), dtype=np.intp)
        back[order] = np.arange(len(rows))
        return _take(_concatenate(*taken), back)

    @cached_property
    def values(self) -> Any:
        """All rows."""
        return self._pieces[0] if len(self._pieces) == 1 else _concatenate(*self._pieces)


class Ids:
    """Ids of images, and where each stands.

    Parameters
    ----------
    column : Column
        Ids, row by row. One that is there more than once belongs to the last of its rows.
    layers : tuple of (Index, ndarray)
        Where to look them up, newest last: unique ids with their rows.
    """

    def __init__(self, column: Column, layers: tuple[tuple[pd.Index, np.ndarray], ...]):
        self.column = column
        self._layers = layers

    @classmethod
    def of(cls, ids: np.ndarray) -> Ids:
        """Make the look-up of ids."""
        layer = pd.Index(ids, tupleize_cols=False), np.arange(len(ids))
        return cls(Column(ids), (layer if layer[0].is_unique else _last(*layer),))

    def added(self, ids: np.ndarray) -> Ids:
        """Return ids with further ones, unique among themselves."""
        layer = pd.Index(ids, tupleize_cols=False), np.arange(len(ids)) + len(self.column)
        return Ids(self.column.added(ids), _grown(self._layers, layer, _merge_layers, lambda layer: len(layer[1])))

    def rows_of(self, ids: Any) -> np.ndarray:
        """Last row of each id; -1 for one that is unknown."""
        wanted = pd.Index(ids, tupleize_cols=False)
        rows = np.full(len(wanted), -1, dtype=np.intp)
        for index, rows_of in self._layers:
            at = index.get_indexer(wanted)
            rows[at >= 0] = rows_of[at[at >= 0]]
        return rows


class Labels:
    """Labels of images, numbered.

    Parameters
    ----------
    column : Column
        Labels, row by row.
    codes : Column
        Place of each in the vocabulary; -1 for one that is missing.
    vocabulary : Index
        Values in the order they came.
    """

    def __init__(self, column: Column, codes: Column, vocabulary: pd.Index):
        self.column = column
        self.codes = codes
        self._vocabulary = vocabulary

    @classmethod
    def of(cls, labels: np.ndarray) -> Labels:
        """Number labels."""
        codes, values = pd.factorize(labels)
        return cls(Column(labels), Column(codes.astype(np.intp, copy=False)), _as_index(values))

    def added(self, labels: Any) -> Labels:
        """Return labels with further ones."""
        unknown = pd.unique(labels[(self.encode(labels) < 0) & ~pd.isna(labels)])
        vocabulary = self._vocabulary
        if len(unknown):
            values = _concatenate(vocabulary.to_numpy(), unknown)
            vocabulary = _as_index(values)
        grown = Labels(self.column.added(labels), self.codes, vocabulary)
        grown.codes = self.codes.added(grown.encode(labels))
        return grown

    def taken(self, rows: np.ndarray | None) -> Labels:
        """Return the labels of some rows, all if None. The vocabulary stays: a class may be without images."""
        if rows is None:
            return self
        return Labels(Column(self.column.take(rows)), Column(self.codes.take(rows)), self._vocabulary)

    def to_arrays(self) -> dict[str, Any]:
        """Return arrays, numbers and texts; for `from_arrays`."""
        return {
            "labels": encode_array(self.column.values),
            "codes": self.codes.values,
            "vocabulary": encode_array(self._vocabulary.to_numpy()),
        }

    @classmethod
    def from_arrays(cls, state: Mapping[str, Any]) -> Labels:
        """Restore labels."""
        vocabulary = _as_index(np.asarray(decode_array(state["vocabulary"])))
        return cls(Column(np.asarray(decode_array(state["labels"]))), Column(state["codes"]), vocabulary)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Place of each label in the vocabulary; -1 for one that is missing or unknown."""
        return self._vocabulary.get_indexer(_as_index(labels)).astype(np.intp, copy=False)

    @cached_property
    def classes(self) -> np.ndarray:
        """Sorted values."""
        return pd.factorize(self._vocabulary.to_numpy(), sort=True)[1].astype(self.column.values.dtype, copy=False)

    @cached_property
    def ranks(self) -> np.ndarray:
        """Place of each value of the vocabulary in `classes`, and -1 at the end, for code -1."""
        return np.append(_as_index(self.classes).get_indexer(self._vocabulary), -1)


def _grown(pieces, new, merge, size=len):
    pieces = (*pieces, new)
    while len(pieces) > 1 and size(pieces[-2]) <= 2 * size(pieces[-1]):
        pieces = (*pieces[:-2], merge(*pieces[-2:]))
    return pieces


def _concatenate(*pieces):
    if isinstance(pieces[0], pd.DataFrame):
        return pd.concat(pieces, ignore_index=True)
    if len({piece.dtype.kind for piece in pieces}) > 1:  # numpy would make 1 the text "1" beside other texts
        pieces = tuple(piece.astype(object) for piece in pieces)
    return np.concatenate(pieces)


def _take(piece, rows):
    return piece.take(rows).reset_index(drop=True) if isinstance(piece, pd.DataFrame) else piece[rows]


def _merge_layers(old, new):
    return _last(old[0].append(new[0]), np.concatenate((old[1], new[1])))


def _last(index, rows):
    last = ~index.duplicated(keep="last")
    return index[last], rows[last]


def _as_index(labels):
    return pd.Index(labels.astype(object) if labels.dtype.kind in "US" else labels, tupleize_cols=False)
