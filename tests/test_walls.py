"""The shape of the package: how many files, how full and how tangled. Floors and walls stand in setup.cfg."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from radon.complexity import cc_visit

import sklearn_psp

PACKAGE = Path(sklearn_psp.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A file holds an idea whole: neither a slice of one nor two of them.
MOST_FILES = 165
LEAST_MEDIAN_LINES = 150
MOST_LINES = 500
# Uses of another object's private members, as ruff's SLF001 counts them. All but one are other libraries': nine of
# PyNNDescent's state, which has no public form, two of scikit-learn's protocols, two of the interpreter's frames.
MOST_PRIVATE_USES = 14
# Cyclomatic complexity as radon counts it.
MOST_COMPLEX = 15
# Names of files that may stand in several rooms, because they play the same role there.
SHARED_NAMES = {
    "__init__.py": "the face of a room",
    "_estimator.py": "the estimator of a room that has one",
    "_base.py": "what the members of a room have in common",
    "_registry.py": "the table of a room that other packages extend",
}
# Mixins that one class alone uses are a way to cut a file, not to share code; goal: none.
MOST_SINGLE_USER_MIXINS = 0


# Warnings with a stack level, outside of `warn_user`.
MOST_GUESSED_LEVELS = 0
# Uses of `catch_warnings(record=True)`.
MOST_CAUGHT = 0


def lines(path):
    return path.read_text(encoding="utf-8").count("\n")


def test_number_of_files():
    assert len(FILES) <= MOST_FILES


def test_files_are_full_but_not_over_full():
    assert statistics.median(map(lines, FILES)) >= LEAST_MEDIAN_LINES
    assert {path.name: lines(path) for path in FILES if lines(path) > MOST_LINES} == {}


def test_files_of_one_name_play_one_role():
    rooms = defaultdict(list)
    for path in FILES:
        rooms[path.name].append(str(path.parent.relative_to(PACKAGE)))
    several = {name: where for name, where in rooms.items() if len(where) > 1}
    assert {name: where for name, where in several.items() if name not in SHARED_NAMES} == {}


def test_classes_of_one_name_are_one_class():
    files = defaultdict(set)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                files[node.name].add(str(path.relative_to(PACKAGE)))
    assert {name: where for name, where in files.items() if len(where) > 1} == {}


def test_mixins_serve_several_classes():
    classes, bases = set(), defaultdict(int)
    for path in FILES:
        if path.name == "_compat.py":  # it stands in for mixins of scikit-learn
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes.add(node.name)
                for base in node.bases:
                    bases[base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")] += 1
    single = sorted(name for name in classes if name.endswith("Mixin") and bases[name] < 2)
    assert len(single) <= MOST_SINGLE_USER_MIXINS, single


def test_private_members_stay_private():
    command = [sys.executable, "-m", "ruff", "check", "--select", "SLF001", "--output-format", "concise", PACKAGE]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    found = [line for line in run.stdout.splitlines() if "SLF001" in line]
    assert run.returncode in (0, 1), run.stderr
    assert len(found) <= MOST_PRIVATE_USES, "\n".join(found)


@pytest.mark.filterwarnings("ignore")
def test_functions_are_simple():
    found = {
        f"{path.relative_to(PACKAGE)}:{block.name}": block.complexity
        for path in FILES
        for block in blocks(path)
        if block.complexity > MOST_COMPLEX
    }
    assert found == {}


def blocks(path):
    """Functions and methods of a file; radon gives the mean of a class beside its methods."""
    for block in cc_visit(path.read_text(encoding="utf-8")):
        if not hasattr(block, "methods"):
            yield block


def test_no_line_guesses_where_the_user_is():
    """Only `warn_user` gives a stack level: it finds the user's line, and does not count frames."""
    guessed = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in FILES
        if path.name != "_warnings.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and any(keyword.arg == "stacklevel" for keyword in node.keywords)
    ]
    assert len(guessed) <= MOST_GUESSED_LEVELS, guessed


def test_nothing_of_ours_catches_our_own_warnings():
    """`catch_warnings(record=True)` swaps what the whole process shares; failures are values instead."""
    caught = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in FILES
        if "_checks" not in path.parts  # they judge estimators of others, in a test
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "catch_warnings"
        and any(keyword.arg == "record" for keyword in node.keywords)
    ]
    assert len(caught) <= MOST_CAUGHT, caught
