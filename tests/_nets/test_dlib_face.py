"""The face network is dlib's: the same numbers, from the same file, or a message that says what is wrong with it."""

from __future__ import annotations

import functools
import importlib.util
import pickle
import sys

import dlib
import numpy as np
import pytest
import torch
from common.photographs import PHOTOGRAPHS, SHARED_DATA
from PIL import Image
from safetensors.torch import save_file

from sklearn_psp import PSPNetFeaturizer, load, save
from sklearn_psp._nets import BackboneRequest, load_backbone
from sklearn_psp._nets import _packaged as packaged
from sklearn_psp._nets._dlib_face import DlibFace, read_dlib_face
from sklearn_psp._nets._packaged import PACKAGED
from sklearn_psp._nets._weights import packaged_file
from sklearn_psp.exceptions import BackboneError, WeightsError

SPEC = PACKAGED["dlib_face"]
ASTRONAUT = next(path for path in PHOTOGRAPHS if path.stem == "astronaut")
# In float32, to dlib; rounding makes 4e-7.
CLOSE = 1e-4
RANDOM = np.random.default_rng(0).integers(0, 256, (3, 150, 150, 3), dtype=np.uint8)


def plain(**params):
    """Return a featurizer that gives dlib's own descriptor."""
    own = {"bin_sizes": (1,), "pooling": "avg", "center": False, "normalize": False}
    fast = {"precision": "float32", "batch_size": 4, "device": "cpu", "runtime": "torch"}
    return PSPNetFeaturizer("dlib_face", **own | fast | params)


def request(weights="default", size=(150, 150), output_stride=None, seed=None):
    return BackboneRequest("dlib_face", weights, output_stride, size, seed)


@functools.cache
def model_file():
    return packaged_file(SPEC.package, SPEC.file)


@functools.cache
def dlib_tools():
    five_points = packaged_file(SPEC.package, "models/shape_predictor_5_face_landmarks.dat")
    network = dlib.face_recognition_model_v1(str(model_file()))
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(five_points)), network


def dlib_descriptors(chips):
    *_, network = dlib_tools()
    return np.array([network.compute_face_descriptor(chip) for chip in chips])


def dlib_chips(image):
    """Return the aligned faces of an image, 150 x 150."""
    detector, five_points, _ = dlib_tools()
    return [dlib.get_face_chip(image, five_points(image, box), size=150) for box in detector(image, 1)]


def read(path):
    with Image.open(path) as image:
        return np.ascontiguousarray(image.convert("RGB"))


@functools.cache
def faces():
    """The astronaut, upright, mirrored and darker, and noise: chips and dlib's descriptors of them."""
    (face, *_) = dlib_chips(read(ASTRONAUT)[:256])
    chips = np.stack([face, face[:, ::-1], face // 2, *RANDOM])
    return chips, dlib_descriptors(chips)


def test_maps_have_dlibs_descriptor_as_their_mean():
    chips, expected = faces()
    backbone = load_backbone(request())
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    with torch.inference_mode():
        maps = backbone.module((torch.from_numpy(chips).permute(0, 3, 1, 2) / 255 - mean) / std)
    assert maps.shape == (6, 128, 2, 2)
    np.testing.assert_allclose(maps.mean((2, 3)).numpy(), expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_featurizer_gives_dlibs_descriptor(runtime):
    chips, expected = faces()
    featurizer = plain(runtime=runtime).fit()
    assert (featurizer.image_size_, featurizer.scales_, featurizer.n_features_out_) == ((150, 150), (1.0,), 128)
    rows = featurizer.transform(chips)
    np.testing.assert_allclose(rows, expected, atol=CLOSE, rtol=0)
    one_by_one = np.concatenate([featurizer.transform(chip[None]) for chip in chips])
    np.testing.assert_allclose(one_by_one, rows, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("pattern", "n_faces"), [("face_pairs/img1[0-5].jpg", 3), ("orl_faces/s?/1.pgm", 6)], ids=["colour", "grey"]
)
def test_faces_of_the_sets_have_dlibs_descriptors(pattern, n_faces):
    paths = sorted(SHARED_DATA.glob(pattern))
    if not paths:
        pytest.skip("../shared/data is absent")
    chips = [chip for path in paths for chip in dlib_chips(read(path))][:12]
    assert len(chips) >= n_faces
    np.testing.assert_allclose(plain().fit_transform(chips), dlib_descriptors(chips), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_parts_are_projected_means_of_the_parts_of_the_maps(runtime):
    chips, expected = faces()
    state = read_dlib_face(model_file())
    network = DlibFace().double().eval()
    network.load_state_dict(state)
    pixels = torch.from_numpy(chips).permute(0, 3, 1, 2).double()
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    matrix = network.project.weight.detach().numpy()[:, :, 0, 0].T
    network.project = torch.nn.Identity()
    with torch.inference_mode():
        before = network((pixels / 255 - mean) / std).numpy()
    cells = [
        before[:, :, rows, columns] for rows in (slice(0, 1), slice(1, 2)) for columns in (slice(0, 1), slice(1, 2))
    ]
    parts = np.stack([part.mean(axis=(2, 3)) @ matrix for part in (before, *cells)], axis=1)
    np.testing.assert_allclose(parts[:, 0], expected, atol=CLOSE)

    featurizer = plain(bin_sizes=(1, 2), runtime=runtime).fit()
    np.testing.assert_allclose(featurizer.transform_parts(chips), parts, atol=1e-5, rtol=0)
    np.testing.assert_allclose(featurizer.transform(chips), parts.sum(axis=1), atol=1e-5, rtol=0)
    unit = plain(bin_sizes=(1, 2), runtime=runtime, normalize=True).fit().transform_parts(chips)
    np.testing.assert_allclose(unit, parts / np.linalg.norm(parts, axis=2, keepdims=True), atol=1e-5, rtol=0)


def test_half_precision_is_close():
    chips, expected = faces()
    rows = plain(precision="bfloat16").fit_transform(chips)
    assert np.linalg.norm(rows - expected, axis=1).max() < 0.03  # two people are 0.6 apart


def test_images_of_other_sizes_are_taken_down_to_the_networks_own_limit():
    assert plain(image_size=(180, 131)).fit_transform(RANDOM).shape == (3, 128)
    with pytest.raises(BackboneError, match=r"backbone='dlib_face' cannot take images of image_size=\(20, 20\)"):
        plain(image_size=20).fit()


def test_weights_say_where_they_come_from():
    info = plain().fit().backbone_info_
    assert (info["licence"], info["sha256"], info["tap"]) == ("CC0-1.0", SPEC.sha256, "project")
    assert "VGG and FaceScrub" in info["source"]
    assert "face_recognition_models" not in sys.modules  # it needs pkg_resources


def test_fitted_featurizer_is_pickled_and_saved_without_weights(tmp_path):
    chips, expected = faces()
    featurizer = plain().fit()
    save(featurizer, tmp_path / "faces.skops")
    assert (tmp_path / "faces.skops").stat().st_size < 100_000
    for again in (pickle.loads(pickle.dumps(featurizer)), load(tmp_path / "faces.skops")):
        assert again.image_size_ == (150, 150)
        np.testing.assert_allclose(again.transform(chips), expected, atol=CLOSE, rtol=0)


def test_cache_keeps_descriptors_with_and_without_lengths_apart(tmp_path):
    chips, expected = faces()
    featurizer = plain(cache=tmp_path).fit()
    unit = plain(cache=tmp_path, normalize=True).fit()
    for _ in range(2):
        np.testing.assert_allclose(featurizer.transform(chips), expected, atol=2e-3, rtol=0)
        np.testing.assert_allclose(np.linalg.norm(unit.transform(chips), axis=1), 1, rtol=1e-5)


def test_random_weights_are_those_of_the_seed():
    rows = [plain(weights=None, random_state=seed).fit_transform(RANDOM) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2])


def test_weights_of_a_path_are_taken(tmp_path):
    path = tmp_path / "own.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in read_dlib_face(model_file()).items()}, path)
    np.testing.assert_array_equal(plain(weights=path).fit_transform(RANDOM), plain().fit_transform(RANDOM))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(BackboneError, match="output_stride=8: backbone='dlib_face' cannot be dilated; use None"):
        load_backbone(request(output_stride=8))
    with pytest.raises(WeightsError, match=r"weights='download': .*face-recognition-models.*use weights='default'"):
        load_backbone(request(weights="download"))


def test_absent_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"'face-recognition-models', .* pip install 'sklearn_psp\[faces\]'"):
        load_backbone(request(size=(151, 151)))


def test_file_with_another_hash_is_refused(monkeypatch, tmp_path):
    data = bytearray(model_file().read_bytes())
    data[9_000_000] ^= 1  # a weight, not the structure
    path = tmp_path / "model.dat"
    path.write_bytes(data)
    monkeypatch.setattr(packaged, "packaged_file", lambda *names, **options: path)
    with pytest.raises(WeightsError, match=r"model\.dat has sha256 .*, expected 55533b28.*: it is damaged"):
        load_backbone(request(size=(152, 152)))


def without_a_tensor(data):
    start = data.index(b"\1\2\1\x40\1\1\1\1\1\1")  # factors and offsets of the first convolution
    return data[:start] + data[start + 10 + 4 * 64 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", r"tensor 1 of 59, of shape \(4736,\), does not stand whole after byte 0 of 0"),
        (
            lambda data: np.random.default_rng(0).bytes(100_000),
            "not dlib's face recognition network, or damaged: tenso",
        ),
        (lambda data: data[:-200], r"tensor 59 of 59, of shape \(256, 128\), does not stand whole"),
        (lambda data: data[: len(data) // 2], r"damaged: tensor \d\d of 59"),
        (without_a_tensor, r"tensor 2 of 59, of shape \(64,\)"),
        (lambda data: data + data[:1000], "holds more than dlib's face recognition network: 1,072 bytes after its 59"),
    ],
    ids=["empty", "foreign", "cut a little", "cut in half", "a tensor less", "longer"],
)
def test_file_that_is_not_whole_is_refused(tmp_path, change, message):
    path = tmp_path / "model.dat"
    path.write_bytes(change(model_file().read_bytes()))
    with pytest.raises(WeightsError, match=message):
        read_dlib_face(path)


def test_every_byte_of_the_tensors_is_used():
    """59 tensors of float32 are 22,458,368 of the file's 22,466,066 bytes: factors are multiplied into filters."""
    n_affine = sum(2 * layer.out_channels for layer in DlibFace().modules() if getattr(layer, "bias", None) is not None)
    n_numbers = sum(tensor.numel() for tensor in read_dlib_face(model_file()).values())
    assert 4 * (n_numbers + n_affine) == 22_458_368
