"""Precision and batch size are measured once, and the measured winner is taken."""

import pytest
import torch

from sklearn_psp._nets import BackboneRequest, load_backbone, resolve_batch_size, resolve_precision
from sklearn_psp._nets import _precision as precision_module
from sklearn_psp._nets._precision import autocast, prepared

CPU = torch.device("cpu")


@pytest.fixture
def backbone():
    """A backbone of the test's own: measurements are kept with it."""
    return load_backbone(BackboneRequest(torch.nn.Conv2d(3, 4, 3), "default", None, (16, 16)), refresh=True)


def speeds(monkeypatch, by_precision):
    calls = []

    def measured(backbone, device, settings):
        calls.append({precision for precision, _ in settings})
        return {(precision, size): by_precision[precision](size) for precision, size in settings}

    monkeypatch.setattr(precision_module, "_speeds", measured)
    return calls


@pytest.mark.parametrize(("bfloat16", "expected"), [(300.0, "bfloat16"), (105.0, "float32"), (20.0, "float32")])
def test_auto_takes_bfloat16_only_where_it_is_clearly_faster(monkeypatch, backbone, bfloat16, expected):
    calls = speeds(monkeypatch, {"float32": lambda size: 100.0, "bfloat16": lambda size: bfloat16})
    assert [resolve_precision("auto", backbone, CPU) for _ in range(2)] == [expected] * 2
    assert calls == [{"float32", "bfloat16"}], "measured once"


def test_a_given_precision_and_batch_size_are_taken_at_their_word(monkeypatch, backbone):
    calls = speeds(monkeypatch, {})
    assert resolve_precision("float16", backbone, CPU) == "float16"
    assert resolve_batch_size(5, backbone, CPU, "float32") == 5
    assert calls == []


def test_auto_batch_size_is_the_fastest(monkeypatch, backbone):
    calls = speeds(monkeypatch, {"float32": lambda size: -abs(size - 8)})
    assert [resolve_batch_size("auto", backbone, CPU, "float32") for _ in range(2)] == [8, 8]
    assert calls == [{"float32"}], "measured once"


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bfloat16"), ((9, 0), "bfloat16"), ((7, 5), "float16")])
def test_a_gpu_computes_in_the_half_precision_it_has(monkeypatch, backbone, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", backbone, torch.device("cuda")) == expected
    assert resolve_precision("auto", backbone, torch.device("mps")) == "float32"


def test_measuring_really_runs_every_setting(backbone):
    settings = [("float32", 1), ("bfloat16", 2)]
    measured = precision_module._speeds(backbone, CPU, settings)
    assert list(measured) == settings
    assert all(speed > 0 for speed in measured.values())


@torch.inference_mode()
def test_bfloat16_converts_a_copy_and_stays_close():
    backbone = load_backbone(BackboneRequest("efficientnet_lite0", "default", None, (64, 64)))
    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = backbone.module(picture)
    with autocast(CPU, "bfloat16"):
        maps = prepared(backbone, CPU, "bfloat16")(picture)
    assert {p.dtype for p in backbone.module.parameters()} == {torch.float32}
    assert torch.nn.functional.cosine_similarity(maps.float().flatten(1), expected.flatten(1)).min() > 0.99
    assert prepared(backbone, CPU, "bfloat16") is prepared(backbone, CPU, "bfloat16")
