"""A store of rows on disk that forgets the oldest."""

from __future__ import annotations

import operator
import os
import threading
from contextlib import suppress

import numpy as np

from sklearn_psp._cache._environment import Environment
from sklearn_psp._cache._records import (
    State,
    evict,
    is_marked,
    put_rows,
    read_state,
    renew,
    room_for,
    unpack_rows,
    used_keys,
    write_state,
)
from sklearn_psp.exceptions import CacheError

__all__ = ["DEFAULT_MAX_BYTES", "RowStore", "open_store"]

DEFAULT_MAX_BYTES = 8 << 30
# From so many on, entries that were read are made new at once, and do not wait for the next `put`.
_MANY = 256
_MAX_KEY = 511  # LMDB's
_STORES: dict[str, RowStore] = {}
_OPENING = threading.Lock()


def open_store(directory, max_bytes=None):
    """Open the store of a folder; a second call in this process returns the same one.

    Parameters
    ----------
    directory : str or path-like
        The folder, made if it is not there; on a disk of this computer, as network file systems do not keep the locks
        that LMDB needs. One file and its lock are added to what is in it.
    max_bytes : int or None, default=None
        How many bytes of rows the store holds at most; of rows below 40 kB it may hold less, since they take more than
        their size in the file, which is meant to outgrow the bound by no more than a quarter and 64 MiB. It is kept
        with the store and holds for all processes: the call that came last decides, and a smaller bound forgets the
        oldest rows at once (the file does not shrink). None keeps the bound as it is, `DEFAULT_MAX_BYTES` in a new
        store.

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
    """
    if max_bytes is not None:
        max_bytes = operator.index(max_bytes)
        if max_bytes < 1:
            raise ValueError(f"max_bytes={max_bytes} must be at least 1")
    directory = os.path.realpath(directory)
    with _OPENING:
        store = _STORES.get(directory)
        if store is None:
            store = RowStore(directory, max_bytes)
            _STORES[directory] = store
        else:
            store._follow(max_bytes)
    return store


class RowStore:
    """Half-precision rows by key, for any number of threads and processes; made by `open_store`.

    Every `put` is there whole or not at all, whenever a process is killed. It survives a fork, and pickling, which
    sends the folder and not the rows.

    Parameters
    ----------
    directory : str
        The folder, as a real path.
    max_bytes : int or None
        As for `open_store`.
    """

    def __init__(self, directory, max_bytes):
        self.directory = directory
        self._environment = Environment(directory, room_for(max_bytes or DEFAULT_MAX_BYTES))
        self._used: dict[bytes, None] = {}
        self._noting = threading.Lock()
        self._follow(max_bytes)

    def has(self, key):
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

        def look(txn, tables):
            value = txn.get(key, db=tables["rows"])
            return value is not None and is_marked(value)

        return self._environment.run(look)

    def get(self, keys, length):
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

        def read(txn, tables):
            rows, found = unpack_rows(keys, [txn.get(key, db=tables["rows"]) for key in keys], length)
            hits = [key for key, hit in zip(keys, found, strict=True) if hit]
            return rows, found, used_keys(txn, tables, hits)

        rows, found, used = self._environment.run(read)
        if used:
            self._note(used)
        return rows, found

    def put(self, keys, rows):
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

        def write(txn, tables, state):
            state = renew(txn, tables, used, state)
            n_kept = min(len(keys), state.n_fitting(rows[0].nbytes))
            if not n_kept:
                return state
            return put_rows(txn, tables, keys[-n_kept:], rows[-n_kept:], state)

        self._write(write, rows.nbytes)

    @property
    def n_bytes(self):
        """Bytes of all rows."""
        return self._state().n_bytes

    @property
    def max_bytes(self):
        """Bytes of rows that the store holds at most."""
        return self._state().max_bytes

    def __len__(self):
        return self._environment.run(lambda txn, tables: txn.stat(tables["ages"])["entries"])

    def __repr__(self):
        return f"<rows in {self.directory!r}>"

    def __reduce__(self):
        return open_store, (self.directory,)

    def recall(self, name):
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

        def look(txn, tables):
            value = txn.get(_setting(name), db=tables["meta"])
            return None if value is None else bytes(value).decode()

        return self._environment.run(look)

    def remember(self, name, value):
        """Keep a setting; the first to do so decides, among all processes.

        Parameters
        ----------
        name : str
            Its name, of up to 500 bytes.
        value : str
            Its value.

        Returns
        -------
        str
            The value that is kept.
        """

        def write(txn, tables, state):
            txn.put(_setting(name), value.encode(), db=tables["meta"], overwrite=False)
            return state

        if self.recall(name) is None:
            self._write(write, len(value))
        return self.recall(name)

    def flush(self):
        """Bring everything to the disk: a loss of power then loses nothing."""
        self._environment.sync()

    def close(self):
        """Close the file, in this process; whatever is asked next opens it again."""
        self._environment.close()

    def _state(self):
        return self._environment.run(read_state) or State(DEFAULT_MAX_BYTES)

    def _follow(self, max_bytes):
        self._environment.follow()
        state = self._environment.run(read_state)
        if state is not None and max_bytes in (None, state.max_bytes):
            # Less than the bound that another process has set would be full too early.
            self._environment.grow(room_for(state.max_bytes))
            return

        def write(txn, tables, state):
            if max_bytes is None:
                return state
            return evict(txn, tables, state._replace(max_bytes=max_bytes))

        self._environment.grow(room_for(max_bytes or DEFAULT_MAX_BYTES))
        self._write(write, 0)

    def _write(self, work, n_bytes):
        """Write by `work(txn, tables, state)`, which returns the new state, and make room for it in the file."""
        import lmdb

        def write(txn, tables):
            before = read_state(txn, tables)
            after = work(txn, tables, before or State(DEFAULT_MAX_BYTES))
            if after != before:
                write_state(txn, tables, after)

        attempt = 0
        while True:
            try:
                return self._environment.run(write, write=True)
            except lmdb.MapFullError:
                self._make_room(n_bytes, attempt)
                attempt += 1

    def _make_room(self, n_bytes, attempt):
        """Free pages, or let the file grow where that is of no use."""
        import lmdb

        environment = self._environment
        environment.clear_readers()
        state = self._state()
        if environment.map_size < room_for(state.max_bytes):
            environment.grow(room_for(state.max_bytes))
            return
        if attempt < 2:
            n_bytes = max(n_bytes, state.n_bytes // 8) * (attempt + 1)

            def forget(txn, tables):
                before = read_state(txn, tables)
                tight = before._replace(max_bytes=max(0, before.n_bytes - n_bytes))
                write_state(txn, tables, evict(txn, tables, tight)._replace(max_bytes=before.max_bytes))

            with suppress(lmdb.MapFullError):
                environment.run(forget, write=True)
                # What a transaction frees is used by the next but one.
                environment.run(lambda txn, tables: write_state(txn, tables, read_state(txn, tables)), write=True)
                return
        # Somebody reads what was freed, or it lies in pieces too small: even to forget takes some pages.
        environment.grow(environment.map_size + 2 * n_bytes + (16 << 20))

    def _note(self, keys):
        with self._noting:
            self._used.update(dict.fromkeys(keys))
            if len(self._used) < _MANY:
                return
        used = self._take_used()
        # Reading does not fail because age cannot be written down.
        with suppress(CacheError):
            self._write(lambda txn, tables, state: renew(txn, tables, used, state), 0)

    def _take_used(self):
        with self._noting:
            used, self._used = list(self._used), {}
        return used


def _setting(name):
    return b"setting:" + name.encode()


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


def _before_fork():
    _OPENING.acquire()
    for store in _STORES.values():
        store._environment.before_fork()


def _after_fork_in_parent():
    for store in _STORES.values():
        store._environment.after_fork_in_parent()
    _OPENING.release()


def _after_fork_in_child():
    global _OPENING
    _OPENING = threading.Lock()
    for store in _STORES.values():
        store._noting = threading.Lock()
        store._environment.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
