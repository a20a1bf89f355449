"""A file that is there whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows refuses to remove a file that is open, which tells the living from the dead just as well
    fcntl = None

__all__ = ["atomic_file"]

# Where the file system has no locks, a temporary file of this age has no writer any more.
_DAY = 24 * 3600


@contextmanager
def atomic_file(path):
    """Open a file for writing that takes the place of another in one step.

    It is written as `.NAME.XXXXXXXX.tmp` in the same folder, brought to the disk, and renamed. A crash at any moment
    leaves the old file as it was. Temporary files of the same name whose writer is dead are removed first: a living
    writer holds a lock on its own, which the system releases when the process ends in whatever way.

    Parameters
    ----------
    path : str or path-like
        The file. If it is a symbolic link, what it points to is replaced.

    Yields
    ------
    file object
        Open for writing in binary mode; seekable.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {str(path.parent)!r} does not exist; make it first")
    _remove_abandoned(path)
    temporary, descriptor = _create(path)
    try:
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            _copy_mode(path, descriptor)
            os.fsync(descriptor)
            if fcntl is not None:
                os.replace(temporary, path)  # while it is still locked
        if fcntl is None:
            os.replace(temporary, path)  # Windows renames closed files only
    except BaseException:
        with suppress(OSError):
            os.remove(temporary)
        raise
    _sync_folder(path.parent)


def _create(path):
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
            descriptor = os.open(temporary, flags, 0o666)
        except FileExistsError:
            continue
        if fcntl is None:
            return temporary, descriptor
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Between creation and lock another writer may have taken it for abandoned.
        if temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _remove_abandoned(path):
    prefix, suffix = f".{path.name}.", ".tmp"
    for entry in os.scandir(path.parent):
        token = entry.name[len(prefix) : -len(suffix)]
        ours = entry.name.startswith(prefix) and entry.name.endswith(suffix) and len(token) == 8
        if ours and set(token) <= set("0123456789abcdef") and entry.is_file(follow_symlinks=False):
            with suppress(OSError):
                _remove_if_abandoned(entry.path)


def _remove_if_abandoned(temporary):
    if fcntl is None:
        os.remove(temporary)
        return
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except OSError:
        if time.time() - os.fstat(descriptor).st_mtime < _DAY:
            return
        os.remove(temporary)
    else:
        os.remove(temporary)
    finally:
        os.close(descriptor)


def _copy_mode(path, descriptor):
    if hasattr(os, "fchmod"):
        with suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))


def _sync_folder(folder):
    # The rename itself is on the disk only then; Windows cannot open a folder, and need not.
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
