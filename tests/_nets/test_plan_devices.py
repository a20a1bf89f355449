"""A device is there, or its absence is said; threads that use one core each change nothing for the others."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from sklearn_psp._nets import resolve_device
from sklearn_psp._nets._plan import available_devices, is_out_of_memory, one_core_threads
from sklearn_psp.exceptions import DeviceError


def pretend(monkeypatch, *, cuda=0, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch):
    pretend(monkeypatch, cuda=1, mps=True)
    assert available_devices() == ["cuda", "mps", "cpu"]
    assert resolve_device("auto").type == "cuda"
    pretend(monkeypatch, mps=True)
    assert resolve_device("auto").type == "mps"
    pretend(monkeypatch)
    assert resolve_device("auto").type == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    pretend(monkeypatch)
    with pytest.raises(DeviceError, match=r"device='cuda' was asked for but is not there; here are \['cpu'\]"):
        resolve_device("cuda")
    pretend(monkeypatch, cuda=1)
    assert resolve_device(torch.device("cuda:0")) == torch.device("cuda:0")
    with pytest.raises(DeviceError, match="there are 1 cuda devices"):
        resolve_device("cuda:3")


def test_a_device_that_torch_does_not_know_is_refused():
    with pytest.raises(DeviceError, match="device='gpu' is not a torch device"):
        resolve_device("gpu")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (MemoryError(), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


# What torch gives a thread depends on what was set before the first use: a fresh interpreter, with two cores.
SCRIPT = """
import json, os, threading
import torch
from sklearn_psp._nets._plan import one_core_threads

def n_tasks():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0

def work():
    before = n_tasks()
    with torch.inference_mode():
        x = torch.randn(500, 500)
        torch.nn.functional.linear(x, x).relu().exp().sum()
        torch.nn.Conv2d(16, 64, 3)(torch.randn(1, 16, 64, 64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.nn.functional.linear(x, x)
    return n_tasks() - before

def settings():
    found = [torch.get_num_threads()]
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found

def observed():
    with one_core_threads(1) as executor:
        n_started = executor.submit(work).result()
    both, before = threading.Barrier(2), settings()
    with one_core_threads(2) as executor:
        cores = list(executor.map(lambda i: (both.wait(600), torch.get_num_threads())[1], range(2)))
        during = settings()
    return {"cores": cores, "n_started": n_started, "settings": [before, during, settings()]}

by_default = observed()
torch.set_num_threads(3)
print(json.dumps({"default": by_default, "set": observed()}))
"""
SETTINGS = pytest.mark.parametrize("setting", ["default", "set"])


@pytest.fixture(scope="module")
def observed():
    """What holds in a process with two cores by default, and after its user has set three."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=900)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@SETTINGS
def test_each_thread_uses_one_core(observed, setting):
    assert observed[setting]["cores"] == [1, 1]


@SETTINGS
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="/proc is absent")
def test_work_of_a_thread_starts_no_helpers(observed, setting):
    assert observed[setting]["n_started"] <= 0


@pytest.mark.parametrize(("setting", "expected"), [("default", [2, 2]), ("set", [3, 3])])
def test_the_main_thread_and_new_threads_keep_the_cores_they_had(observed, setting, expected):
    assert observed[setting]["settings"] == [expected] * 3


def test_an_error_of_a_job_reaches_whoever_waits_for_it():
    def broken():
        raise ValueError("of a job")

    with one_core_threads(1) as executor:
        future = executor.submit(broken)
        with pytest.raises(ValueError, match="of a job"):
            future.result()
        assert executor.submit(torch.get_num_threads).result() == 1, "the thread goes on"


def test_threads_end_with_the_executor():
    before = threading.active_count()
    with one_core_threads(2) as executor:
        list(executor.map(str, range(4)))
    assert threading.active_count() == before
