"""The network that OpenVINO runs gives what torch gives, whatever else happens in the process."""

import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from common.networks import ImageDependent, TinyNet, WithoutConversion

from sklearn_psp._nets import BackboneRequest, Views, load_backbone
from sklearn_psp._nets import _openvino_network as openvino_module
from sklearn_psp._nets._openvino_network import OpenVINONetwork, check_openvino
from sklearn_psp.exceptions import BackboneError, DeviceError

TESTS = Path(__file__).resolve().parents[1]
TINY = TinyNet()


def load(module=TINY, size=(32, 32), **options):
    return load_backbone(BackboneRequest(module, "default", None, size), **options)


def batch(n=3, size=(32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8, generator=generator)


def by_torch(backbone, images):
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.spec.mean, backbone.spec.std))
    with torch.inference_mode():
        return backbone.module((images.float() / 255 - mean) / std)


def assert_close(maps, expected):
    assert maps.dtype == torch.float32
    assert maps.shape == expected.shape
    assert (maps - expected).abs().max() <= 1e-4 * expected.abs().max()


def has_bfloat16():
    return "BF16" in openvino_module.import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


PRECISIONS = pytest.mark.parametrize("precision", ["float32", *(["bfloat16"] if has_bfloat16() else [])])


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
@pytest.mark.parametrize("module", ["efficientnet_lite0", TINY], ids=["lite0", "own"])
def test_maps_are_those_of_torch(module, size):
    backbone, images = load(module, (64, 64)), batch(2, size)
    (maps,) = OpenVINONetwork(backbone, "float32", Views([size])).maps(images)
    assert_close(maps, by_torch(backbone, images))


def test_every_view_is_mapped_and_mirror_images_are_turned_back():
    backbone, images = load(), batch()
    views = Views([(32, 32), (16, 24)], flip=True)
    maps = OpenVINONetwork(backbone, "float32", views).maps(images)
    expected = [by_torch(backbone, view) for view, _ in views.of(images)]
    assert len(maps) == 4
    for found, wanted, mirrored in zip(maps, expected, [False, True, False, True], strict=True):
        assert_close(found, wanted.flip(-1) if mirrored else wanted)


def test_float_images_are_on_the_scale_of_uint8_and_are_not_rounded():
    backbone, images = load(), batch()
    network = OpenVINONetwork(backbone, "float32", Views([(32, 32)]))
    assert_close(network.maps(images.float())[0], network.maps(images)[0])
    fractions = images.float() * 0.37
    assert_close(network.maps(fractions)[0], by_torch(backbone, fractions))


@pytest.mark.skipif(not has_bfloat16(), reason="bfloat16 is absent")
def test_bfloat16_stays_close():
    backbone, images = load("efficientnet_lite0", (64, 64)), batch(2, (64, 64))
    (maps,) = OpenVINONetwork(backbone, "bfloat16", Views([(64, 64)])).maps(images)
    expected = by_torch(backbone, images)
    assert maps.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(maps.flatten(1), expected.flatten(1)).min() > 0.99


@PRECISIONS
def test_maps_of_a_image_do_not_depend_on_its_neighbours(precision):
    images = batch(5, (64, 64))
    network = OpenVINONetwork(load("efficientnet_lite0", (64, 64)), precision, Views([(64, 64)], flip=True))
    together = network.maps(images)
    for i in (0, 3):
        for alone, maps in zip(network.maps(images[i : i + 1]), together, strict=True):
            assert torch.equal(alone[0], maps[i])


@PRECISIONS
def test_several_threads_at_once_give_the_bits_of_one(precision):
    network = OpenVINONetwork(load("efficientnet_lite0", (64, 64)), precision, Views([(64, 64)]))
    batches = [batch(2, (64, 64), seed) for seed in range(12)]
    expected = [network.maps(images)[0] for images in batches]
    start = threading.Barrier(3)
    with ThreadPoolExecutor(3, initializer=start.wait, initargs=(60,)) as executor:
        found = list(executor.map(lambda images: network.maps(images)[0], batches))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_maps_stay_as_they_are_when_the_next_batch_is_computed():
    network = OpenVINONetwork(load(), "float32", Views([(32, 32)]))
    (first,) = network.maps(batch())
    kept = first.clone()
    network.maps(255 - batch())
    assert torch.equal(first, kept)


def test_maps_can_be_computed_in_inference_mode_first_and_outside_of_it_later():
    backbone = load(refresh=True)
    with torch.inference_mode():
        (inside,) = OpenVINONetwork(backbone, "float32", Views([(32, 32)])).maps(batch())
    (outside,) = OpenVINONetwork(backbone, "float32", Views([(32, 32)])).maps(batch())
    assert torch.equal(inside, outside)


def test_a_network_is_compiled_once_for_each_size_and_kept_with_the_backbone(monkeypatch):
    converted = []
    monkeypatch.setattr(
        openvino_module,
        "_converted",
        lambda ov, backbone, size, original=openvino_module._converted: (
            converted.append(size),
            original(ov, backbone, size),
        )[1],
    )
    backbone = load(refresh=True)
    for _ in range(2):
        OpenVINONetwork(backbone, "float32", Views([(32, 32), (16, 16)])).maps(batch())
    assert converted == [(32, 32), (16, 16)]


@pytest.mark.parametrize(("precision", "n"), [("bfloat16", 1), ("float16", 1), ("float32", 0)])
def test_a_precision_that_the_processor_does_not_compute_in_is_refused(monkeypatch, precision, n):
    class Processor:
        def get_property(self, device, name):
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "INT8", "BIN"] if n else ["BF16", "FP16"]

    monkeypatch.setattr(openvino_module, "_core", lambda process_id: Processor())
    with pytest.raises(
        DeviceError, match=f"precision='{precision}': OpenVINO does not compute in it on this processor"
    ):
        OpenVINONetwork(load(refresh=True), precision, Views([(32, 32)]))


def test_a_network_that_cannot_be_converted_is_refused():
    with pytest.raises(BackboneError, match=r"(?s)^backbone='WithoutConversion' cannot be converted .*linalg_svdvals"):
        OpenVINONetwork(load(WithoutConversion()), "float32", Views([(32, 32)]))


def test_checking_refuses_a_network_that_decides_by_the_image():
    check_openvino(load())
    with pytest.raises(BackboneError, match=r"gives other feature maps .* \(by [0-9.]+ of the largest value\)"):
        check_openvino(load(ImageDependent()))


@pytest.mark.parametrize("module", [TinyNet, WithoutConversion])
def test_settings_of_the_process_are_left_as_found(module):
    def settings():
        return warnings.filters[:], torch.get_num_threads(), torch.is_grad_enabled(), torch.get_rng_state().tolist()

    before, backbone = settings(), load(module())
    try:
        OpenVINONetwork(backbone, "float32", Views([(32, 32)])).maps(batch())
    except BackboneError:
        assert module is WithoutConversion
    assert settings() == before


def test_the_backbone_is_left_as_found():
    backbone = load(refresh=True)
    before = {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}
    check_openvino(backbone)
    assert backbone.module.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.module.state_dict().items())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is absent")
def test_a_forked_child_can_go_on_with_the_network_of_its_parent():
    # Threads of OpenVINO do not live on in the child. torch's do not either, for which torch has no remedy: one thread.
    script = f"""
import os, sys
sys.path.insert(0, {str(TESTS)!r})
import torch
from common.networks import TinyNet
from sklearn_psp._nets import BackboneRequest, Views, load_backbone
from sklearn_psp._nets._openvino_network import OpenVINONetwork
torch.set_num_threads(1)
images = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32).to(torch.uint8)
backbone = load_backbone(BackboneRequest(TinyNet(), "default", None, (32, 32)))
network = OpenVINONetwork(backbone, "float32", Views([(32, 32)]))
(expected,) = network.maps(images)
child = os.fork()
if child == 0:
    same = [torch.equal(made.maps(images)[0], expected)
            for made in (network, OpenVINONetwork(backbone, "float32", Views([(32, 32)])))]
    os._exit(0 if all(same) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert torch.equal(network.maps(images)[0], expected)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
