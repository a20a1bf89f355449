"""load: a fitted estimator out of a file, of which nothing is believed before it is checked."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import sklearn
import xxhash
from sklearn.exceptions import InconsistentVersionWarning

import sklearn_psp
from sklearn_psp._persistence._public_names import rename_types, trusted_types
from sklearn_psp._persistence._save import DESCRIPTION, FORMAT, MANIFEST, import_skops
from sklearn_psp._persistence._stored_arrays import ARRAYS, read_arrays, reading
from sklearn_psp._persistence._values import check_modules, giving_modules
from sklearn_psp.exceptions import PersistenceError, PSPError, UntrustedTypeError
from sklearn_psp.utils._warnings import warn_user

__all__ = ["load"]

_SCHEMA = "schema.json"


def load(
    path: str | os.PathLike, *, trusted: Sequence[str | type] = (), modules: Mapping[str, Any] | None = None
) -> Any:
    """Load an estimator that `save` has saved.

    Nothing in the file is executed. What types it asks for is looked at before anything is made: those of
    scikit-learn, numpy and scipy that skops knows to be harmless and those of sklearn_psp are made, all others refused.
    No more memory is taken than the file has bytes, times a small number, and every byte is compared with a checksum.

    Parameters
    ----------
    path : str or path-like
        The file.
    trusted : sequence of str or type, default=()
        More types that may be made: classes, or their dotted names, of which you know what they do with attributes
        from a file.
    modules : dict of str to torch.nn.Module or None, default=None
        Networks of your own, by the dotted name of their class: the file holds their weights, not their code. Each is
        copied, and the copy is given the weights of the file.

    Returns
    -------
    estimator
        The estimator, fitted if it was.

    Raises
    ------
    UntrustedTypeError
        If the file asks for a type that is not trusted; the message names it.
    PersistenceError
        If it is not a file of `save`, is damaged, was written by a newer version, or needs one of `modules`.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If it was saved with another version of scikit-learn.

    See Also
    --------
    save : Save an estimator; with an example.
    """
    trusted, modules, path = _check_trusted(trusted), dict(modules or {}), os.fspath(path)
    with open(path, "rb") as file:
        try:
            estimator, manifest = _load(path, file, trusted, modules)
        except (PSPError, MemoryError, Warning):
            raise
        except Exception as error:
            raise PersistenceError(
                f"{path!r} is damaged, or needs a package that is not here ({type(error).__name__}: {error}); copy the "
                "file again, or save it again"
            ) from error
    _warn_of_version(manifest)
    return estimator


def _load(path, file, trusted, modules):
    archive = _open(path, file)
    manifest = _read_manifest(archive, path)
    members = {MANIFEST, DESCRIPTION, ARRAYS} if manifest["format"] > 1 else None
    _check_members(archive, os.fstat(file.fileno()).st_size, members)
    if manifest["format"] == 1:  # the file is itself what skops wrote
        return _make(path, archive, {}, manifest, trusted, modules), manifest
    content = archive.read(DESCRIPTION)
    _compare(DESCRIPTION, len(content), xxhash.xxh3_128_hexdigest(content), manifest["description"])
    with zipfile.ZipFile(io.BytesIO(content)) as description, ThreadPoolExecutor(1) as reader:
        _check_members(description, len(content))
        readers = read_arrays(path, archive.getinfo(ARRAYS), manifest["arrays"])
        # Arrays are read while packages are imported: in a fresh process either takes about as long.
        arrays = {name: reader.submit(read) for name, read in readers.items()}
        try:
            return _make(path, description, arrays, manifest, trusted, modules), manifest
        finally:
            for array in arrays.values():
                array.cancel()


def _make(path, description, arrays, manifest, trusted, modules):
    """Have skops make the estimator, out of a description in which types have the names that they have now."""
    skops = import_skops()
    schema = json.loads(description.read(_SCHEMA))
    own = rename_types(schema)
    data = _repacked(description, schema)
    check_modules(manifest["modules"], modules)

    def read(name):
        if name not in arrays:
            raise PersistenceError(f"the file has no array {name!r}")
        return arrays[name].result()

    try:
        with reading(read), giving_modules(modules):
            # skops looks at all types first, and raises before it makes anything.
            return skops.loads(data, trusted=[*trusted_types(own), *trusted])
    except skops.exceptions.UntrustedTypesFoundException:
        names = {item if isinstance(item, str) else f"{item.__module__}.{item.__qualname__}" for item in trusted}
        unknown = sorted(set(skops.get_untrusted_types(data=data)) - names - set(trusted_types(own)))
        raise UntrustedTypeError(
            f"{path!r} asks for types that are not trusted: {', '.join(unknown)}. Nothing of it was loaded. If you "
            f"know where the file comes from, load it with trusted={unknown}"
        ) from None


def _check_trusted(trusted):
    if isinstance(trusted, bool | str | type) or not all(isinstance(item, str | type) for item in trusted):
        raise TypeError(f"trusted={trusted!r}: give a list of classes or of their dotted names")
    return list(trusted)


def _open(path, file):
    try:
        archive = zipfile.ZipFile(file)
        # The end of a file that was cut may show the directory of the description within it.
        if archive.comment or min((info.header_offset for info in archive.infolist()), default=0):
            raise zipfile.BadZipFile("something stands before or after it")
    except Exception as error:  # a damaged directory makes zipfile raise errors of five kinds
        raise PersistenceError(
            f"{path!r} is not a file of sklearn_psp.save, or only a part of one: {error}. A pickle is never loaded; "
            "copy the file again, or save it again"
        ) from error
    return archive


def _check_members(archive, size, names=None):
    """Refuse members that would take more memory than the archive has bytes, or that nobody knows."""
    members = archive.infolist()
    found = {info.filename for info in members}
    if len(found) < len(members) or (names is not None and found != names):
        raise PersistenceError(f"the file has the members {sorted(archive.namelist())}, which save never writes")
    # Members that are not compressed and do not overlap.
    stored = all(info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size for info in members)
    if not stored or sum(info.file_size for info in members) > size:
        raise PersistenceError("the file has members that are compressed or larger than itself: save writes no such")


def _compare(name, size, checksum, stated):
    if (size, checksum) != (stated["bytes"], stated["xxh3"]):
        raise PersistenceError(f"{name!r} is damaged: it has {size:,} bytes, or a checksum, that it should not have")


def _repacked(description, schema):
    """Return the description as skops is to read it, once its arrays are found to be as large as they claim."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        target.writestr(_SCHEMA, json.dumps(schema))
        for name in description.namelist():
            if name in (_SCHEMA, MANIFEST):
                continue
            content = description.read(name)
            if name.endswith(".npy"):
                _check_array(name, content)
            target.writestr(name, content)
    return buffer.getvalue()


def _check_array(name, content):
    # numpy takes the memory that a header asks for before it looks at what follows.
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise PersistenceError(f"the array {name!r} is damaged: {shape} of {dtype} is not what it holds")


def _read_manifest(archive, path):
    """Read the manifest of a file, and refuse a file that has none or whose format is newer."""
    names = set(archive.namelist())
    if MANIFEST not in names or not {_SCHEMA, DESCRIPTION} & names:
        hint = "; it seems to be written by skops: use skops.io.load" if _SCHEMA in names else ""
        raise PersistenceError(f"{path!r} was not written by sklearn_psp.save: it has no {MANIFEST}{hint}")
    info = archive.getinfo(MANIFEST)
    try:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError("it is compressed")
        manifest = json.loads(archive.read(info))
        number, versions, modules = manifest["format"], dict(manifest["versions"]), list(manifest["modules"])
    except Exception as error:
        raise PersistenceError(f"{path!r} is damaged: {MANIFEST} cannot be read ({error}); save it again") from error
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise PersistenceError(
            f"{path!r} has format {number!r}, written by sklearn_psp {versions.get('sklearn_psp')}; sklearn_psp "
            f"{sklearn_psp.__version__} reads formats up to {FORMAT}: update sklearn_psp"
        )
    return {**manifest, "versions": versions, "modules": modules}


def _warn_of_version(manifest):
    """Warn of another version of scikit-learn, as scikit-learn does for its own estimators."""
    name, written = str(manifest.get("class")), manifest["versions"].get("sklearn")
    # scikit-learn's own estimators carry their version with them and warn by themselves.
    if written != sklearn.__version__ and not name.startswith("sklearn."):
        warn_user(
            InconsistentVersionWarning(
                estimator_name=name.rpartition(".")[2],
                current_sklearn_version=sklearn.__version__,
                original_sklearn_version=str(written),
            )
        )
