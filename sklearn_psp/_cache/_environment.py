"""One open file a process: opened once, again after a fork, and grown while nobody looks into it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

from sklearn_psp._cache._records import FORMAT, TABLES
from sklearn_psp.exceptions import CacheError

__all__ = ["Environment"]

_FILE = "features.lmdb"
# A map is a multiple of it on Windows; the pages of other systems divide it.
_GRAIN = 1 << 16
# What a file may lack at its end: pages that were taken and given back in one transaction are never written.
_UNWRITTEN = 1 << 20


class Environment:
    """The file of a folder, for all threads of this process.

    LMDB forbids to open a file twice in a process, to use it after a fork, and to change the size of the map while a
    transaction is open. This class sees to all three.

    Parameters
    ----------
    directory : str
        The folder, as a real path; made if it is not there.
    map_size : int
        Bytes that the file may grow to, to begin with.
    """

    def __init__(self, directory, map_size):
        self.directory = directory
        self.path = os.path.join(directory, _FILE)
        self.tables = {}
        self._map_size = _rounded(map_size)
        self._env = self._pid = self._identity = None
        self.after_fork_in_child()

    def run(self, work, *, write=False):
        """Call `work(txn, tables)` in a transaction, which is committed when it returns.

        Parameters
        ----------
        work : callable
            The work. It may be called again from the start, and must not keep what it was given. Reading, values are
            memoryviews that end with the transaction; writing, bytes.
        write : bool, default=False
            Whether it writes; one transaction at a time does, among all processes.

        Returns
        -------
        object
            What the work returns.

        Raises
        ------
        CacheError
            If the file cannot be read or written.
        lmdb.MapFullError
            If the file has no room left.
        """
        while True:
            env = self._enter()
            try:
                with env.begin(write=write, buffers=not write) as txn:
                    return work(txn, self.tables)
            except Exception as error:
                import lmdb

                if isinstance(error, lmdb.MapFullError) or not isinstance(error, lmdb.Error):
                    raise
                if not isinstance(error, lmdb.MapResizedError):
                    raise self._explained(error) from error
            finally:
                self._leave()
            self.grow(0)  # another process uses more of the file than this one can see

    def grow(self, size):
        """Let the file grow to `size` bytes; 0: to what another process has allowed it."""
        with self._nobody_inside():
            if self._is_open() and (size == 0 or size > self._env.info()["map_size"]):
                self._env.set_mapsize(_rounded(size))
                self._map_size = self._env.info()["map_size"]

    @property
    def map_size(self):
        """Bytes that the file may grow to."""
        return self._map_size

    def clear_readers(self):
        """Free the places of readers that were killed: their pages could not be used again."""
        env = self._enter()
        try:
            env.reader_check()
        finally:
            self._leave()

    def sync(self):
        """Bring everything that is committed to the disk."""
        env = self._enter()
        try:
            env.sync(True)
        except Exception as error:
            raise self._explained(error) from error
        finally:
            self._leave()

    def close(self):
        """Close the file; whatever is asked next opens it again."""
        with self._nobody_inside():
            self._close()

    def follow(self):
        """Open the file now, anew if the folder was deleted meanwhile."""
        with self._nobody_inside():
            if self._is_open() and self._identity != _identity(self.path):
                self._close()
        self._enter()
        self._leave()

    def before_fork(self):
        """Close the file, and keep everybody outside until `after_fork_in_parent`.

        A child can neither use what it inherits nor close it: both write to the lock file in the name of the parent.
        """
        with self._changed:
            self._exclude_others()
            self._close()

    def after_fork_in_parent(self):
        """Let everybody in again."""
        with self._changed:
            self._admit_others()

    def after_fork_in_child(self):
        """Let everybody in, by new locks: no other thread is there that could release the old ones."""
        self._changed = threading.Condition(threading.Lock())
        self._n_inside = 0
        self._alone = False

    def _enter(self):
        with self._changed:
            while self._alone:
                self._changed.wait()
            if self._pid != os.getpid():
                self._open()
            self._n_inside += 1
            return self._env

    def _leave(self):
        with self._changed:
            self._n_inside -= 1
            if self._alone and not self._n_inside:
                self._changed.notify_all()

    @contextlib.contextmanager
    def _nobody_inside(self):
        with self._changed:
            self._exclude_others()
            try:
                yield
            finally:
                self._admit_others()

    def _exclude_others(self):
        while self._alone:
            self._changed.wait()
        self._alone = True
        try:
            while self._n_inside:
                self._changed.wait()
        except BaseException:  # the user's patience
            self._admit_others()
            raise

    def _admit_others(self):
        self._alone = False
        self._changed.notify_all()

    def _is_open(self):
        return self._env is not None and self._pid == os.getpid()

    def _close(self):
        if self._is_open():
            self._env.close()
            self._env = self._pid = self._identity = None

    def _open(self):
        import lmdb

        try:
            os.makedirs(self.directory, exist_ok=True)
            self._open_file(lmdb)
        except CacheError:
            raise
        except (FileExistsError, NotADirectoryError) as error:
            raise NotADirectoryError(f"cache={self.directory!r} is, or lies in, a file; pass a folder") from error
        except (lmdb.Error, OSError) as error:
            raise self._explained(error) from error

    def _open_file(self, lmdb):
        # Data is synced at each commit, the page that points to it with the next one: after a loss of power the last
        # commit may be missing, no entry is wrong. A commit of 32 rows of 125 kB took 4.4 ms so, 8.0 ms with both
        # synced, and 0.8 ms with none, where a loss of power can leave a file that does not open.
        env = lmdb.open(
            self.path,
            subdir=False,
            map_size=self._map_size,
            metasync=False,
            mode=0o666,
            max_dbs=len(TABLES),
            max_readers=1024,
        )
        try:
            env.reader_check()
            self._check_length(env)
            with env.begin(write=True) as txn:
                tables = self._open_tables(env, txn)
            map_size, identity = env.info()["map_size"], _identity(self.path)
        except BaseException:
            env.close()  # or it could not be opened again
            raise
        self._env, self._pid, self.tables = env, os.getpid(), tables
        self._map_size, self._identity = map_size, identity

    def _check_length(self, env):
        # A page that the file lacks ends the process when it is looked at.
        needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        missing = needed - os.stat(self.path).st_size
        if missing > _UNWRITTEN:
            raise CacheError(self._damaged(f"it is cut off, {missing:,} bytes are missing"))
        if missing > 0:
            os.truncate(self.path, needed)

    def _open_tables(self, env, txn):
        with txn.cursor() as cursor:
            names = set(cursor.iternext(keys=True, values=False))
        if names and not {name.encode() for name in TABLES} <= names:
            raise CacheError(self._damaged("it is the file of another program"))
        tables = {name: env.open_db(name.encode(), txn=txn) for name in TABLES}
        if not names:
            txn.put(b"format", FORMAT, db=tables["meta"])
        found = txn.get(b"format", db=tables["meta"])
        if found != FORMAT:
            raise CacheError(self._damaged(f"its format is {found!r}, this version of sklearn_psp reads {FORMAT!r}"))
        return tables

    def _damaged(self, reason):
        return (
            f"cache={self.directory!r} cannot be used, {_FILE!r} in it is no whole store: {reason}. Nothing was "
            "changed; delete that file, or the folder if nothing else is in it, or pass another folder. What a cache "
            "held is computed again"
        )

    def _explained(self, error):
        import lmdb

        damage = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)
        if isinstance(error, (*damage, lmdb.IncompatibleError, lmdb.PanicError)):
            return CacheError(self._damaged(str(error)))
        if isinstance(error, lmdb.DiskError) or getattr(error, "errno", None) == errno.ENOSPC:
            return CacheError(
                f"cache={self.directory!r} cannot be written, the disk is full: free some space, or pass a folder on "
                f"another disk, or a smaller bound ({error})"
            )
        if isinstance(error, lmdb.ReadonlyError | PermissionError):
            return CacheError(
                f"cache={self.directory!r} cannot be written: pass a folder in which you may create files ({error})"
            )
        return CacheError(f"cache={self.directory!r} cannot be read or written ({error}); pass another folder")


def _rounded(size):
    return -(-size // _GRAIN) * _GRAIN


def _identity(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
