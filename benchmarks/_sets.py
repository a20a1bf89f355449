"""The image sets the benchmarks run on: folders beside the repository, never copied into it."""

from __future__ import annotations

import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def _by_folder(pattern, label=lambda path: path.parent.name):
    paths = sorted(DATA.glob(pattern))
    return [str(path) for path in paths], [label(path) for path in paths]


SETS = {
    "orl_faces": lambda: _by_folder("orl_faces/s*/*.pgm"),
    "corel1k": lambda: _by_folder("corel1k/*/*/*.jpg", lambda path: path.parent.name.partition("_")[2]),
    "flowers12": lambda: _by_folder("flowers12/*/*/*.jpg"),
    "grocery": lambda: _by_folder("grocery/**/*.jpg"),
}


def load_sets() -> dict[str, tuple[list[str], list[str]]]:
    """Return paths and labels of each set, or leave with a message where there is none."""
    sets = {name: load() for name, load in SETS.items()}
    absent = [name for name, (paths, _) in sets.items() if not paths]
    if absent:
        print(f"skipped: ../shared/data is absent ({', '.join(absent)})")
        sys.exit(0)
    return sets
