"""The images of a gallery: their vectors, ids, labels and metadata, which come and go together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sklearn_psp._indexes import LivingIndex
from sklearn_psp._persistence import decode_array, decode_frame, encode_array, encode_frame, hold
from sklearn_psp._retriever._columns import Column, Ids, Labels

__all__ = ["Gallery", "Images"]


class Images(NamedTuple):
    """What is told of images, row by row.

    Attributes
    ----------
    ids : ndarray of shape (n,)
        Their ids, unique.
    labels : ndarray of shape (n,) or None
        Their labels.
    metadata : DataFrame of n rows or None
        Their metadata.
    sources : ndarray of shape (n,) or None
        Paths of those that have one.
    """

    ids: np.ndarray
    labels: np.ndarray | None
    metadata: pd.DataFrame | None
    sources: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images that can be searched. It never changes: adding and removing return a new one, which shares what stays.

    Three ways to count are kept apart. *Vectors* are numbered as the index does. *Rows* are images in the order they
    came; those that cannot be searched have a row but no vector. *Positions*, the only ones that leave the retriever,
    number the rows that have not been removed.

    Attributes
    ----------
    index : LivingIndex
        The vectors.
    algorithm : {"exact", "pynndescent"}
        How they are searched.
    ids : Ids
        Ids, by row.
    labels : Labels or None
        Labels, by row.
    metadata, sources : Column or None
        The rest, by row.
    row_of_vector : ndarray of shape (n_vectors,), intp, or None
        Row of each vector; None where every row has one.
    present : ndarray of shape (n_rows,), bool, or None
        False for what has been removed; None: nothing has.
    """

    index: LivingIndex
    algorithm: str
    ids: Ids
    labels: Labels | None
    metadata: Column | None
    sources: Column | None
    row_of_vector: np.ndarray | None = None
    present: np.ndarray | None = None

    @classmethod
    def of(cls, index, algorithm, rows, images):
        """Make a gallery from searchable `Rows` and `Images`."""
        return cls(
            index,
            algorithm,
            Ids.of(images.ids),
            None if images.labels is None else Labels.of(images.labels),
            None if images.metadata is None else Column(images.metadata),
            None if images.sources is None else Column(images.sources),
            rows.kept,
        )

    @property
    def n_rows(self):
        """Number of rows, removed ones included."""
        return len(self.ids.column)

    @cached_property
    def n_images(self):
        """Number of images."""
        return self.n_rows if self.present is None else int(np.count_nonzero(self.present))

    @cached_property
    def rows(self):
        """Row of each position; None where they are the same."""
        return None if self.present is None else np.flatnonzero(self.present)

    @cached_property
    def vectors(self):
        """Vectors that can be found, ascending; None: all."""
        return None if self.index.mask is None else np.flatnonzero(self.index.mask)

    @cached_property
    def position_of_vector(self):
        """Position of each vector (any number for a removed one); None where they are the same."""
        if self.present is None:
            return self.row_of_vector
        positions = np.cumsum(self.present) - 1
        return positions if self.row_of_vector is None else positions[self.row_of_vector]

    @cached_property
    def reranked(self):
        """Re-rankers that have been fitted to this gallery, by their parameters."""
        return {}

    def rows_at(self, vectors):
        """Row of some vectors."""
        return vectors if self.row_of_vector is None else self.row_of_vector[vectors]

    def positions_at(self, vectors):
        """Position of some vectors."""
        return vectors if self.position_of_vector is None else self.position_of_vector[vectors]

    def of_positions(self, column):
        """Values of a column, by position."""
        return column.values if self.rows is None else column.take(self.rows)

    def rows_with(self, ids):
        """Row of each id; -1 for one that no image has."""
        rows = self.ids.rows_of(ids)
        rows[rows >= self.n_rows] = -1
        if self.present is not None:
            rows[~self.present[rows]] = -1
        return rows

    def vector_mask(self, row_mask):
        """Say for each vector what a mask says for its row."""
        return row_mask if self.row_of_vector is None else row_mask[self.row_of_vector]

    def added(self, rows, images):
        """Return a gallery with further images, at positions after all others; one of an id there is replaces it."""
        old = self.rows_with(images.ids)
        row_of_vector = self.row_of_vector
        if row_of_vector is not None or rows.kept is not None:
            old_rows = np.arange(self.index.n_vectors) if row_of_vector is None else row_of_vector
            new_rows = np.arange(rows.n_rows) if rows.kept is None else rows.kept
            row_of_vector = np.concatenate((old_rows, new_rows + self.n_rows))
        present = self.present
        if present is not None:
            present = np.concatenate((present, np.ones(rows.n_rows, dtype=bool)))
        gallery = replace(
            self,
            index=self.index.added(rows.vectors),
            ids=self.ids.added(images.ids),
            labels=None if self.labels is None else self.labels.added(images.labels),
            metadata=None if self.metadata is None else self.metadata.added(images.metadata),
            sources=self._added_sources(rows.n_rows, images.sources),
            row_of_vector=row_of_vector,
            present=present,
        )
        return gallery.removed(old[old >= 0]) if (old >= 0).any() else gallery

    def _added_sources(self, n_rows, sources):
        if self.sources is None and sources is None:
            return None
        old = Column(np.full(self.n_rows, None, dtype=object)) if self.sources is None else self.sources
        return old.added(np.full(n_rows, None, dtype=object) if sources is None else sources)

    def removed(self, rows):
        """Return a gallery without some rows."""
        present = np.ones(self.n_rows, dtype=bool) if self.present is None else self.present.copy()
        present[rows] = False
        vectors = rows if self.row_of_vector is None else self._vectors_of(rows)
        return replace(self, index=self.index.removed(vectors), present=present)

    def _vectors_of(self, rows):
        at = np.searchsorted(self.row_of_vector, rows)  # ascending: rows come in order
        at = np.minimum(at, len(self.row_of_vector) - 1)
        return at[self.row_of_vector[at] == rows]

    def compacted(self, build):
        """Return the same gallery without what was removed, its index built anew.

        Parameters
        ----------
        build : callable
            From vectors to algorithm and index.

        Returns
        -------
        Gallery
            Positions are what they were.
        """
        vectors = self.index.vectors if self.vectors is None else self.index.vectors[self.vectors]
        algorithm, index = build(vectors)
        row_of_vector = None
        if self.row_of_vector is not None:
            kept = self.positions_at(np.arange(self.index.n_vectors) if self.vectors is None else self.vectors)
            row_of_vector = None if len(kept) == self.n_images else kept
        return Gallery(
            index,
            algorithm,
            Ids.of(self.of_positions(self.ids.column)),
            None if self.labels is None else self.labels.taken(self.rows),
            *(
                None if column is None else Column(self.of_positions(column))
                for column in (self.metadata, self.sources)
            ),
            row_of_vector,
        )

    def __reduce_ex__(self, protocol):
        # Pickle and copy take everything as it is.
        return _as_it_was, ({name: getattr(self, name) for name in self.__dataclass_fields__},)

    def __reduce__(self):
        # skops asks for this first, and takes `__getstate__` where it is not what it knows.
        return object.__new__, (Gallery,)

    def __getstate__(self) -> dict[str, Any]:
        """Return arrays, numbers and texts, for a file."""
        return hold(
            {
                "index": self.index.to_arrays(),
                "algorithm": self.algorithm,
                "ids": encode_array(self.ids.column.values),
                "labels": None if self.labels is None else self.labels.to_arrays(),
                "metadata": None if self.metadata is None else encode_frame(self.metadata.values),
                "sources": None if self.sources is None else encode_array(self.sources.values),
                "row_of_vector": self.row_of_vector,
                "present": self.present,
            }
        )

    def __setstate__(self, state):
        ids = decode_array(state["ids"])
        fields = {
            "index": LivingIndex.from_arrays(state["index"]),
            "algorithm": state["algorithm"],
            "ids": Ids.of(ids),
            "labels": None if state["labels"] is None else Labels.from_arrays(state["labels"]),
            "metadata": None if state["metadata"] is None else Column(decode_frame(state["metadata"])),
            "sources": None if state["sources"] is None else Column(decode_array(state["sources"])),
            "row_of_vector": state["row_of_vector"],
            "present": state["present"],
        }
        self.__dict__.update(fields)


def _as_it_was(fields):
    return Gallery(**fields)
