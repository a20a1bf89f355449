"""A device is there, or its absence is said."""

import pytest
import torch

from sklearn_psp._nets import resolve_device
from sklearn_psp._nets._devices import available_devices, is_out_of_memory
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
