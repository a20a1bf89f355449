"""load: a fitted estimator out of a file."""

from __future__ import annotations

import io
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor

from sklearn_psp._persistence._arrays import LARGE, read_array, reading
from sklearn_psp._persistence._modules import check_modules, giving_modules
from sklearn_psp._persistence._skops import import_skops
from sklearn_psp._persistence._trusted import TRUSTED
from sklearn_psp.exceptions import PersistenceError, PSPError, UntrustedTypeError

__all__ = ["load"]


def load(path, *, trusted=(), modules=None):
    """Load an estimator that `save` has saved.

    Nothing in the file is executed. What types it asks for is looked at before anything is made: those of
    scikit-learn, numpy and scipy that skops knows to be harmless and those of sklearn_psp are made, all others refused.

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
    # Arrays are read while packages are imported: in a fresh process either takes about as long.
    with _open(path) as archive, ThreadPoolExecutor(1) as reader:
        large = {
            info.filename: reader.submit(read_array, archive, info.filename)
            for info in archive.infolist()
            if info.filename.endswith(".npy") and info.file_size >= LARGE
        }
        try:
            return _load(path, archive, large, trusted, modules)
        finally:
            for array in large.values():
                array.cancel()


def _load(path, archive, large, trusted, modules):
    from sklearn_psp._persistence._manifest import check_manifest, read_manifest
    from sklearn_psp._persistence._schema import arrays_to_stand_ins

    manifest = read_manifest(archive, path)
    skops = import_skops()
    try:
        schema = json.loads(archive.read("schema.json"))
        arrays_to_stand_ins(schema, large)
        small = [info.filename for info in archive.infolist() if info.filename not in large]
        rest = _repack(archive, {**dict.fromkeys(small), "schema.json": json.dumps(schema).encode()})
        check_modules(manifest["modules"], modules)
        with reading(lambda name: _read(name, large)), giving_modules(modules):
            # skops looks at all types first, and raises before it makes anything.
            estimator = skops.load(io.BytesIO(rest), trusted=[*TRUSTED, *trusted])
    except skops.exceptions.UntrustedTypesFoundException:
        raise _untrusted(skops.get_untrusted_types(data=rest), trusted, path) from None
    except (PSPError, MemoryError, Warning):
        raise
    except Exception as error:
        raise PersistenceError(
            f"{path!r} is damaged, or needs a package that is not here ({type(error).__name__}: {error}); it was "
            f"written with {manifest['versions']}"
        ) from error
    check_manifest(manifest)
    return estimator


def _check_trusted(trusted):
    if isinstance(trusted, bool | str | type) or not all(isinstance(item, str | type) for item in trusted):
        raise TypeError(f"trusted={trusted!r}: give a list of classes or of their dotted names")
    return list(trusted)


def _open(path):
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise PersistenceError(
            f"{path!r} is not a file of sklearn_psp.save, or only a part of one: {error}. A pickle is never loaded; "
            "copy the file again, or save it again"
        ) from error


def _repack(archive, members):
    """Return an archive, in memory, of what skops is to read; None means as it is in the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name, content in members.items():
            target.writestr(name, archive.read(name) if content is None else content)
    return buffer.getvalue()


def _untrusted(types, trusted, path):
    names = {item if isinstance(item, str) else f"{item.__module__}.{item.__qualname__}" for item in trusted}
    unknown = sorted(set(types) - names - set(TRUSTED))
    return UntrustedTypeError(
        f"{path!r} asks for types that are not trusted: {', '.join(unknown)}. Nothing of it was loaded. If you know "
        f"where the file comes from, load it with trusted={unknown}"
    )


def _read(name, large):
    if name not in large:
        raise PersistenceError(f"the file has no array {name!r}")
    return large[name].result()
