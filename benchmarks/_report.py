"""Timing side by side, and tables that can be pasted into the documentation."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def interleave(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time each contestant once per round, so that a disturbance of the machine strikes all alike.

    Returns
    -------
    dict of str to list of float
        Seconds, one per round; a first, untimed round warms up.
    """
    seconds = {name: [] for name in contestants}
    for i in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over rounds of theirs / ours: above 1 we are faster."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def table(header: list[str], rows: list[list[object]]) -> str:
    """Lay out a Markdown table."""
    cells = [header, *[[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def save(name: str, payload: dict) -> None:
    """Keep the raw numbers beside the versions they were taken with."""
    packages = ("torch", "torchvision", "timm", "scikit-learn", "numpy")
    RESULTS.mkdir(exist_ok=True)
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    payload = payload | {"versions": {p: version(p) for p in packages} | machine}
    (RESULTS / f"{name}.json").write_text(json.dumps(payload, indent=1) + "\n")
