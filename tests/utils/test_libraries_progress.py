"""Progress: a bar, lines in worker processes, or nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sklearn_psp.utils import _libraries
from sklearn_psp.utils._libraries import progress


@pytest.mark.parametrize("total", [3, None])
def test_nothing_is_shown_unasked(capfd, total):
    with progress(total, "counting sheep", "sheep", 0) as bar:
        bar.update(3)
    assert capfd.readouterr() == ("", "")


def test_a_bar_shows_share_count_and_speed(capfd):
    with progress(4, "counting sheep", "sheep", 1) as bar:
        bar.update(1)
        bar.update(3)
    out, err = capfd.readouterr()
    assert out == ""
    last = err.rstrip().rpartition("\r")[2]
    assert last.startswith("counting sheep: 100%|")
    assert " 4/4 [" in last
    assert " sheep/s" in last or "s/ sheep" in last


def test_without_a_total_the_bar_counts(capfd):
    with progress(None, "counting sheep", "sheep", 1) as bar:
        bar.update(4)
    assert "counting sheep: 4 sheep" in capfd.readouterr().err


@pytest.mark.parametrize(("total", "count"), [(4, "4 of 4, "), (None, "4, ")])
def test_a_worker_writes_whole_lines(capfd, monkeypatch, total, count):
    monkeypatch.setattr(_libraries, "_is_worker", lambda: True)
    with progress(total, "counting sheep", "sheep", 1) as bar:
        for _ in range(4):
            bar.update(1)
    out, err = capfd.readouterr()
    assert out == ""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    assert 1 <= len(lines) <= 2
    assert lines[-1].startswith("counting sheep in process ")
    assert count in lines[-1]
    assert "%|" not in err


def test_processes_of_joblib_are_workers():
    script = """
from joblib import Parallel, delayed
from sklearn_psp.utils._libraries import _is_worker, progress

def count():
    with progress(2, "counting sheep", "sheep", 1) as bar:
        bar.update(2)
    return _is_worker()

if __name__ == "__main__":
    assert not _is_worker()
    assert all(Parallel(n_jobs=2, backend="loky")(delayed(count)() for _ in range(2)))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stderr.splitlines() if "2 of 2" in line]
    assert len(lines) == 2
    assert all(line.strip().startswith("counting sheep in process ") for line in lines)


def test_the_bar_is_closed_after_an_error(capfd):
    def fall_asleep():
        with progress(4, "counting sheep", "sheep", 1) as bar:
            bar.update(1)
            raise KeyError("sheep")

    with pytest.raises(KeyError, match="sheep"):
        fall_asleep()
    assert " 1/4 [" in capfd.readouterr().err
