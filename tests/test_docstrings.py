"""Docstrings of all public names pass numpydoc's validation, with the checks of pyproject.toml."""

import importlib
import inspect
import tomllib
from pathlib import Path

import pytest
from numpydoc.validate import validate

_MODULES = (
    "sklearn_psp",
    "sklearn_psp.datasets",
    "sklearn_psp.displays",
    "sklearn_psp.exceptions",
    "sklearn_psp.faces",
    "sklearn_psp.metrics",
    "sklearn_psp.reranking",
    "sklearn_psp.utils.estimator_checks",
)
_CONFIG = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
_CHECKS = set(_CONFIG["tool"]["numpydoc_validation"]["checks"])


def _public_names():
    """Dotted names of public functions and classes, and of the public methods that are ours."""
    for module_name in _MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.isclass(value) and not inspect.isfunction(value):
                continue
            yield f"{module_name}.{name}"
            if inspect.isclass(value):
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    if not method.startswith("_") and function.__module__.startswith("sklearn_psp."):
                        yield f"{module_name}.{name}.{method}"


def test_public_names__are_many():
    assert len(set(_public_names())) > 25


@pytest.mark.parametrize("name", sorted(set(_public_names())))
def test_public_docstring__passes_numpydoc(name):
    # With "all", the checks named are those left out; without, those carried out.
    errors = [f"{code}: {text}" for code, text in validate(name)["errors"] if (code in _CHECKS) != ("all" in _CHECKS)]
    assert not errors
