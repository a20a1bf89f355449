"""The identity of an image's content, and of files that have not changed since they were read."""

from __future__ import annotations

import os
import time
from collections import OrderedDict

import numpy as np
import xxhash

__all__ = ["array_key", "bytes_key", "known_file_key", "note_file_key"]

# A file that changes twice within the resolution of its time stamp looks unchanged; one left alone for so long is not
# being written any more (git's rule for its index).
_SETTLED_NS = 2 * 10**9
_MOST_FILES = 200_000
_FILES: OrderedDict[str, tuple[tuple[int, ...], bytes]] = OrderedDict()


def bytes_key(data: bytes) -> bytes:
    """Return 16 bytes that stand for the content of an encoded image (XXH3, 128 bits)."""
    return xxhash.xxh3_128_digest(data, seed=1)


def array_key(image: np.ndarray) -> bytes:
    """Return 16 bytes that stand for pixels, their shape and their dtype."""
    digest = xxhash.xxh3_128(np.ascontiguousarray(image).data, seed=2)
    digest.update(f"{image.shape}{image.dtype.str}".encode())
    return digest.digest()


def known_file_key(path: str | os.PathLike) -> bytes | None:
    """Return the key of a file this process has read, if neither its size nor its times have changed since."""
    name = os.fsdecode(path)
    known = _FILES.get(name)
    if known is None:
        return None
    try:
        return known[1] if known[0] == _signature(os.stat(path)) else None
    except (OSError, ValueError):
        return None


def note_file_key(path: str | os.PathLike, status: os.stat_result, key: bytes) -> None:
    """Remember the key of a file, unless it was written a moment ago."""
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED_NS:
        return
    # Relative paths mean another file in another working directory: the inode is part of the signature.
    _FILES[os.fsdecode(path)] = (_signature(status), key)
    while len(_FILES) > _MOST_FILES:
        try:
            _FILES.popitem(last=False)
        except KeyError:  # another thread was faster
            break


def _signature(status):
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)
