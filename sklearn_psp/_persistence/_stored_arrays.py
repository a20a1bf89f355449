"""Large arrays of a saved file: a member `arrays.safetensors`, read and written without a copy.

Every array begins at a multiple of 64 bytes of the file, so that it can be mapped into memory. The format of
safetensors allows no gaps: what lies between two arrays is an array of its own, called `padding`.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

import numpy as np
import xxhash

from sklearn_psp.exceptions import PersistenceError

__all__ = [
    "ARRAYS",
    "StoredArray",
    "hold",
    "is_saving",
    "read_arrays",
    "reading",
    "saving",
    "stored_array",
    "write_arrays",
]

ARRAYS = "arrays.safetensors"
# Bytes from which on an array is kept there: below, its line in the description is not much shorter than itself.
LARGE = 4096
_ALIGNMENT = 64  # a cache line; also what vector instructions and PyTorch ask for
_PIECE = 1 << 22
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member: the lengths of its name and extra field follow (APPNOTE 4.3.7)
_ZIP64 = 20  # bytes of the extra field that zipfile adds where sizes may be large
_ALIGNING = 0xD935  # the kind of extra field that Android's zipalign gave to padding
_DTYPES = {"|b1": "BOOL", "|i1": "I8", "|u1": "U8"} | {
    f"<{kind}{size}": f"{name}{8 * size}"
    for kind, name, sizes in (("f", "F", (2, 4, 8)), ("i", "I", (2, 4, 8)), ("u", "U", (2, 4, 8)))
    for size in sizes
}
_SAVING: ContextVar[dict | None] = ContextVar("sklearn_psp_saving", default=None)
_READING: ContextVar[Callable[[str], np.ndarray] | None] = ContextVar("sklearn_psp_reading", default=None)


class StoredArray:
    """Stands for an array while an estimator is described; in the file it is a call of `stored_array`.

    Parameters
    ----------
    name : str
        Name of the array among those of the file.
    array : ndarray
        The array. It must not change while it is saved.
    """

    __module__ = "sklearn_psp"  # its name in files

    def __init__(self, name: str, array: np.ndarray):
        self.name = name
        self.array = array

    def __reduce__(self):
        # The form that skops writes as a call of the class.
        order = "C" if self.array.flags.c_contiguous or not self.array.flags.f_contiguous else "F"
        return type(self), (self.name, self.array.dtype.str, self.array.shape, order)


def stored_array(name: str, dtype: str, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Return an array of the file that is being loaded.

    Parameters
    ----------
    name : str
        Its name.
    dtype : str
        Its dtype, as numpy abbreviates it.
    shape : tuple of int
        Its shape.
    order : {"C", "F"}
        Which index changes fastest.

    Returns
    -------
    ndarray
        The array.

    Raises
    ------
    PersistenceError
        If there is no such array, or it has another size.
    """
    read = _READING.get()
    if read is None:
        raise PersistenceError("the arrays of this file are beside its description: use sklearn_psp.load")
    data, kind = read(name), np.dtype(dtype)
    if kind.hasobject or min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != data.nbytes:
        raise PersistenceError(f"the array {name!r} is damaged: {shape} of {kind} is not what it holds")
    return data.view(kind).reshape(shape, order="F" if order == "F" else "C")


def is_saving() -> bool:
    """Whether `save` is at work, and `__getstate__` should return what skops can hold."""
    return _SAVING.get() is not None


def hold(state: Any, key: str | None = None) -> Any:
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
    if type(state) is not np.ndarray or state.dtype.kind not in "biufcmMSU" or state.nbytes < LARGE:
        return state
    # The stand-in keeps its array: another one must not get its id.
    return held.setdefault(id(state) if key is None else key, StoredArray(str(len(held)), state))


@contextmanager
def saving() -> Iterator[dict[Any, StoredArray]]:
    """Collect what `hold` takes; yields the dict of it."""
    held: dict[Any, StoredArray] = {}
    token = _SAVING.set(held)
    try:
        yield held
    finally:
        _SAVING.reset(token)


@contextmanager
def reading(read: Callable[[str], np.ndarray]) -> Iterator[None]:
    """Have `stored_array` answered by `read(name)`, which returns bytes."""
    token = _READING.set(read)
    try:
        yield
    finally:
        _READING.reset(token)


def write_arrays(archive: zipfile.ZipFile, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Write the member of arrays.

    Parameters
    ----------
    archive : zipfile.ZipFile
        Where to write; nothing else of it is being written.
    arrays : dict of str to ndarray
        The arrays by name. One that is contiguous in neither order is copied.

    Returns
    -------
    dict
        What the manifest says of them, and `read_arrays` compares.
    """
    layout: dict[str, Any] = {}
    blocks: list[np.ndarray] = []
    checksums, end = {}, 0
    for name, array in arrays.items():
        # Columns first, an array is the transposed one with rows first.
        rows = np.ascontiguousarray(array.T if array.flags.f_contiguous and not array.flags.c_contiguous else array)
        data = rows.reshape(-1).view(np.uint8)
        kind = _DTYPES.get(array.dtype.str)
        shape = [data.size] if kind is None else list(rows.shape)
        layout[name] = {"dtype": kind or "U8", "shape": shape, "data_offsets": [end, end + data.size]}
        checksums[name] = _checksum(data)
        padding = np.zeros(-data.size % _ALIGNMENT, dtype=np.uint8)
        end += data.size + padding.size
        if padding.size:
            offsets = [end - padding.size, end]
            layout[f"padding{len(blocks)}"] = {"dtype": "U8", "shape": [padding.size], "data_offsets": offsets}
        blocks += [data, padding]
    header = json.dumps(layout).encode()
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    header = struct.pack("<Q", len(header)) + header
    with archive.open(_aligned_member(archive), "w", force_zip64=True) as member:
        member.write(header)
        for block in blocks:
            for start in range(0, block.size, _PIECE):
                member.write(block[start : start + _PIECE].data)
    return {"bytes": len(header) + end, "header": xxhash.xxh3_128_hexdigest(header), "xxh3": checksums}


def _aligned_member(archive):
    info = zipfile.ZipInfo(ARRAYS)
    info.external_attr = 0o600 << 16
    before = archive.start_dir + _LOCAL_HEADER.size + len(ARRAYS) + _ZIP64 + 4
    padding = -before % _ALIGNMENT
    info.extra = struct.pack("<HH", _ALIGNING, padding) + bytes(padding)
    return info


def read_arrays(path: str | os.PathLike, info: zipfile.ZipInfo, stated: dict[str, Any]) -> dict[str, Callable]:
    """Open the member of arrays, without reading them.

    Parameters
    ----------
    path : str or path-like
        The file.
    info : zipfile.ZipInfo
        The member; its size was compared with that of the file.
    stated : dict
        What `write_arrays` returned.

    Returns
    -------
    dict of str to callable
        For each array a function that reads its bytes, ndarray of shape (n_bytes,), uint8, and compares its checksum.

    Raises
    ------
    PersistenceError
        If what is there is not what was stated.
    """
    with open(path, "rb") as file:
        start = _start_of(file, info)
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if length + 8 > info.file_size:
            raise PersistenceError("the list of arrays is damaged")
        head += file.read(length)
    if xxhash.xxh3_128_hexdigest(head) != stated["header"]:
        raise PersistenceError("the list of arrays is damaged: its checksum is another")
    layout, data = json.loads(head[8:]), start + len(head)
    readers = {}
    for name, checksum in stated["xxh3"].items():
        first, last = layout[name]["data_offsets"]
        if not 0 <= first <= last <= info.file_size - len(head):
            raise PersistenceError(f"the array {name!r} is damaged: it would end behind the others")
        readers[name] = _reader(path, name, data + first, last - first, checksum)
    return readers


def _reader(path, name, place, size, checksum):
    def read():
        data = np.empty(size, dtype=np.uint8)
        view, done = data.data, 0
        with open(path, "rb", buffering=0) as file:
            file.seek(place)
            while done < size:
                count = file.readinto(view[done : done + _PIECE])
                if not count:
                    raise PersistenceError(f"the array {name!r} is cut off at {done:,} of {size:,} bytes")
                done += count
        if _checksum(data) != checksum:
            raise PersistenceError(f"the array {name!r} is damaged: its checksum is another")
        return data

    return read


def _start_of(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the content of a member begins."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
        raise zipfile.BadZipFile(f"there is no member {info.filename!r} where it should be")
    return file.seek(sum(_LOCAL_HEADER.unpack(header)[1:]), os.SEEK_CUR)


def _checksum(data: np.ndarray) -> str:
    return xxhash.xxh3_64_hexdigest(data.data)
