"""scikit-learn's private API has one door: `utils/_compat.py`."""

import ast
from pathlib import Path

import sklearn_psp

PACKAGE = Path(sklearn_psp.__file__).parent


def private_imports(source):
    """Names with a leading underscore that a module imports from scikit-learn, or from a module so named."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sklearn":
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names if alias.name.split(".")[0] == "sklearn"]
        else:
            continue
        yield from (name for name in dotted if any(part.startswith("_") for part in name.split(".")))


def test_only_compat_imports_private_names_of_scikit_learn():
    found = {str(path.relative_to(PACKAGE)): list(private_imports(path.read_text())) for path in PACKAGE.rglob("*.py")}
    assert {path for path, names in found.items() if names} == {str(Path("utils", "_compat.py"))}


def test_private_imports_are_seen():
    source = (
        "from sklearn.base import _fit_context, clone\nimport sklearn.utils._tags\nfrom sklearn.utils import tosequence"
    )
    assert list(private_imports(source)) == ["sklearn.base._fit_context", "sklearn.utils._tags"]
