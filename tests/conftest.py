"""Settings of the whole suite: skips are guarded, compiled code is kept between runs, nothing is sent anywhere."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Compiled code of PyNNDescent and umap-learn, half a minute's work: kept in the checkout, so that it survives a new
# environment, and found by the processes that tests start. It has to be set before numba is imported.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".numba_cache"))
# Workers of pytest-xdist share the cores: threads of one would wait for those of the other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# OpenVINO reports each conversion of a network to its makers, from a forked process; without this module it does not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

# The time one example takes says more about the machine than about the code.
settings.register_profile("suite", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "suite")

_ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")


class _SkipGuard:
    """Lists the skips, and fails the run where the reason of one is not in `allowed_skips.txt`."""

    def __init__(self, allowed):
        self._allowed = allowed
        self._skips = []

    def pytest_runtest_logreport(self, report):
        self._note(report)

    def pytest_collectreport(self, report):
        self._note(report)

    def _note(self, report):
        # An expected failure is reported as skipped too.
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self._skips.append((report.nodeid, reason.removeprefix("Skipped: ")))

    def _refused(self):
        return [skip for skip in self._skips if not any(pattern.match(skip[1]) for pattern in self._allowed)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session):
        if self._refused() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        refused = self._refused()
        terminalreporter.section(f"skips: {len(self._skips)}, of them not allowed: {len(refused)}")
        for nodeid, reason in self._skips:
            terminalreporter.line(f"{'NOT ALLOWED' if (nodeid, reason) in refused else 'allowed'} {nodeid}: {reason}")
        if refused:
            terminalreporter.line(f"run what is skipped, or add its reason to {_ALLOWED_SKIPS.name}", red=True)


def pytest_configure(config):
    lines = [line.strip() for line in _ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()]
    allowed = [re.compile(line) for line in lines if line and not line.startswith("#")]
    config.pluginmanager.register(_SkipGuard(allowed), "skip-guard")
