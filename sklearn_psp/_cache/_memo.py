"""Features in memory, so that the folds of a search pool a setting once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

__all__ = ["FeatureMemo"]

_MAX_BYTES = 512 << 20
_FIRST_ROWS = 64


class FeatureMemo:
    """Rows of features by setting and key; the settings used last stay.

    Parameters
    ----------
    max_bytes : int, default=512 MiB
        Memory of all rows. A setting that alone would take more keeps its first rows.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES):
        self.max_bytes = max_bytes
        self._tables: OrderedDict[bytes, _Table] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """Memory of all rows."""
        return sum(table.rows.nbytes for table in self._tables.values())

    def find(self, setting: bytes, keys: Sequence[bytes | None]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return which keys are known (n,), bool, and their rows in order; None where none is."""
        with self._lock:
            table = self._tables.get(setting)
            if table is None:
                return np.zeros(len(keys), dtype=bool), None
            self._tables.move_to_end(setting)
            places = np.fromiter(
                (-1 if key is None else table.places.get(key, -1) for key in keys), dtype=np.intp, count=len(keys)
            )
            found = places >= 0
            return found, table.rows[places[found]]

    def add(self, setting: bytes, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Remember rows (n, ...) of one shape and dtype."""
        with self._lock:
            table = self._tables.setdefault(setting, _Table(rows))
            self._tables.move_to_end(setting)
            table.add(keys, rows, self.max_bytes)
            while self.n_bytes > self.max_bytes and len(self._tables) > 1:
                self._tables.popitem(last=False)


class _Table:
    def __init__(self, like):
        self.places: dict[bytes, int] = {}
        self.rows = np.empty((0, *like.shape[1:]), dtype=like.dtype)

    def add(self, keys, rows, max_bytes):
        row_bytes = rows[0].nbytes if len(rows) else 1
        for key, row in zip(keys, rows, strict=True):
            place = len(self.places)
            if key in self.places or (place + 1) * row_bytes > max_bytes:
                continue
            if place == len(self.rows):
                more = min(max(_FIRST_ROWS, 2 * place), max_bytes // row_bytes)
                grown = np.empty((more, *self.rows.shape[1:]), dtype=self.rows.dtype)
                grown[:place] = self.rows
                self.rows = grown
            self.rows[place] = row
            self.places[key] = place
