"""Walks through the package: files that one call enters, and moves between them.

    python benchmarks/walks.py

Each call is made warm, with one thread of torch. Files are those of the package in which a function was called, in any
thread; a move is a call, in the main thread, from one of these files into another. The bars are what the house was
rebuilt for: a reader who follows a call should not have to open more files.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from types import FrameType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from _report import save, table
from _sets import load_sets

import sklearn_psp
from sklearn_psp import (
    FaceIdentifier,
    FaceVerifier,
    NearestImageRetriever,
    PSPNetClassifier,
    PSPNetFeaturizer,
)

_PACKAGE = os.path.join(os.path.realpath(sklearn_psp.__path__[0]), "")
_NETWORK = {"device": "cpu", "precision": "float32", "runtime": "torch", "batch_size": 8}
BARS = {
    "featurizer.transform([path])": 18,
    "gallery.kneighbors([path])": 26,
    "verifier.predict(one pair)": 22,
    "classifier.fit(20 images)": 30,
    "retriever.kneighbors(row)": 10,
}


@dataclass
class Walk:
    """The files that a block of code enters.

    Attributes
    ----------
    files : set of str
        Paths below the package.
    moves : int
        Calls from one file of the package into another.
    """

    files: set[str] = field(default_factory=set)
    moves: int = 0
    _stack: list[str] = field(default_factory=list)

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note an event, as `sys.setprofile` reports it."""
        path = frame.f_code.co_filename
        if event not in ("call", "return") or not path.startswith(_PACKAGE):
            return
        if event == "call":
            self.files.add(path[len(_PACKAGE) :])
        if threading.current_thread() is not threading.main_thread():
            return
        if event == "call":
            self.moves += bool(self._stack) and self._stack[-1] != path
            self._stack.append(path)
        elif self._stack:
            self._stack.pop()


@contextmanager
def walked():
    """Record the walk of a block."""
    walk = Walk()
    threading.setprofile(walk.profile)
    sys.setprofile(walk.profile)
    try:
        yield walk
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def trips():
    """Return calls by title, each of which can be made again and again."""
    paths, labels = load_sets()["orl_faces"]
    paths, labels = paths[:60], labels[:60]
    featurizer = PSPNetFeaturizer(**_NETWORK).fit(paths[:20])
    rows = featurizer.transform(paths)
    gallery = NearestImageRetriever(featurizer=PSPNetFeaturizer(**_NETWORK)).fit(paths[:40], labels[:40])
    retriever = NearestImageRetriever(n_neighbors=3).fit(rows[:40], labels[:40])
    places = list(combinations(range(12), 2))
    pairs = [(paths[a], paths[b]) for a, b in places]
    verifier = FaceVerifier(featurizer=PSPNetFeaturizer(**_NETWORK)).fit(
        pairs, [labels[a] == labels[b] for a, b in places]
    )
    identifier = FaceIdentifier(featurizer=PSPNetFeaturizer(**_NETWORK)).fit(paths[:40], labels[:40])
    classifier = PSPNetClassifier(epochs=2, random_state=0, **_NETWORK)
    return {
        "featurizer.transform([path])": lambda: featurizer.transform([paths[50]]),
        "gallery.kneighbors([path])": lambda: gallery.kneighbors([paths[50]], n_neighbors=3),
        "retriever.kneighbors(row)": lambda: retriever.kneighbors(rows[50:51]),
        "retriever.retrieve(row)": lambda: retriever.retrieve(rows[50:51]),
        "retriever.score(40 rows)": lambda: retriever.score(rows[:40], labels[:40]),
        "retriever.partial_fit, remove": lambda: retriever.partial_fit(rows[50:51], labels[50:51]).remove(
            retriever.ids_[-1:]
        ),
        "verifier.predict(one pair)": lambda: verifier.predict(pairs[:1]),
        "identifier.predict([path])": lambda: identifier.predict([paths[50]]),
        "classifier.fit(20 images)": lambda: classifier.fit(paths[:20], labels[:20]),
        "classifier.predict([path])": lambda: classifier.predict([paths[50]]),
    }


def main():
    """Print the table and keep the numbers."""
    warnings.simplefilter("ignore")
    rows = []
    for title, trip in trips().items():
        trip()
        with walked() as walk:
            trip()
        rows.append([title, len(walk.files), BARS.get(title, ""), walk.moves])
    print(table(["call", "files", "at most", "moves"], rows))
    save("walks", {title: {"files": files, "moves": moves} for title, files, _, moves in rows})


if __name__ == "__main__":
    main()
