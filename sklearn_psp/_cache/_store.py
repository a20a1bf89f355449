"""A store of rows on disk that forgets the oldest: an index in SQLite beside one file of rows.

The index says where each row lies, and with which checksum. SQLite could hold the rows themselves, but reads them three
times as slowly, page by page; from a file they are read straight into the caller's array. The two need not be in step:
a row is written to free space before the index names it, space that a transaction frees is used by later ones only, and
a checksum tells whatever else may have happened. So a process may be killed, or the power fail, at any moment.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import xxhash

from sklearn_psp._cache._index import (
    RowIndex,
    count,
    evict,
    find,
    middle_stamp,
    read_state,
    remove,
    renew,
    room_for,
    take_space,
)
from sklearn_psp.exceptions import CacheError, CacheFormatWarning
from sklearn_psp.utils._warnings import warn_user

__all__ = ["DEFAULT_MAX_BYTES", "RowStore", "open_store"]

DEFAULT_MAX_BYTES = 8 << 30
_OLD = "features.lmdb"  # the store of earlier versions
# From so many on, entries that were read are made new at once, and do not wait for the next `put`.
_MANY = 256
_MAX_KEY = 511
_STORES: dict[str, RowStore] = {}
_OPENING = threading.Lock()


def open_store(directory: str | os.PathLike, max_bytes: int | None = None) -> RowStore:
    """Open the store of a folder; a second call in this process returns the same one.

    Parameters
    ----------
    directory : str or path-like
        The folder, made if it is not there; on a disk of this computer, as network file systems do not keep the locks
        and the shared memory that SQLite needs. Two files are added to what is in it.
    max_bytes : int or None, default=None
        How many bytes of rows the store holds at most; of rows below 2 kB it may hold less, since they take more than
        their size on disk, which is meant to outgrow the bound by no more than a quarter and 64 MiB. It is kept with
        the store and holds for all processes: the call that came last decides, and a smaller bound forgets the oldest
        rows at once (the files do not shrink). None keeps the bound as it is, `DEFAULT_MAX_BYTES` in a new store.

    Returns
    -------
    RowStore
        The store.

    Raises
    ------
    NotADirectoryError
        If the folder is a file.
    CacheError
        If the folder cannot be read or written, or what is in it is no store.

    Warns
    -----
    CacheFormatWarning
        If the folder has a store of an earlier version, which is left alone.
    """
    if max_bytes is not None:
        max_bytes = operator.index(max_bytes)
        if max_bytes < 1:
            raise ValueError(f"max_bytes={max_bytes} must be at least 1")
    directory = os.path.realpath(directory)
    with _OPENING:
        store = _STORES.get(directory)
        if store is None:
            store = RowStore(directory)
            store.set_bound(max_bytes)
            _STORES[directory] = store
            _warn_of_old(directory)
        else:
            store.set_bound(max_bytes)
    return store


class RowStore:
    """Half-precision rows by key, for any number of threads and processes; made by `open_store`.

    Every `put` is there whole or not at all, whenever a process is killed. It survives a fork, and pickling, which
    sends the folder and not the rows.

    Parameters
    ----------
    directory : str
        The folder, as a real path.
    """

    def __init__(self, directory: str):
        self.directory = directory
        self._index = RowIndex(directory, DEFAULT_MAX_BYTES)
        self._used: dict[bytes, None] = {}
        self._noting = threading.Lock()

    def has(self, key: bytes) -> bool:
        """Whether a row stands under a key; it is not read, and `get` may find it damaged.

        Parameters
        ----------
        key : bytes
            The key.

        Returns
        -------
        bool
            Whether there is one.
        """
        with self._index.reading() as db:
            return db.execute("SELECT 1 FROM entries WHERE key = ?", (key,)).fetchone() is not None

    def get(self, keys: Sequence[bytes], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Read rows.

        Parameters
        ----------
        keys : sequence of bytes
            The keys.
        length : int
            Elements of a row.

        Returns
        -------
        rows : ndarray of shape (n_found, length), float16
            The rows that were found, in the order of their keys; in C order, and the caller's own.
        found : ndarray of shape (n_keys,), bool
            Whose rows they are. A row that is damaged, or of another length, counts as not found.
        """
        keys = list(keys)
        with self._index.reading() as db:
            entries = find(db, keys)
            middle = middle_stamp(db) if entries else 0
        rows = np.empty((sum(key in entries for key in keys), length), dtype="<f2")
        found = np.zeros(len(keys), dtype=bool)
        used, n_found = [], 0
        if not entries:
            return rows.astype(np.float16, copy=False), found
        with self._index.open_rows("rb") as file:
            for position, key in enumerate(keys):
                entry = entries.get(key)
                if entry is None or entry.size != 2 * length:
                    continue
                payload = rows[n_found].view(np.uint8)
                if _read(file, entry.place, payload) and _checksum(key, payload) == entry.checksum:
                    found[position] = True
                    n_found += 1
                    if entry.stamp < middle:
                        used.append(key)
        if used:
            self._note(used)
        return rows[:n_found].astype(np.float16, copy=False), found

    def put(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Write rows in one step, instead of what stands under their keys, and forget the oldest if there are too many.

        Parameters
        ----------
        keys : sequence of bytes
            The keys, of 1 to 511 bytes, digests best. Of one that comes twice, the last row stays.
        rows : ndarray of shape (n_keys, length), float16
            The rows. If they are larger than the bound all by themselves, the last ones that fit are kept.

        Raises
        ------
        CacheError
            If the disk is full, or the folder cannot be written.
        """
        keys, rows = _checked(keys, rows)
        if not keys:
            return
        used = self._take_used()
        with self._index.writing() as db:
            renew(db, used)
            if self._put(db, keys, rows):
                return
            n_bytes = read_state(db).n_bytes
        # Rows of many sizes leave gaps that fit nothing. Where these add up, half of the rows go, or all.
        for n_left in (n_bytes // 2, 0):
            with self._index.writing() as db:
                evict(db, n_left)
            with self._index.writing() as db:
                if self._put(db, keys, rows, in_room=n_left > 0):
                    return

    def _put(self, db, keys, rows, in_room=True):
        """Write rows; False, and nothing is written, if the file of rows would outgrow its room."""
        state, size = read_state(db), rows[0].nbytes
        n_kept = min(len(keys), state.n_fitting(size))
        if not n_kept:
            return True
        keys, rows = keys[-n_kept:], rows[-n_kept:]
        runs = take_space(db, state, n_kept, size, room_for(state.max_bytes) if in_room else None)
        if runs is None:
            return False
        places: list[int] = []
        start = 0
        with self._index.open_rows("r+b") as file:
            for place, n in runs:
                file.seek(place)
                _write(file, rows[start : start + n])
                places.extend(range(place, place + n * size, size))
                start += n
        remove(db, find(db, keys).items())
        stamps = range(state.next_stamp, state.next_stamp + n_kept)
        checksums = [_checksum(key, row.view(np.uint8)) for key, row in zip(keys, rows, strict=True)]
        entries = zip(keys, stamps, places, [size] * n_kept, checksums, strict=True)
        db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", entries)
        count(db, n_kept, n_kept * size)
        db.execute("UPDATE state SET next_stamp = ?", (stamps.stop,))
        evict(db, state.max_bytes)
        return True

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        return self._state().n_bytes

    @property
    def max_bytes(self) -> int:
        """Bytes of rows that the store holds at most."""
        return self._state().max_bytes

    def __len__(self) -> int:
        return self._state().n_rows

    def __repr__(self) -> str:
        return f"<rows in {self.directory!r}>"

    def __reduce__(self):
        return open_store, (self.directory,)

    def recall(self, name: str) -> str | None:
        """Read a setting.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        str or None
            Its value; None if there is none.
        """
        with self._index.reading() as db:
            found = db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if found is None else found[0]

    def remember(self, name: str, value: str) -> str:
        """Keep a setting; the first to do so decides, among all processes.

        Parameters
        ----------
        name : str
            Its name.
        value : str
            Its value.

        Returns
        -------
        str
            The value that is kept.
        """
        if self.recall(name) is None:
            with self._index.writing() as db:
                db.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, value))
        # None where the cache was emptied meanwhile: nothing was decided before, then.
        return self.recall(name) or value

    def flush(self) -> None:
        """Bring everything to the disk: a loss of power then loses nothing."""
        self._index.sync()

    def close(self) -> None:
        """Close the files, in this process; whatever is asked next opens them again."""
        self._index.close()

    def _state(self):
        with self._index.reading() as db:
            return read_state(db)

    def before_fork(self) -> None:
        """Wait until no thread of this process is inside the files: a child would inherit their locks."""
        self._index.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let the threads of this process go on."""
        self._index.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Forget what belongs to the threads and the connections of the parent."""
        self._noting = threading.Lock()
        self._index.after_fork_in_child()

    def set_bound(self, max_bytes: int | None) -> None:
        """Change the bound on the size of the files, and delete the oldest rows above it; None leaves it."""
        if max_bytes not in (None, self._state().max_bytes):
            with self._index.writing() as db:
                db.execute("UPDATE state SET max_bytes = ?", (max_bytes,))
                evict(db, max_bytes)

    def _note(self, keys):
        with self._noting:
            self._used.update(dict.fromkeys(keys))
            if len(self._used) < _MANY:
                return
        used = self._take_used()
        # Reading does not fail because age cannot be written down.
        with suppress(CacheError), self._index.writing() as db:
            renew(db, used)

    def _take_used(self):
        with self._noting:
            used, self._used = list(self._used), {}
        return used


def _checksum(key: bytes, payload: np.ndarray) -> bytes:
    # With the key as its seed: a whole row under another key is no row.
    return xxhash.xxh3_64_digest(payload.data, seed=xxhash.xxh3_64_intdigest(key))


def _read(file, place, payload):
    """Read into an array; whether there was enough."""
    file.seek(place)
    view, start = memoryview(payload), 0
    while start < len(view):
        count = file.readinto(view[start:])
        if not count:
            return False
        start += count
    return True


def _write(file, rows):
    view, start = memoryview(rows.reshape(-1).view(np.uint8)), 0
    while start < len(view):
        start += file.write(view[start:])


def _checked(keys, rows):
    keys = list(keys)
    rows = np.asarray(rows)
    if rows.dtype != np.float16 or rows.ndim != 2 or len(rows) != len(keys) or (keys and not rows.shape[1]):
        raise ValueError(
            f"rows must be float16 of shape ({len(keys)}, length), one for each key; got {rows.dtype} of {rows.shape}"
        )
    for key in keys:
        if not isinstance(key, bytes) or not 0 < len(key) <= _MAX_KEY:
            raise ValueError(f"a key must be 1 to {_MAX_KEY} bytes; got {key!r}")
    last = {key: position for position, key in enumerate(keys)}
    if len(last) < len(keys):
        keys, rows = list(last), rows[list(last.values())]
    return keys, np.ascontiguousarray(rows, dtype="<f2")


def _warn_of_old(directory):
    old = os.path.join(directory, _OLD)
    with suppress(OSError):
        size = os.stat(old).st_size
        warn_user(
            CacheFormatWarning(
                f"cache={directory!r} holds {_OLD!r} of an earlier version of sklearn_psp ({size / 1e6:,.0f} MB), "
                "which is not read: its feature maps are computed again. Delete it, and the lock file beside it"
            )
        )


def _before_fork():
    _OPENING.acquire()
    for store in _STORES.values():
        store.before_fork()


def _after_fork_in_parent():
    for store in _STORES.values():
        store.after_fork_in_parent()
    _OPENING.release()


def _after_fork_in_child():
    global _OPENING
    _OPENING = threading.Lock()
    for store in _STORES.values():
        store.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
