"""What a file says about itself: its format, who wrote it, and what is needed to read it."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile

import sklearn
from sklearn.exceptions import InconsistentVersionWarning

import sklearn_psp
from sklearn_psp.exceptions import PersistenceError

__all__ = ["FORMAT", "MANIFEST", "check_manifest", "make_manifest", "read_manifest"]

MANIFEST = "sklearn_psp.json"
# Raised when an older sklearn_psp could not read a file, or would misread it.
FORMAT = 1
_PACKAGES = ("sklearn_psp", "sklearn", "numpy", "pandas", "skops", "torch", "pynndescent")


def class_name(value):
    """Dotted name of an object's class."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def make_manifest(estimator, modules):
    """Describe an estimator.

    Parameters
    ----------
    estimator : object
        What is saved.
    modules : set of str
        Dotted class names of the networks whose architecture `load` must be given.

    Returns
    -------
    dict
        The manifest. Of the packages it names those that are loaded.
    """
    loaded = [name for name in _PACKAGES if hasattr(sys.modules.get(name), "__version__")]
    return {
        "format": FORMAT,
        "class": class_name(estimator),
        "modules": sorted(modules),
        "versions": {name: str(sys.modules[name].__version__) for name in loaded},
    }


def read_manifest(archive, path):
    """Read the manifest of a file, and refuse a file that has none or whose format is newer.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The file.
    path : str
        Its name, for errors.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    PersistenceError
        If the file is not one of `sklearn_psp.save`, or of a newer format.
    """
    names = set(archive.namelist())
    if MANIFEST not in names or "schema.json" not in names:
        hint = "; it seems to be written by skops: use skops.io.load" if "schema.json" in names else ""
        raise PersistenceError(f"{path!r} was not written by sklearn_psp.save: it has no {MANIFEST}{hint}")
    try:
        manifest = json.loads(archive.read(MANIFEST))
        number, versions, modules = manifest["format"], dict(manifest["versions"]), list(manifest["modules"])
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise PersistenceError(f"{path!r} is damaged: {MANIFEST} cannot be read ({error}); save it again") from error
    if type(number) is not int or number > FORMAT:
        raise PersistenceError(
            f"{path!r} has format {number!r}, written by sklearn_psp {versions.get('sklearn_psp')}; sklearn_psp "
            f"{sklearn_psp.__version__} reads formats up to {FORMAT}: update sklearn_psp"
        )
    return {**manifest, "versions": versions, "modules": modules}


def check_manifest(manifest):
    """Warn of another version of scikit-learn, as scikit-learn does for its own estimators.

    Parameters
    ----------
    manifest : dict
        What `read_manifest` returned.
    """
    name, written = str(manifest.get("class")), manifest["versions"].get("sklearn")
    # scikit-learn's own estimators carry their version with them and warn by themselves.
    if written != sklearn.__version__ and not name.startswith("sklearn."):
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name=name.rpartition(".")[2],
                current_sklearn_version=sklearn.__version__,
                original_sklearn_version=str(written),
            ),
            stacklevel=3,
        )
