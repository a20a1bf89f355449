"""Lowest allowed version of every dependency, as constraints for pip.

    python tools/lowest.py test > lowest.txt

Prints `name==version` for every requirement of pyproject.toml that has a lower bound, those of the extras named on the
command line included. Requirements that belong to another platform or Python are left out.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).resolve().parents[1]


def requirements(project: dict, extras: list[str]) -> list[Requirement]:
    """Return the requirements of a project and of some extras, with the extras that these name in turn."""
    found = [Requirement(text) for text in project["dependencies"]]
    seen, waiting = set(), list(extras)
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for text in project["optional-dependencies"][extra]:
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
                waiting += requirement.extras
            else:
                found.append(requirement)
    return [one for one in found if one.marker is None or one.marker.evaluate()]


def lowest(requirement: Requirement) -> str | None:
    """Return the lowest version that a requirement allows; None where it has no lower bound."""
    for specifier in requirement.specifier:
        if specifier.operator in (">=", "==", "~="):
            return re.sub(r"\.\*$", "", specifier.version)
    return None


def main() -> None:
    """Print the constraints."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {canonicalize_name(one.name): lowest(one) for one in requirements(project, sys.argv[1:])}
    for name, version in sorted(pins.items()):
        if version is not None:
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
