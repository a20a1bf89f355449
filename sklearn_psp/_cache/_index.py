"""The index of a cache: connections to SQLite, for any thread and never over a fork; its tables; its errors."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from sklearn_psp.exceptions import CacheError

__all__ = [
    "Entry",
    "RowIndex",
    "State",
    "count",
    "disk_bound",
    "evict",
    "find",
    "middle_stamp",
    "read_state",
    "remove",
    "renew",
    "room_for",
    "take_space",
]

_INDEX, _ROWS = "features.sqlite", "features.rows"
_APPLICATION, _FORMAT = 0x50535072, 1  # "PSPr"
# The file of rows begins with it, so that a file of somebody else is never overwritten.
_MARK = b"rows of sklearn_psp".ljust(64, b"\n")
_PATIENCE = 60.0  # seconds that other processes are waited for
# Bytes of a row's line in the index, at most: 190 were measured with 500,000 keys of 48 bytes.
_INDEXED = 256
_TABLES = (
    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, stamp INTEGER NOT NULL, place INTEGER NOT NULL,"
    " size INTEGER NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID",
    "CREATE UNIQUE INDEX IF NOT EXISTS by_stamp ON entries (stamp)",
    "CREATE TABLE IF NOT EXISTS free (place INTEGER PRIMARY KEY, size INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_size ON free (size)",
    "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), max_bytes INTEGER NOT NULL,"
    " n_bytes INTEGER NOT NULL, n_rows INTEGER NOT NULL, next_stamp INTEGER NOT NULL, end INTEGER NOT NULL)",
)
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
_FORBIDDEN = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class RowIndex:
    """The files of a folder, open in this process.

    A connection to SQLite must not be carried over a fork, and is used by one thread at a time. So each call borrows
    one, they are all closed before a fork, and whoever comes next opens another.

    Parameters
    ----------
    directory : str
        The folder, as a real path; made if it is not there.
    max_bytes : int
        The bound of a new store.
    """

    def __init__(self, directory: str, max_bytes: int):
        self.directory = directory
        self._max_bytes = max_bytes
        self._closed = False
        self._path, self._rows = (os.path.join(directory, name) for name in (_INDEX, _ROWS))
        self.after_fork_in_child()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection, to read what was committed when it is first asked.

        Yields
        ------
        sqlite3.Connection
            The connection; not to be kept.

        Raises
        ------
        CacheError
            If the file cannot be read.
        """
        with self._borrowed("BEGIN") as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection in a transaction that is committed at the end; one at a time writes, of all processes.

        Yields
        ------
        sqlite3.Connection
            The connection; not to be kept.

        Raises
        ------
        CacheError
            If the files cannot be written.
        """
        with self._borrowed("BEGIN IMMEDIATE") as db:
            yield db

    def open_rows(self, mode: str) -> IO[bytes]:
        """Open the file of rows, for one call: what is never kept open needs no care at a fork, or on Windows.

        Parameters
        ----------
        mode : {"rb", "r+b"}
            To read, or to write.

        Returns
        -------
        file object
            The file, without a buffer; made anew if it was deleted.
        """
        try:
            return open(self._rows, mode, buffering=0)
        except FileNotFoundError:
            self._check_rows()
            return open(self._rows, mode, buffering=0)

    def sync(self) -> None:
        """Bring everything that is committed to the disk."""
        with self._borrowed(None) as db, self.open_rows("r+b") as file:
            os.fsync(file.fileno())
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connections of this process."""
        self.before_fork()
        self.after_fork_in_parent()

    def before_fork(self) -> None:
        """Close the connections, and keep everybody outside until `after_fork_in_parent`."""
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._closed = True
            try:
                while self._n_lent:
                    self._changed.wait()
            except BaseException:  # KeyboardInterrupt while waiting
                self._closed = False
                self._changed.notify_all()
                raise
            while self._idle:
                self._idle.pop()[0].close()

    def after_fork_in_parent(self) -> None:
        """Let everybody in again."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Let everybody in, by new locks: no other thread is there that could release the old ones."""
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[tuple[sqlite3.Connection, tuple[int, int] | None]] = []
        self._n_lent = 0
        self._closed = False

    @contextmanager
    def _borrowed(self, begin):
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._n_lent += 1
            db, identity = self._idle.pop() if self._idle else (None, None)
        try:
            if db is not None and identity != _identity(self._path):  # the folder was deleted meanwhile
                db.close()
                db = None
            if db is None:
                db = self._open()
                identity = _identity(self._path)
            if begin is not None:
                db.execute(begin)
            yield db
            if db.in_transaction:
                db.execute("COMMIT")
        except (CacheError, NotADirectoryError):
            raise
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise self._explained(error) from error
        finally:
            if db is not None and db.in_transaction:
                with suppress(sqlite3.Error):  # after some errors SQLite has done so already
                    db.execute("ROLLBACK")
            with self._changed:
                if db is not None:
                    self._idle.append((db, identity))
                self._n_lent -= 1
                self._changed.notify_all()

    def _open(self):
        try:
            os.makedirs(self.directory, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise NotADirectoryError(f"cache={self.directory!r} is, or lies in, a file; pass a folder") from error
        deadline = time.monotonic() + _PATIENCE
        while True:
            db = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(db)
            except BaseException as error:
                db.close()
                # Of processes that make a store at once SQLite refuses some without letting them wait.
                if _code(error) not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return db

    def _prepare(self, db):
        (application,) = db.execute("PRAGMA application_id").fetchone()
        if application != _APPLICATION:
            (n_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application or n_tables:
                raise CacheError(self._damaged(_INDEX, "it is the file of another program"))
            self._make(db)
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found != _FORMAT:
            reason = f"its format is {found}, this version of sklearn_psp reads {_FORMAT}"
            raise CacheError(self._damaged(_INDEX, reason))
        # The log is brought to the disk now and then, not at each commit: after a loss of power the last commits may
        # be missing, no entry is wrong.
        db.execute("PRAGMA synchronous = NORMAL")
        self._check_rows()

    def _make(self, db):
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        for table in _TABLES:
            db.execute(table)
        db.execute("INSERT OR IGNORE INTO state VALUES (1, ?, 0, 0, 0, ?)", (self._max_bytes, len(_MARK)))
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {_FORMAT}")
        db.execute("COMMIT")

    def _check_rows(self):
        with open(self._rows, "a+b"):
            pass  # now it is there
        with open(self._rows, "r+b") as file:
            mark = file.read(len(_MARK))
            if not _MARK.startswith(mark):
                raise CacheError(self._damaged(_ROWS, "it is the file of another program"))
            if len(mark) < len(_MARK):  # new, or its maker was killed: every process writes the same
                file.seek(0)
                file.write(_MARK)

    def _damaged(self, name, reason):
        return (
            f"cache={self.directory!r} cannot be used, {name!r} in it is no whole store: {reason}. Nothing was "
            "changed; delete that file, or the folder if nothing else is in it, or pass another folder. What a cache "
            "held is computed again"
        )

    def _explained(self, error):
        code = _code(error)
        if code in _DAMAGE or isinstance(error, UnicodeDecodeError):
            return CacheError(self._damaged(_INDEX, str(error)))
        if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return CacheError(
                f"cache={self.directory!r} cannot be written, the disk is full: free some space, or pass a folder on "
                f"another disk, or a smaller bound ({error})"
            )
        if code in _FORBIDDEN or isinstance(error, PermissionError):
            return CacheError(
                f"cache={self.directory!r} cannot be written: pass a folder in which you may create files ({error})"
            )
        if code in _BUSY:
            return CacheError(
                f"cache={self.directory!r} has been locked by another process for {_PATIENCE:.0f} seconds ({error}); "
                "end that process, or pass another folder"
            )
        return CacheError(f"cache={self.directory!r} cannot be read or written ({error}); pass another folder")


class State(NamedTuple):
    """The numbers of a store; they change in the transaction that changes its rows."""

    max_bytes: int
    n_bytes: int
    n_rows: int
    next_stamp: int
    end: int  # of what is taken in the file of rows

    def n_fitting(self, size: int) -> int:
        """How many rows of `size` bytes the store holds at most."""
        return min(self.max_bytes // size, disk_bound(self.max_bytes) // (size + _INDEXED))


class Entry(NamedTuple):
    """Where a row lies."""

    stamp: int
    place: int
    size: int
    checksum: bytes


def disk_bound(max_bytes: int) -> int:
    """Bytes of rows and their lines in the index. Rows of 2 kB and more reach `max_bytes` first, small ones do not."""
    return max_bytes + max_bytes // 8 + (32 << 20)


def room_for(max_bytes: int) -> int:
    """Bytes that the file of rows may have: what a transaction frees is used by the next, and gaps are left."""
    return max_bytes + max_bytes // 4 + (64 << 20)


def read_state(db: sqlite3.Connection) -> State:
    """Read the numbers of the store."""
    numbers = db.execute("SELECT max_bytes, n_bytes, n_rows, next_stamp, end FROM state").fetchone()
    if numbers is None or not all(type(number) is int and number >= 0 for number in numbers):
        raise sqlite3.DatabaseError(f"the state of the store is {numbers}")
    return State(*numbers)


def count(db: sqlite3.Connection, n_rows: int, n_bytes: int) -> None:
    """Count rows and bytes more, or less."""
    # What was counted wrong, by a file changed from outside, ends at 0.
    db.execute("UPDATE state SET n_rows = max(0, n_rows + ?), n_bytes = max(0, n_bytes + ?)", (n_rows, n_bytes))


def find(db: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Entry]:
    """Return where rows lie, by their keys."""
    found = {}
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        query = f"SELECT key, stamp, place, size, checksum FROM entries WHERE key IN ({','.join('?' * len(some))})"
        for key, *entry in db.execute(query, some):
            # In a damaged file anything may stand anywhere.
            if all(type(number) is int and number >= 0 for number in entry[:3]):
                found[key] = Entry(*entry)
    return found


def middle_stamp(db: sqlite3.Connection) -> int:
    """Stamp below which entries are among the older half, in a store that is more than half full; 0 in any other."""
    state = read_state(db)
    if 2 * state.n_bytes <= state.max_bytes:
        return 0
    (oldest,) = db.execute("SELECT min(stamp) FROM entries").fetchone()
    return ((oldest or 0) + state.next_stamp) // 2


def renew(db: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    """Make entries the newest, in the order of the keys."""
    stamp = first = read_state(db).next_stamp
    for key in keys:
        stamp += db.execute("UPDATE entries SET stamp = ? WHERE key = ?", (stamp, key)).rowcount
    if stamp > first:
        db.execute("UPDATE state SET next_stamp = ?", (stamp,))


def evict(db: sqlite3.Connection, n_bytes: int) -> None:
    """Remove the oldest entries until no more than some bytes of rows are left."""
    while True:
        state = read_state(db)
        n_disk = state.n_bytes + state.n_rows * _INDEXED
        if state.n_bytes <= n_bytes and n_disk <= disk_bound(state.max_bytes):
            return
        # A few at once, as they may differ in size; whatever was counted, nothing is left after the last.
        oldest = db.execute("SELECT key, stamp, place, size, checksum FROM entries ORDER BY stamp LIMIT 32").fetchall()
        if not oldest:
            db.execute("UPDATE state SET n_bytes = 0, n_rows = 0")
            return
        over = max(state.n_bytes - n_bytes, n_disk - disk_bound(state.max_bytes))
        gone = []
        for key, *entry in oldest:
            if over <= 0:
                break
            gone.append((key, Entry(*entry)))
            over -= entry[2]
        remove(db, gone)


def remove(db: sqlite3.Connection, entries: Iterable[tuple[bytes, Entry]]) -> None:
    """Remove entries, and give back their space."""
    for key, entry in entries:
        db.execute("DELETE FROM entries WHERE key = ?", (key,))
        count(db, -1, -entry.size)
        _give_back(db, entry.place, entry.size)


def _give_back(db, place, size):
    """Add space to what is free, as one piece with what is free on either side."""
    before = db.execute("SELECT place, size FROM free WHERE place < ? ORDER BY place DESC LIMIT 1", (place,)).fetchone()
    if before is not None and sum(before) == place:
        db.execute("DELETE FROM free WHERE place = ?", (before[0],))
        place, size = before[0], before[1] + size
    after = db.execute("SELECT size FROM free WHERE place = ?", (place + size,)).fetchone()
    if after is not None:
        db.execute("DELETE FROM free WHERE place = ?", (place + size,))
        size += after[0]
    if not db.execute("UPDATE state SET end = ? WHERE end = ?", (place, place + size)).rowcount:
        db.execute("INSERT OR REPLACE INTO free VALUES (?, ?)", (place, size))


def take_space(
    db: sqlite3.Connection, state: State, n: int, size: int, room: int | None
) -> list[tuple[int, int]] | None:
    """Take room for `n` rows of `size` bytes: places, and how many lie there side by side.

    The smallest piece in which a row fits is taken first, the end of the file last. None, and nothing is taken, if the
    file would become larger than `room`.
    """
    runs, left = [], n
    for place, piece in db.execute("SELECT place, size FROM free WHERE size >= ? ORDER BY size, place", (size,)):
        if not left:
            break
        count = min(left, piece // size)
        runs.append((place, count, piece))
        left -= count
    end = state.end + left * size
    if room is not None and left and end > room:
        return None
    for place, count, piece in runs:
        db.execute("DELETE FROM free WHERE place = ?", (place,))
        if piece > count * size:
            db.execute("INSERT INTO free VALUES (?, ?)", (place + count * size, piece - count * size))
    db.execute("UPDATE state SET end = ?", (end,))
    return [(place, count) for place, count, _ in runs] + ([(state.end, left)] if left else [])


def _code(error):
    # The extended codes of SQLite hold the plain one in their low byte.
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return sqlite3.SQLITE_CORRUPT if type(error) is sqlite3.DatabaseError else None
    return code & 0xFF


def _identity(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
