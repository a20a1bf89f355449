"""What stands in the file: four tables, and the functions that keep them in step within one transaction.

=========  ==========================================  =========================================================
table      key                                         value
=========  ==========================================  =========================================================
`rows`     the caller's key                            mark, length, checksum (24 bytes), then float16, little endian
`ages`     the caller's key                            stamp, bytes of the payload
`stamps`   stamp, big endian, so that the first is     the caller's key
           the oldest
`meta`     `state`, `format`, `setting:NAME`           see `State`; text
=========  ==========================================  =========================================================

The stamp stands beside the row, not in it: to renew it costs 40 bytes then, not a copy of the row.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

import numpy as np
import xxhash

__all__ = [
    "FORMAT",
    "TABLES",
    "State",
    "disk_bound",
    "disk_bytes",
    "evict",
    "is_marked",
    "pack_row",
    "put_rows",
    "read_state",
    "renew",
    "room_for",
    "unpack_rows",
    "used_keys",
    "write_state",
]

FORMAT = b"1"
TABLES = ("rows", "ages", "stamps", "meta")
_VERSION = 1
_MARK = struct.pack("<4sI", b"PSPr", _VERSION)
_HEADER = struct.Struct("<8sQQ")
_STAMP = struct.Struct(">Q")
_AGE = struct.Struct("<QQ")
_STATE = struct.Struct("<QQQQ")
_PAGE = min(mmap.PAGESIZE, 1 << 15)  # LMDB's own choice


class State(NamedTuple):
    """The numbers of a store; they change in the transaction that changes its rows."""

    max_bytes: int
    n_bytes: int = 0
    n_disk: int = 0
    next_stamp: int = 0

    def count(self, size, n=1):
        """Count `n` rows of `size` bytes more, or less; what was counted wrong ends at 0."""
        n_bytes, n_disk = max(0, self.n_bytes + n * size), max(0, self.n_disk + n * disk_bytes(size))
        return self._replace(n_bytes=n_bytes, n_disk=n_disk)

    def n_fitting(self, size):
        """How many rows of `size` bytes the store holds at most."""
        return min(self.max_bytes // size, disk_bound(self.max_bytes) // disk_bytes(size))

    def is_over(self):
        """Whether something has to go."""
        return self.n_bytes > self.max_bytes or self.n_disk > disk_bound(self.max_bytes)


def disk_bytes(size):
    """About what a row of `size` bytes takes in the file, at most: whole pages, or its share of one, and three keys."""
    if size < _PAGE // 2 - 150:
        return 2 * (size + 64) + 256
    return -(-(size + 40) // _PAGE) * _PAGE + 256


def disk_bound(max_bytes):
    """What all rows may take in the file. Rows of 40 kB and more reach `max_bytes` first, small ones do not."""
    return max_bytes + max_bytes // 8 + (32 << 20)


def room_for(max_bytes):
    """Bytes that a file may grow to.

    Pages that one transaction frees are used again by the next but one, and only once no reader looks at them.
    """
    return max_bytes + max_bytes // 4 + (64 << 20)


def read_state(txn, tables):
    """Read the numbers; None in a file without any."""
    value = txn.get(b"state", db=tables["meta"])
    return None if value is None else State(*_STATE.unpack(value))


def write_state(txn, tables, state):
    """Write the numbers."""
    txn.put(b"state", _STATE.pack(*state), db=tables["meta"])


def is_marked(value):
    """Whether a value begins as ours of this version do."""
    return value[: len(_MARK)] == _MARK


def pack_row(key, row, out):
    """Write header and payload of a row.

    Parameters
    ----------
    key : bytes
        Its key.
    row : ndarray of shape (length,), float16, little endian
        The row.
    out : ndarray of shape (24 + 2 * length,), uint8
        Where to write.
    """
    payload = row.view(np.uint8)
    out[: _HEADER.size] = np.frombuffer(_HEADER.pack(_MARK, row.size, _checksum(key, payload)), dtype=np.uint8)
    out[_HEADER.size :] = payload


def unpack_rows(keys, values, length):
    """Copy rows out of the file, and leave out what is not whole.

    Parameters
    ----------
    keys : list of bytes
        The keys.
    values : list of memoryview or None
        What stands under them; None where nothing does.
    length : int
        Elements of a row.

    Returns
    -------
    rows : ndarray of shape (n_found, length), float16
        The rows that are whole; in C order, and the caller's own.
    found : ndarray of shape (n_keys,), bool
        Whose rows they are.
    """
    size = _HEADER.size + 2 * length
    claims = [value is not None and len(value) == size and is_marked(value) for value in values]
    rows = np.empty((sum(claims), length), dtype="<f2")
    found = np.zeros(len(keys), dtype=bool)
    n_found = 0
    for position, claimed in enumerate(claims):
        if not claimed:
            continue
        _, stated, checksum = _HEADER.unpack_from(values[position])
        # The checksum is that of the copy: one pass over the file, the second over the processor's cache.
        payload = rows[n_found].view(np.uint8)
        payload[:] = np.frombuffer(values[position], dtype=np.uint8, offset=_HEADER.size)
        if stated == length and checksum == _checksum(keys[position], payload):
            found[position] = True
            n_found += 1
    return rows[:n_found].astype(np.float16, copy=False), found


def used_keys(txn, tables, keys):
    """Those of the keys that are among the older half, if the store is more than half full."""
    state = read_state(txn, tables)
    with txn.cursor(tables["stamps"]) as cursor:
        if 2 * state.n_bytes <= state.max_bytes or not cursor.first():
            return []
        middle = (_STAMP.unpack(cursor.key())[0] + state.next_stamp) // 2
    used = []
    for key in keys:
        age = txn.get(key, db=tables["ages"])
        if age is not None and _AGE.unpack(age)[0] < middle:
            used.append(key)
    return used


def renew(txn, tables, keys, state):
    """Make entries the newest, in the order of the keys; returns the new state, not yet written."""
    stamp = state.next_stamp
    for key in keys:
        age = txn.get(key, db=tables["ages"])
        if age is None:
            continue
        old, size = _AGE.unpack(age)
        txn.delete(_STAMP.pack(old), db=tables["stamps"])
        txn.put(_STAMP.pack(stamp), key, db=tables["stamps"])
        txn.put(key, _AGE.pack(stamp, size), db=tables["ages"])
        stamp += 1
    return state._replace(next_stamp=stamp)


def evict(txn, tables, state, size=0, n=0):
    """Remove the oldest entries until there is room for `n` of `size` bytes; returns the new state, not yet written."""
    with txn.cursor(tables["stamps"]) as cursor:
        while state.count(size, n).is_over():
            if not cursor.first():
                return state._replace(n_bytes=0, n_disk=0)  # whatever was counted, nothing is left
            key = cursor.value()
            cursor.delete()
            txn.delete(key, db=tables["rows"])
            age = txn.pop(key, db=tables["ages"])
            if age is not None:
                state = state.count(_AGE.unpack(age)[1], -1)
    return state


def put_rows(txn, tables, keys, rows, state):
    """Put rows in as the newest, for whatever stands under their keys, and make room for them.

    Parameters
    ----------
    txn : lmdb.Transaction
        A transaction that writes.
    tables : dict
        The open tables by name.
    keys : list of bytes
        The keys, each once.
    rows : ndarray of shape (n_keys, length), float16, little endian
        The rows; no more than `state.n_fitting`.
    state : State
        The state before.

    Returns
    -------
    State
        The state after, not yet written.
    """
    for key in keys:
        age = txn.pop(key, db=tables["ages"])
        if age is not None:
            stamp, size = _AGE.unpack(age)
            txn.delete(_STAMP.pack(stamp), db=tables["stamps"])
            state = state.count(size, -1)
    size = rows[0].nbytes
    state = evict(txn, tables, state, size, len(keys)).count(size, len(keys))
    value = np.empty(_HEADER.size + size, dtype=np.uint8)
    for stamp, (key, row) in enumerate(zip(keys, rows, strict=True), start=state.next_stamp):
        pack_row(key, row, value)
        txn.put(key, value.data, db=tables["rows"])
        txn.put(key, _AGE.pack(stamp, size), db=tables["ages"])
        txn.put(_STAMP.pack(stamp), key, db=tables["stamps"])
    return state._replace(next_stamp=state.next_stamp + len(keys))


def _checksum(key, payload):
    # With the key as its seed: a whole row under another key is no row.
    return xxhash.xxh3_64_intdigest(payload, seed=xxhash.xxh3_64_intdigest(key))
