"""save: a fitted estimator into a file that is there whole or not at all."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import stat
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import IO, Any

import numpy as np
import xxhash
from filelock import FileLock, Timeout
from sklearn.base import BaseEstimator

from sklearn_psp._persistence._public_names import class_name, name_in_file
from sklearn_psp._persistence._stored_arrays import StoredArray, hold, saving, write_arrays
from sklearn_psp._persistence._values import collecting_modules
from sklearn_psp.exceptions import PersistenceError, PSPError

__all__ = ["DESCRIPTION", "FORMAT", "MANIFEST", "atomic_file", "import_skops", "save"]

MANIFEST, DESCRIPTION = "sklearn_psp.json", "estimator.skops"
# Raised when an older sklearn_psp could not read a file, or would misread it. In format 1 the file itself was that of
# skops, and types stood under private names; format 2 has public ones, and arrays beside the description.
FORMAT = 2
_PACKAGES = ("sklearn_psp", "sklearn", "numpy", "pandas", "skops", "torch", "pynndescent")
_UNNEEDED = "sklearn.externals.array_api_compat.torch"
_IMPORTING = threading.Lock()
# Not to be taken apart: skops writes them in a way of its own.
_WHOLE = (str, bytes, bytearray, dict, list, tuple, set, frozenset, np.ndarray, np.generic, StoredArray)


def save(estimator: Any, path: str | os.PathLike) -> None:
    """Save a fitted estimator without pickle.

    The file is a zip archive of a description by skops [1]_, of arrays in the format of safetensors, and of a manifest.
    It appears in one step: whoever reads it finds the old content or the new one, whatever happens in between.

    Parameters
    ----------
    estimator : estimator
        An estimator of sklearn_psp or of scikit-learn, or a `Pipeline`, `GridSearchCV` and the like of them.
    path : str or path-like
        Where to save it. A file that is there is replaced.

    Raises
    ------
    PersistenceError
        If it holds something that cannot be saved; the message names its type.
    WeightsError
        If `weights` names a file that is no longer there, or no longer the same.

    See Also
    --------
    load : The way back.

    Notes
    -----
    Of a network that is named, its name and the sha256 of its weights are saved; weights read from a path of yours are
    saved themselves, and so are those of a module of your own, without its code. Images and their files are not
    saved.

    References
    ----------
    .. [1] https://skops.readthedocs.io/en/stable/persistence.html

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn_psp import NearestImageRetriever, load, save
    >>> gallery = NearestImageRetriever(n_neighbors=1).fit([[1.0, 0.0], [0.0, 1.0]], ids=["a", "b"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(gallery, os.path.join(folder, "gallery.skops"))
    ...     loaded = load(os.path.join(folder, "gallery.skops"))
    >>> loaded.retrieve([[0.0, 2.0]])
       query  rank id  distance
    0      0     1  b       0.0
    """
    with atomic_file(path) as file:
        with saving() as held, collecting_modules() as modules:
            description = _dump(estimator)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            # Equal arrays may have been given one stand-in.
            arrays = write_arrays(archive, {stand_in.name: stand_in.array for stand_in in held.values()})
            archive.writestr(DESCRIPTION, description)
            # Last, as it holds the checksums of the others.
            manifest = {
                "format": FORMAT,
                "class": ".".join(name_in_file(type(estimator)) or [class_name(estimator)]),
                "modules": sorted(modules),
                "versions": _versions(),
                "description": {"bytes": len(description), "xxh3": xxhash.xxh3_128_hexdigest(description)},
                "arrays": arrays,
            }
            archive.writestr(MANIFEST, json.dumps(manifest, indent=2))


def _versions():
    loaded = [name for name in _PACKAGES if hasattr(sys.modules.get(name), "__version__")]
    return {name: str(sys.modules[name].__version__) for name in loaded}


def _dump(estimator):
    skops = import_skops()
    try:
        return _compact(skops.dumps(_Describer().describe(estimator)))
    except (PSPError, MemoryError, OSError):
        raise
    except Exception as error:
        where, value = _culprit(skops, type(estimator).__name__, estimator)
        raise PersistenceError(
            f"{where} is a {class_name(value)}, which cannot be saved ({type(error).__name__}: {error}); what can be "
            "is numbers, strings, None, arrays, estimators, functions with a name, and tuples, lists and dicts of them"
        ) from error


def _compact(description):
    """Return what skops wrote without the spaces in its JSON, which are two thirds of a small file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(description)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename == "schema.json":
                content = json.dumps(json.loads(content), separators=(",", ":")).encode()
            target.writestr(info.filename, content)
    return buffer.getvalue()


class _Describer:
    """Copies of objects for skops to write: large arrays are held back, types of this package have public names."""

    def __init__(self):
        # An object that is referred to twice is described once; kept, so that no other one gets its id.
        self._described: dict[int, tuple[Any, Any]] = {}

    def describe(self, value: Any) -> Any:
        """Return what skops is to write for a value."""
        known = self._described.get(id(value))
        if known is None:
            known = self._described[id(value)] = value, self._described_anew(value)
        return known[1]

    def _described_anew(self, value):
        if type(value) is dict:
            return {key: self.describe(item) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.describe(item) for item in value)
        if type(value) is np.ndarray:
            return hold(value)
        if isinstance(value, type | FunctionType):
            return _renamed(value)
        return self._twin(value) if _is_plain(value) else value

    def _twin(self, value):
        """Return an object of the same type by name, whose state is the described one."""
        kind = type(value)
        module, name = name_in_file(kind) or (kind.__module__, kind.__name__)
        twin = type(name, (), {"__module__": module, "__getstate__": lambda self: self.__dict__["state"]})()
        self._described[id(value)] = value, twin  # before its state, which may refer to it
        twin.__dict__["state"] = self.describe(value.__getstate__())
        return twin


def _is_plain(value):
    """Whether an object is of this package or of scikit-learn and is described by its state alone."""
    kind = type(value)
    if isinstance(value, _WHOLE):
        return False
    if name_in_file(kind) is not None:
        return True
    ours = isinstance(value, BaseEstimator) or kind.__module__.startswith("sklearn.")
    return ours and hasattr(value, "__dict__") and kind.__reduce__ is object.__reduce__


def _renamed(value):
    names = name_in_file(value)
    if names is None:
        return value
    if isinstance(value, type):
        return type(names[1], (), {"__module__": names[0]})
    stand_in = FunctionType(_renamed.__code__, {}, names[1])
    stand_in.__module__ = names[0]
    return stand_in


def _culprit(skops, where, value):
    """Return the innermost part that skops cannot save."""
    if isinstance(value, dict):
        parts = [(f"{where}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{where}[{position}]", part) for position, part in enumerate(value)]
    elif hasattr(value, "get_params") and not isinstance(value, type):
        parts = [(f"{where}.{name}", part) for name, part in vars(value).items()]
    else:
        parts = []
    for name, part in parts:
        try:
            skops.dumps(part)
        except Exception:
            return _culprit(skops, name, part)
    return where, value


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of another in one step.

    It is written as `.NAME.XXXXXXXX.tmp` in the same folder, brought to the disk, and renamed. A crash at any moment
    leaves the old file as it was. Temporary files of the same name whose writer is dead are removed first: a writer
    holds a lock beside its own, which the system releases when the process ends in whatever way.

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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    lock = FileLock(temporary.with_suffix(".lock"))
    with suppress(OSError, NotImplementedError):  # no locks on this file system: nothing of ours is ever removed there
        lock.acquire(blocking=False)
    try:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            if hasattr(os, "fchmod") and path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk is told by the number of a descriptor only
        raise
    finally:
        _remove_lock(lock)
    _sync_folder(path.parent)


def _remove_abandoned(path):
    ours = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{8}\.(tmp|lock)")
    for entry in os.scandir(path.parent):
        if not ours.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
            continue
        name = Path(entry.path)
        lock = FileLock(name.with_suffix(".lock"))
        with suppress(OSError, NotImplementedError, Timeout):  # Timeout: its writer is alive
            lock.acquire(blocking=False)
            with suppress(FileNotFoundError):
                os.remove(name.with_suffix(".tmp"))
            _remove_lock(lock)


def _remove_lock(lock):
    if lock.is_locked:
        # While it is held: once released, it may be that of another process.
        with suppress(OSError):
            os.remove(lock.lock_file)
        lock.release()
        with suppress(OSError):  # Windows removes closed files only
            os.remove(lock.lock_file)


def _sync_folder(folder):
    # The rename itself is on the disk only then; Windows cannot open a folder, and need not.
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def import_skops() -> ModuleType:
    """Import `skops.io` without torch.

    Returns
    -------
    module
        `skops.io`.
    """
    with _IMPORTING:
        if "skops.io" in sys.modules:
            import skops.io  # another thread may still be at it: this waits
        else:
            with _left_out(_UNNEEDED):
                import skops.io
    return skops.io


@contextmanager
def _left_out(name):
    # skops asks scikit-learn for all its estimators, which imports every package below `sklearn` on the way. One is a
    # layer over torch: 1.2 of 1.6 seconds, for no estimator. An empty package stands in its place meanwhile.
    if name in sys.modules or "torch" in sys.modules:
        yield
        return
    parent_name, _, attribute = name.rpartition(".")
    empty = ModuleType(name)
    empty.__path__ = []
    sys.modules[name] = empty
    try:
        yield
    finally:
        if sys.modules.get(name) is empty:
            del sys.modules[name]
        parent = sys.modules.get(parent_name)
        if getattr(parent, attribute, None) is empty:
            delattr(parent, attribute)
