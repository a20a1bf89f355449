"""A backbone library of another package, registered as its author would: no file of sklearn_psp is touched."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from safetensors.torch import save_file
from sklearn.base import clone
from torch import nn

from sklearn_psp import PSPNetFeaturizer, load, register_backbone_library, save
from sklearn_psp._nets import BackboneRequest, _backbones, load_backbone, own_image_size, trained_weights
from sklearn_psp.exceptions import BackboneError, WeightsError

FAST = {"device": "cpu", "precision": "float32", "runtime": "torch", "batch_size": 4, "center": False}
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)


class MyLibrary:
    """Two networks, one of which was made for images of one size."""

    sides = {"tiny": None, "fixed": 32}

    def names(self):
        return list(self.sides)

    def knows(self, name):
        return name in self.sides

    def image_size(self, name):
        side = self.sides[name]
        return None if side is None else (side, side)

    def build(self, request, name):
        if request.output_stride is not None:
            raise ValueError(f"output_stride={request.output_stride}: mylib does not dilate")
        network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        if request.weights == "default":
            for parameter in network.parameters():
                nn.init.constant_(parameter, 0.1)
        about = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "licence": "MIT", "source": "mylib 1.0"}
        return network, about | {"image_size": self.image_size(name)}


register_backbone_library("mylib", MyLibrary)


class Another:
    """A library that is registered nowhere: it is found by its dotted path."""

    def names(self):
        return ["patches"]

    def knows(self, name):
        return name == "patches"

    def image_size(self, name):
        return None

    def build(self, request, name):
        return nn.Conv2d(3, 5, 8, stride=8)


def transform(featurizer, images):
    return featurizer.transform(images)


@pytest.fixture(autouse=True)
def _registered_here_only(monkeypatch):
    monkeypatch.setattr(_backbones._LIBRARIES, "_added", {"mylib": MyLibrary})


def request(backbone, weights=None, size=32, seed=0):
    return BackboneRequest(backbone, weights, None, (size, size), seed)


def test_a_registered_library_is_used_by_its_name():
    featurizer = PSPNetFeaturizer("mylib/tiny", image_size=32, **FAST).fit()
    assert featurizer.n_features_out_ == 8
    info = featurizer.backbone_info_
    assert (info["library"], info["name"], info["licence"], info["source"]) == ("mylib", "tiny", "MIT", "mylib 1.0")
    assert info["mean"] == (0.5, 0.5, 0.5)
    rows = featurizer.transform(IMAGES)
    for other in (clone(featurizer).fit(), pickle.loads(pickle.dumps(featurizer))):
        np.testing.assert_array_equal(other.transform(IMAGES), rows)


@torch.inference_mode()
def test_pixels_are_scaled_as_the_library_says():
    backbone = load_backbone(request("mylib/tiny", "default"))
    assert (backbone.spec.mean, backbone.spec.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert load_backbone(request("mylib/tiny", "default")) is backbone


def test_images_have_the_size_that_a_network_was_made_for():
    assert own_image_size("mylib/tiny") == (224, 224)
    assert own_image_size("mylib/fixed") == (32, 32)
    featurizer = PSPNetFeaturizer("mylib/fixed", **FAST).fit()
    assert (featurizer.image_size_, featurizer.scales_) == ((32, 32), (1.0,))


def test_a_saved_featurizer_finds_the_library_again(tmp_path):
    featurizer = PSPNetFeaturizer("mylib/tiny", image_size=32, **FAST).fit()
    save(featurizer, tmp_path / "featurizer.skops")
    found = load(tmp_path / "featurizer.skops")
    np.testing.assert_array_equal(found.transform(IMAGES), featurizer.transform(IMAGES))


def test_weights_of_a_path_are_loaded_into_the_network(tmp_path):
    network, _ = MyLibrary().build(request("mylib/tiny"), "tiny")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    backbone = load_backbone(request("mylib/tiny", str(tmp_path / "w.safetensors")))
    assert torch.equal(backbone.module.network[0].weight, network[0].weight)
    save_file({"0.weight": network[0].weight.detach()}, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match="do not fit backbone='tiny'"):
        load_backbone(request("mylib/tiny", str(tmp_path / "less.safetensors")))


def test_random_weights_repeat_with_the_seed_and_may_be_trained():
    hashes = [load_backbone(request("mylib/tiny", seed=seed, size=size)).sha256 for seed, size in
              ((1, 32), (1, 48), (2, 32))]  # fmt: skip
    assert hashes[0] == hashes[1] != hashes[2]
    weights = trained_weights(load_backbone(request("mylib/tiny", seed=1)).module)
    trained = load_backbone(request("mylib/tiny", weights))
    assert trained.sha256 == weights.sha256
    assert trained.spec.source == "trained from mylib 1.0"


def test_worker_processes_that_import_the_module_know_the_library():
    featurizer = PSPNetFeaturizer("mylib/tiny", image_size=32, **FAST).fit()
    rows = Parallel(n_jobs=2)(delayed(transform)(featurizer, IMAGES[i : i + 3]) for i in (0, 3))
    np.testing.assert_array_equal(np.concatenate(rows), featurizer.transform(IMAGES))


def test_a_dotted_path_needs_no_registration_and_is_found_by_worker_processes():
    featurizer = PSPNetFeaturizer(f"{__name__}:Another/patches", image_size=32, **FAST).fit()
    assert featurizer.backbone_info_["library"] == f"{__name__}:Another"
    rows = Parallel(n_jobs=2)(delayed(featurizer.transform)(IMAGES[i : i + 3]) for i in (0, 3))
    np.testing.assert_array_equal(np.concatenate(rows), featurizer.transform(IMAGES))


PACKAGE = """
from torch import nn

class Networks:
    def names(self):
        return ["patches"]

    def knows(self, name):
        return name == "patches"

    def image_size(self, name):
        return None

    def build(self, request, name):
        return nn.Conv2d(3, 5, 8, stride=8)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package that names its library as an entry point; return the folder."""
    (tmp_path / "package_of_networks.py").write_text(PACKAGE)
    metadata = tmp_path / "package_of_networks-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: package-of-networks\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[sklearn_psp.backbones]\ninstalled = package_of_networks:Networks\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("package_of_networks", None)


def test_an_entry_point_is_found_by_this_process_and_by_a_fresh_one(package):
    featurizer = PSPNetFeaturizer("installed/patches", image_size=32, **FAST).fit()
    assert featurizer.n_features_out_ == 5
    path = package / "job.pkl"
    path.write_bytes(pickle.dumps((featurizer, IMAGES)))
    script = """
import pickle, sys
path = sys.argv[1]
featurizer, images = pickle.load(open(path, "rb"))
pickle.dump(featurizer.transform(images), open(path, "wb"))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *sys.path]), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(pickle.loads(path.read_bytes()), featurizer.transform(IMAGES))


@pytest.mark.usefixtures("package")
def test_an_unknown_name_says_what_there_is():
    with pytest.raises(
        BackboneError, match=r"'mylib/tinny' is unknown: did you mean 'mylib/tiny' .*\? the libraries are"
    ):
        own_image_size("mylib/tinny")
    with pytest.raises(BackboneError, match="'mylib_tiny' is unknown: did you mean 'mylib/tiny'"):
        own_image_size("mylib_tiny")
    with pytest.raises(BackboneError) as caught:
        own_image_size("no_library/resnet50")
    message = str(caught.value)
    assert "'packaged' ('dlib_face', 'efficientnet_lite0', 'efficientnet_lite2')" in message
    assert "'mylib' ('tiny', 'fixed')" in message
    assert "'torchvision' (" in message
    assert "names), 'mylib'" in message
    assert "'installed' ('patches'); write 'LIBRARY/NAME', or pass a torch.nn.Module" in message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package.nets:Networks/tiny", "names no backbone library .*No module named 'no_such_package'"),
        ("json:Networks/tiny", "names no backbone library .*has no attribute 'Networks'"),
        ("json:JSONDecoder/tiny", "JSONDecoder lacks knows, names, image_size, build"),
        ("hf-hub:somebody/tiny", "names no backbone library"),
    ],
)
def test_a_dotted_path_to_nothing_is_refused(name, message):
    with pytest.raises(BackboneError, match=message):
        own_image_size(name)


class Incomplete:
    def names(self):
        return []


@pytest.mark.parametrize(
    ("name", "library", "error", "message"),
    [
        ("other", Incomplete, TypeError, "Incomplete lacks knows, image_size, build"),
        ("other", Incomplete(), TypeError, "Incomplete lacks knows, image_size, build"),
        ("timm", MyLibrary, ValueError, "'timm' is a backbone library of sklearn_psp and cannot be replaced"),
        ("a/b", MyLibrary, ValueError, "must have no slash, got 'a/b'"),
        ("a:b", MyLibrary, ValueError, "must have no colon, got 'a:b'"),
        (None, MyLibrary, TypeError, "must be a str, got None"),
    ],
)
def test_what_is_no_library_is_refused(name, library, error, message):
    with pytest.raises(error, match=message):
        register_backbone_library(name, library)


def test_a_library_of_the_same_name_takes_the_place_of_the_first():
    first = load_backbone(request("mylib/tiny"))

    class Second(MyLibrary):
        def build(self, request, name):
            return nn.Conv2d(3, 2, 4, stride=4)

    register_backbone_library("mylib", Second)
    assert load_backbone(request("mylib/tiny")).n_channels == 2
    register_backbone_library("mylib", MyLibrary())
    assert load_backbone(request("mylib/tiny")).n_channels == first.n_channels == 8


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (None, "must return a torch.nn.Module, or one and a dict; it returned a NoneType and a dict"),
        ((nn.Conv2d(3, 2, 4), None), "it returned a Conv2d and a NoneType"),
        ((nn.Conv2d(3, 2, 4), {"license": "MIT"}), r"library 'broken' says \['license'\], which is not known"),
        (nn.Flatten(), "must map .* to feature maps .*; it gave a tensor of shape"),
    ],
)
def test_what_a_library_builds_is_checked(built, message):
    class Broken(MyLibrary):
        def build(self, request, name):
            return built

    register_backbone_library("broken", Broken)
    with pytest.raises(BackboneError, match=message):
        load_backbone(request("broken/tiny"))


def test_errors_of_a_library_are_passed_on():
    with pytest.raises(ValueError, match="output_stride=8: mylib does not dilate"):
        load_backbone(BackboneRequest("mylib/tiny", "default", 8, (32, 32)))
