"""The example that newcomers from Keras are shown runs; the others are run when the documentation is built."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib.pyplot as plt

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_program_in_the_style_of_keras_runs(monkeypatch, capsys):
    monkeypatch.setattr(plt, "show", lambda: None)
    names = runpy.run_path(str(EXAMPLES / "plot_keras_program.py"))
    plt.close("all")
    assert len(names["model"].history_) == 15
    validation = names["validation"]
    assert (validation["predicted"] == validation["label"]).mean() > 0.9
    assert "accuracy" in capsys.readouterr().out
