"""Optional dependencies, imported where they are used and named by the extra that brings them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from sklearn_psp.exceptions import MissingDependencyError

__all__ = ["import_optional_dependency", "is_installed"]


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
