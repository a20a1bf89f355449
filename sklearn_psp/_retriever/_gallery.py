"""Gallery: images with their vectors, ids, labels and metadata, which searches and changes itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from sklearn.base import clone

from sklearn_psp._indexes import Index, Subset, load_index
from sklearn_psp._persistence import decode_array, decode_frame, encode_array, encode_frame, hold
from sklearn_psp._retriever._columns import Column, Ids, Labels
from sklearn_psp._retriever._inputs import Rows, filtered_rows
from sklearn_psp._retriever._nearest import View, nearest, rank, runs
from sklearn_psp._retriever._radius import duplicate_groups, ragged, rows_within
from sklearn_psp._retriever._results import image_table, spread
from sklearn_psp.reranking import make_reranker

__all__ = ["Entries", "Gallery"]


class Entries(NamedTuple):
    """Ids, labels, metadata and paths of images, row by row.

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

    Two ways to count are kept apart. *Rows* are images in the order they came, those of the index and of the columns
    alike; an image that was removed or skipped keeps its row, and the index never finds it (a skipped one costs the
    memory of a vector). *Positions*, the only ones that leave the retriever, number the rows that have not been
    removed.

    Attributes
    ----------
    index : Index
        The vectors.
    algorithm : str
        Name of the engine that searches them.
    ids : Ids
        Ids, by row.
    labels : Labels or None
        Labels, by row.
    metadata, sources : Column or None
        The rest, by row.
    present : ndarray of shape (n_rows,), bool, or None
        False for what has been removed; None: nothing has.
    """

    index: Index
    algorithm: str
    ids: Ids
    labels: Labels | None
    metadata: Column | None
    sources: Column | None
    present: np.ndarray | None = None

    @classmethod
    def of(cls, index: Index, algorithm: str, entries: Entries) -> Gallery:
        """Make a gallery from an index and the entries of its images."""
        return cls(
            index,
            algorithm,
            Ids.of(entries.ids),
            None if entries.labels is None else Labels.of(entries.labels),
            None if entries.metadata is None else Column(entries.metadata),
            None if entries.sources is None else Column(entries.sources),
        )

    @property
    def n_rows(self) -> int:
        """Number of rows, removed ones included."""
        return len(self.ids.column)

    @cached_property
    def n_images(self) -> int:
        """Number of images."""
        return self.n_rows if self.present is None else int(np.count_nonzero(self.present))

    @cached_property
    def rows(self) -> np.ndarray | None:
        """Row of each position; None where they are the same."""
        return None if self.present is None else np.flatnonzero(self.present)

    @cached_property
    def searchable(self) -> np.ndarray | None:
        """Rows that can be found, ascending; None: all."""
        return None if self.index.mask is None else np.flatnonzero(self.index.mask)

    @cached_property
    def _position_of_row(self) -> np.ndarray | None:
        return None if self.present is None else np.cumsum(self.present) - 1

    @cached_property
    def _reranked(self) -> dict[Any, Any]:
        """Re-rankers that have been fitted to this gallery, by their parameters."""
        return {}

    def positions_at(self, rows: np.ndarray) -> np.ndarray:
        """Position of some rows that have not been removed."""
        return rows if self._position_of_row is None else self._position_of_row[rows]

    def rows_at(self, positions: np.ndarray) -> np.ndarray:
        """Row of some positions."""
        return positions if self.rows is None else self.rows[positions]

    def codes_at(self, positions: np.ndarray) -> np.ndarray:
        """Class of the images at some positions, as a place in the classes; -1 for position -1 or a missing label."""
        rows = self.rows_at(np.maximum(positions, 0))
        labels = cast(Labels, self.labels)
        return np.where(positions >= 0, labels.ranks[labels.codes.take(rows.ravel()).reshape(positions.shape)], -1)

    def of_positions(self, column: Column) -> Any:
        """Values of a column, by position."""
        return column.values if self.rows is None else column.take(self.rows)

    def rows_with(self, ids: Any) -> np.ndarray:
        """Row of each id; -1 for one that no image has."""
        rows = self.ids.rows_of(ids)
        rows[rows >= self.n_rows] = -1
        if self.present is not None:
            rows[~self.present[rows]] = -1
        return rows

    @property
    def skipped(self) -> np.ndarray:
        """Positions of images that are there and cannot be found."""
        if self.searchable is None:
            return np.empty(0, dtype=np.intp)
        return np.setdiff1d(np.arange(self.n_images), self.positions_at(self.searchable), assume_unique=True)

    def own_queries(self) -> Rows:
        """Return every image as a query."""
        if self.searchable is None:
            return Rows(self.index.vectors_at(), None, self.n_images)
        kept = self.positions_at(self.searchable)
        return Rows(self.index.vectors_at(self.searchable), None if len(kept) == self.n_images else kept, self.n_images)

    def _selves(self) -> np.ndarray:
        return np.arange(self.n_rows) if self.searchable is None else self.searchable

    def search(
        self,
        queries: Rows,
        k: int,
        *,
        own: bool = False,
        subset: Subset | None = None,
        fewer: bool = False,
        reranker: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest images of each query.

        Parameters
        ----------
        queries : Rows
            The queries.
        k : int
            How many.
        own : bool, default=False
            Whether these are the `own_queries`, each of which is not among its own results.
        subset : Subset or None, default=None
            Which images may be found, as of `filtered`; None: all.
        fewer : bool, default=False
            Whether to find less than k where no more exist.
        reranker : str, Reranker or None, default=None
            Puts the results into a better order.

        Returns
        -------
        distances : ndarray of shape (n_queries, k), float32
            Distances; NaN for a query that was skipped, and in places that are left over.
        positions : ndarray of shape (n_queries, k), intp
            Positions; -1 there.

        Raises
        ------
        ValueError
            If there are fewer than k images to be found, unless `fewer`.
        """
        index, selves = self.index, self._selves() if own else None
        findable = index.n_samples if subset is None else subset.count
        # The query itself is among those that can be found, unless a filter leaves it out.
        if fewer:
            k = min(k, findable - (own and subset is None))
        elif k > findable - (own and (subset is None or bool(subset.mask[selves].any()))):
            skipped = f" ({self.n_images - index.n_samples} of them skipped as invalid)"
            raise ValueError(
                f"Expected n_neighbors {'<' if own else '<='} n_samples_fit, but n_neighbors = {k}, "
                f"n_samples_fit = {self.n_images}{skipped if index.n_samples < self.n_images else ''}, "
                f"n_samples = {queries.n_rows}"
            )
        fitted = None if reranker is None else self.fitted(reranker)
        distances, rows = nearest(index, queries.vectors, k, selves=selves, subset=subset, reranker=fitted)
        positions = np.where(rows < 0, -1, self.positions_at(rows)) if own else self.positions_at(rows)
        distances = spread(distances, queries.kept, queries.n_rows, np.nan)
        return distances, spread(positions, queries.kept, queries.n_rows, -1)

    def rankings(
        self, queries: Rows, *, own: bool = False, k: int | None = None, reranker: Any = None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Rank the images exactly for each query, whatever the engine.

        Parameters
        ----------
        queries : Rows
            The queries.
        own : bool, default=False
            Whether these are the `own_queries`, each of which is left out of its own ranking.
        k : int or None, default=None
            Where to cut the rankings; None ranks the whole gallery.
        reranker : str, Reranker or None, default=None
            Puts the first of them into a better order.

        Yields
        ------
        block : slice
            Some of the queries.
        positions : ndarray of shape (n, n_ranked), intp
            Positions, best first; n_ranked is 0 for queries that were skipped.
        """
        selves = self._selves() if own else None
        fitted = None if reranker is None else self.fitted(reranker)
        for block, searched in runs(queries.kept, queries.n_rows):
            if searched is None:
                yield block, np.empty((block.stop - block.start, 0), dtype=np.intp)
                continue
            own_rows = None if selves is None else selves[searched]
            for part, ranked in rank(self.index, queries.vectors[searched], selves=own_rows, k=k, reranker=fitted):
                yield slice(block.start + part.start, block.start + part.stop), self.positions_at(ranked)

    def fitted(self, reranker: Any) -> Any:
        """Return a re-ranker fitted to this gallery: parameters that were set since take effect."""
        reranker = make_reranker(reranker)
        key = (type(reranker), repr(sorted(reranker.get_params().items())))
        if key not in self._reranked:
            self._reranked.clear()
            self._reranked[key] = clone(reranker).fit(self.index.vectors_at(), index=View(self.index))
        return self._reranked[key]

    def within(self, queries: Rows, radius: float, *, own: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Find all images within a radius of each query, exactly, whatever the engine.

        Parameters
        ----------
        queries : Rows
            The queries.
        radius : float >= 0
            Largest distance, inclusive.
        own : bool, default=False
            Whether these are the `own_queries`, each of which is not among its own results.

        Returns
        -------
        distances, positions : ndarray of shape (n_queries,), object
            An array for each query, ascending by distance; empty for one that was skipped.
        """
        found = rows_within(self.index, queries.vectors, radius, self._selves() if own else None)
        counts = spread(found.counts, queries.kept, queries.n_rows, 0)
        return ragged(found.distances, counts), ragged(self.positions_at(found.rows), counts)

    def duplicates(self, radius: float, *, chains: bool) -> pd.DataFrame:
        """Return groups of near-duplicates, as `NearestImageRetriever.find_duplicates`."""
        groups, rows, distances = duplicate_groups(self.index, radius, chains=chains)
        return image_table({"group": groups}, distances, rows, self)

    def filtered(self, where: Any) -> Subset | None:
        """Return what a filter of `NearestImageRetriever.retrieve` lets through; None where that is all."""
        return None if where is None else self.index.subset(filtered_rows(where, self))

    def added(self, queries: Rows, entries: Entries) -> Gallery:
        """Return a gallery with further images, at positions after all others; one of an id there is replaced.

        Parameters
        ----------
        queries : Rows
            Their descriptors.
        entries : Entries
            Their ids, labels, metadata and paths.

        Returns
        -------
        Gallery
            The new gallery.
        """
        old = self.rows_with(entries.ids)
        present = self.present
        if present is not None:
            present = np.concatenate((present, np.ones(queries.n_rows, dtype=bool)))
        gallery = replace(
            self,
            index=self.index.added(*queries.filled()),
            ids=self.ids.added(entries.ids),
            labels=None if self.labels is None else self.labels.added(entries.labels),
            metadata=None if self.metadata is None else self.metadata.added(entries.metadata),
            sources=self._added_sources(queries.n_rows, entries.sources),
            present=present,
        )
        return gallery.removed(old[old >= 0]) if (old >= 0).any() else gallery

    def _added_sources(self, n_rows: int, sources: np.ndarray | None) -> Column | None:
        if self.sources is None and sources is None:
            return None
        old = Column(np.full(self.n_rows, None, dtype=object)) if self.sources is None else self.sources
        return old.added(np.full(n_rows, None, dtype=object) if sources is None else sources)

    def removed(self, rows: np.ndarray) -> Gallery:
        """Return a gallery without the images of some rows."""
        present = np.ones(self.n_rows, dtype=bool) if self.present is None else self.present.copy()
        present[rows] = False
        return replace(self, index=self.index.removed(rows), present=present)

    def compacted(self, build: Callable[[np.ndarray, np.ndarray | None], tuple[str, Index]]) -> Gallery:
        """Return the same gallery without what was removed, its index built anew.

        Parameters
        ----------
        build : callable
            From vectors, and a mask of those that can be found or None for all, to the name of the engine and the
            index.

        Returns
        -------
        Gallery
            Positions are what they were.
        """
        findable = self.index.mask
        if findable is not None:
            findable = findable if self.rows is None else findable[self.rows]
            findable = None if findable.all() else findable
        algorithm, index = build(self.index.vectors_at(self.rows), findable)
        return Gallery(
            index,
            algorithm,
            Ids.of(self.of_positions(self.ids.column)),
            None if self.labels is None else self.labels.taken(self.rows),
            None if self.metadata is None else Column(self.of_positions(self.metadata)),
            None if self.sources is None else Column(self.of_positions(self.sources)),
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
                "present": self.present,
            }
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        ids = decode_array(state["ids"])
        # A file of format 1 has no vector for a skipped image, and says which image each vector is of.
        index = load_index(state["algorithm"], state["index"], state.get("row_of_vector"), len(ids))
        fields = {
            "index": index,
            "algorithm": state["algorithm"],
            "ids": Ids.of(ids),
            "labels": None if state["labels"] is None else Labels.from_arrays(state["labels"]),
            "metadata": None if state["metadata"] is None else Column(decode_frame(state["metadata"])),
            "sources": None if state["sources"] is None else Column(decode_array(state["sources"])),
            "present": state["present"],
        }
        self.__dict__.update(fields)


def _as_it_was(fields):
    return Gallery(**fields)
