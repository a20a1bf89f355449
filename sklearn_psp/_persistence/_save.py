"""save: a fitted estimator into a file."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile

from sklearn_psp._persistence._arrays import saving, write_array
from sklearn_psp._persistence._atomic import atomic_file
from sklearn_psp._persistence._modules import collecting_modules
from sklearn_psp._persistence._skops import import_skops
from sklearn_psp.exceptions import PersistenceError, PSPError

__all__ = ["save"]

# What skops packs in memory goes to a temporary file from this many bytes on.
_IN_MEMORY = 1 << 26


def save(estimator, path):
    """Save a fitted estimator without pickle.

    The file is a zip archive in the format of skops [1]_, and appears in one step: whoever reads it finds the old
    content or the new one, whatever happens in between.

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
    from sklearn_psp._persistence._manifest import MANIFEST, make_manifest
    from sklearn_psp._persistence._schema import stand_ins_to_arrays

    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as packed, atomic_file(path) as file:
        with saving() as held, collecting_modules() as modules:
            _dump(estimator, packed)
        with (
            zipfile.ZipFile(packed) as source,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as target,
        ):
            target.writestr(MANIFEST, json.dumps(make_manifest(estimator, modules), indent=2))
            schema = json.loads(source.read("schema.json"))
            stand_ins_to_arrays(schema)
            target.writestr("schema.json", json.dumps(schema))
            for info in source.infolist():
                if info.filename != "schema.json":
                    with source.open(info) as member, target.open(info.filename, "w", force_zip64=True) as copy:
                        shutil.copyfileobj(member, copy, 1 << 20)
            for stand_in, array in held.values():
                write_array(target, stand_in.name, array)


def _dump(estimator, file):
    skops = import_skops()
    try:
        skops.dump(estimator, file)
    except (PSPError, MemoryError, OSError):
        raise
    except Exception as error:
        where, value = _culprit(skops, type(estimator).__name__, estimator)
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise PersistenceError(
            f"{where} is a {kind}, which cannot be saved ({type(error).__name__}: {error}); what can be is numbers, "
            "strings, None, arrays, estimators, functions with a name, and tuples, lists and dicts of them"
        ) from error


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
