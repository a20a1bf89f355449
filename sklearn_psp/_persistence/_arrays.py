"""Large arrays on their way between an estimator and its file, never in memory twice."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from sklearn_psp.exceptions import PersistenceError

__all__ = ["LARGE", "StoredArray", "hold", "is_saving", "read_array", "reading", "saving", "write_array"]

# Bytes from which on an array is streamed; below, a copy costs less than the bookkeeping.
LARGE = 1 << 16
_PIECE = 1 << 22
# Lengths of name and extra field stand at the end of what comes before a member (APPNOTE 4.3.7).
_LOCAL_HEADER = struct.Struct("<26xHH")
_SAVING: ContextVar[dict | None] = ContextVar("sklearn_psp_saving", default=None)
_READING: ContextVar = ContextVar("sklearn_psp_reading", default=None)


class StoredArray:
    """Stands for an array while skops walks through an estimator.

    In the file there is an ordinary array of skops in its place; while one is read, calling this class gives the array.

    Parameters
    ----------
    name : str
        Name of the array's member in the file.
    """

    def __new__(cls, name):
        read = _READING.get()
        if read is not None:
            return read(name)
        self = super().__new__(cls)
        self.name = name
        return self

    def __reduce__(self):
        # The form that skops writes as a call of the class.
        return type(self), (self.name,)


def is_saving():
    """Whether `save` is at work, and `__getstate__` should return what skops can hold."""
    return _SAVING.get() is not None


def hold(state, key=None):
    """Put stand-ins in the place of the large arrays of a state, if `save` is at work.

    Parameters
    ----------
    state : ndarray, dict, list, or anything else
        Dicts and lists are gone through; everything but arrays stays as it is. The arrays must not change while saving.
    key : str or None, default=None
        What equal arrays have in common, to be written once; None: only the same array is. For an array only.

    Returns
    -------
    object
        The state with stand-ins; arrays come back in their place when loaded.
    """
    held = _SAVING.get()
    if held is None:
        return state
    if type(state) is dict:
        return {key: hold(value) for key, value in state.items()}
    if type(state) is list:
        return [hold(value) for value in state]
    if not isinstance(state, np.ndarray) or state.dtype.hasobject or state.nbytes < LARGE:
        return state
    key = id(state) if key is None else key
    if key not in held:
        # The array is kept with its stand-in: another one must not get its id.
        held[key] = StoredArray(f"arrays/{len(held)}.npy"), state
    return held[key][0]


@contextmanager
def saving():
    """Collect what `hold` takes; yields the dict of it."""
    held: dict = {}
    token = _SAVING.set(held)
    try:
        yield held
    finally:
        _SAVING.reset(token)


@contextmanager
def reading(read):
    """Have stand-ins answered by `read(name)`."""
    token = _READING.set(read)
    try:
        yield
    finally:
        _READING.reset(token)


def write_array(archive, name, array):
    """Stream an array into an archive, as a `.npy` member.

    Parameters
    ----------
    archive : zipfile.ZipFile
        Where to write.
    name : str
        Name of the member.
    array : ndarray
        The array; one that is not contiguous is written piece by piece.
    """
    with archive.open(name, "w", force_zip64=True) as member:
        if array.dtype.kind in "biufc" and array.flags.c_contiguous and array.size:
            np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
            data = memoryview(array.reshape(-1).view(np.uint8))
            for start in range(0, len(data), _PIECE):
                member.write(data[start : start + _PIECE])
        else:
            np.lib.format.write_array(member, array, allow_pickle=False)


def read_array(archive, name):
    """Read a `.npy` member of an archive straight into its array.

    Parameters
    ----------
    archive : zipfile.ZipFile
        Where to read.
    name : str
        Name of the member.

    Returns
    -------
    ndarray
        The array.

    Raises
    ------
    PersistenceError
        If the member is not an array of the size it claims.
    """
    with _member(archive, archive.getinfo(name)) as member:
        version = np.lib.format.read_magic(member)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise PersistenceError(f"the array {name!r} is of an unknown npy version {version}: save it again")
        shape, fortran_order, dtype = read_header[version](member)
        n_bytes = math.prod(shape) * dtype.itemsize
        # Before memory is asked for: a header may claim anything.
        if dtype.hasobject or n_bytes != archive.getinfo(name).file_size - member.tell():
            raise PersistenceError(f"the array {name!r} is damaged: {shape} of {dtype} is not what it holds")
        data = np.empty(n_bytes, dtype=np.uint8)
        view, start = memoryview(data), 0
        while start < n_bytes:
            count = member.readinto(view[start : start + _PIECE])
            if not count:
                raise PersistenceError(f"the array {name!r} is cut off at {start:,} of {n_bytes:,} bytes")
            start += count
        member.check()
    return data.view(dtype).reshape(shape, order="F" if fortran_order else "C")


def _member(archive, info):
    if info.compress_type == zipfile.ZIP_STORED and archive.filename:
        return _StoredMember(archive.filename, info)
    member = archive.open(info)
    member.check = lambda: None  # zipfile compares checksums itself
    return member


class _StoredMember:
    """A member that is not compressed, read without a copy: zipfile makes two of all it reads.

    Parameters
    ----------
    path : str
        The archive.
    info : zipfile.ZipInfo
        The member.
    """

    def __init__(self, path, info):
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the member
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
            raise zipfile.BadZipFile(f"there is no member {info.filename!r} where it should be")
        self._file.seek(sum(_LOCAL_HEADER.unpack(header)), 1)
        self._info, self._read, self._checksum = info, 0, 0

    def tell(self):
        """Bytes read so far."""
        return self._read

    def read(self, size):
        """Read some bytes, as numpy reads a header."""
        data = bytearray(size)
        del data[self.readinto(data) :]
        return bytes(data)

    def readinto(self, buffer):
        """Read into a buffer; how many bytes."""
        view = memoryview(buffer)[: self._info.file_size - self._read]
        count = self._file.readinto(view)
        self._checksum = zlib.crc32(view[:count], self._checksum)
        self._read += count
        return count

    def check(self):
        """Compare checksums, once all is read."""
        if self._checksum != self._info.CRC:
            raise zipfile.BadZipFile(f"bad CRC-32 for file {self._info.filename!r}")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()
