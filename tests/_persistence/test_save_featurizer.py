"""A featurizer comes back with the same descriptors, bit for bit, and the weights it needs."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from common.networks import TinyNet
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._nets import _backbones
from sklearn_psp._persistence import load, save
from sklearn_psp.exceptions import ImageReadWarning, PersistenceError, WeightsError

NAME = "common.networks.TinyNet"
SIZE = {"image_size": 32, "scales": (1.0,), "precision": "float32", "batch_size": 4, "device": "cpu"}
# A network of one's own is converted anew for OpenVINO at every fit.
TINY = SIZE | {"runtime": "torch"}
LABELS = np.repeat(["a", "b", "c"], 4)


@pytest.fixture
def no_cache():
    """Forget the loaded networks: a fresh process has none."""
    saved = dict(_backbones._LOADED)
    _backbones._LOADED.clear()
    yield
    _backbones._LOADED.clear()
    _backbones._LOADED.update(saved)


def assert_same_state(loaded, estimator):
    expected = {name: value for name, value in vars(estimator).items() if name not in ("backbone", "_request")}
    assert set(vars(loaded)) == set(vars(estimator))
    for name, value in expected.items():
        found = getattr(loaded, name)
        assert type(found) is type(value), name
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(found, value)
        elif isinstance(value, np.ndarray):
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, value)
        else:
            assert found == value, name


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(
    "options",
    [
        {"weights": None, "random_state": 3, "aggregation": "concat", "part_order": "snake"},
        {"weights": None, "bin_sizes": [1, (2, 1)], "part_weights": np.array([0.5, 0.2, 0.3]), "flip": True},
        {"weights": None, "random_state": np.random.RandomState(7), "gem_power": np.float32(2.5), "pooling": "gem"},
        {"part_weights": (1.0, 2, 3, 4, 5), "bin_sizes": (1, 2), "center": False, "normalize": False},
    ],
    ids=["random", "arrays", "numpy", "installed"],
)
def test_named_backbone__gives_the_same_bits(options, path, images):
    featurizer = PSPNetFeaturizer(**SIZE, **options).fit(images)
    expected, parts = featurizer.transform(images), featurizer.transform_parts(images)
    save(featurizer, path)
    _backbones._LOADED.clear()
    loaded = load(path)
    np.testing.assert_array_equal(loaded.transform(images), expected)
    np.testing.assert_array_equal(loaded.transform_parts(images), parts)
    if not isinstance(featurizer.random_state, np.random.RandomState) and "part_weights" not in options:
        assert_same_state(loaded, featurizer)
    assert list(loaded.get_feature_names_out()) == list(featurizer.get_feature_names_out())


def test_installed_weights__are_not_in_the_file(path, images):
    save(PSPNetFeaturizer(**SIZE).fit(images), path)
    assert path.stat().st_size < 200_000


def test_settings_of_the_machine__are_kept(path, images):
    settings = SIZE | {"precision": "bfloat16", "batch_size": 3}
    featurizer = PSPNetFeaturizer(TinyNet(), **settings).fit(images)
    save(featurizer, path)
    loaded = load(path, modules={NAME: TinyNet()})
    assert (loaded.precision_, loaded.batch_size_, loaded.device_) == ("bfloat16", 3, "cpu")
    np.testing.assert_array_equal(loaded.transform(images), featurizer.transform(images))


def test_unfitted__comes_back_unfitted(path, tmp_path):
    for weights in ("default", "download", None, "absent.pth", tmp_path / "absent.pth"):
        featurizer = PSPNetFeaturizer(weights=weights, bin_sizes=[(6, 1)], device=torch.device("cpu"))
        save(featurizer, path)
        loaded = load(path)
        assert loaded.get_params() == featurizer.get_params() | {"device": "cpu"}
        assert type(loaded.weights) is type(weights)


def test_images_that_could_not_be_read__are_still_listed(path, images):
    featurizer = PSPNetFeaturizer(TinyNet(), on_error="nan", **TINY)
    with pytest.warns(ImageReadWarning):
        featurizer.fit([*images, b"not images"])
    save(featurizer, path)
    loaded = load(path, modules={NAME: TinyNet()})
    pd.testing.assert_frame_equal(loaded.errors_, featurizer.errors_)
    assert_same_state(loaded, featurizer)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("backbone", ["torchvision/squeezenet1_1", "timm/test_resnet"])
def test_weights_from_a_path__are_in_the_file(backbone, suffix, path, tmp_path, images):
    weights = tmp_path / f"weights{suffix}"
    if backbone.startswith("timm"):
        state = timm.create_model("test_resnet").state_dict()
    else:
        state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    save_file(state, weights) if suffix == ".safetensors" else torch.save(state, weights)
    featurizer = PSPNetFeaturizer(backbone, weights=weights, **SIZE | {"image_size": 64}).fit(images)
    expected = featurizer.transform(images)
    save(featurizer, path)
    _backbones._LOADED.clear()
    weights.unlink()

    loaded = load(path)
    np.testing.assert_array_equal(loaded.transform(images), expected)
    assert loaded.weights == weights
    assert loaded.backbone_info_ == featurizer.backbone_info_
    save(loaded, path)
    for again in (load(path), pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded)):
        np.testing.assert_array_equal(again.transform(images), expected)
    with pytest.raises(WeightsError, match="is not a file"):
        clone(loaded).fit(images)


def test_weights_that_changed_since_fit__are_not_saved(path, tmp_path, images):
    weights = tmp_path / "weights.pth"
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state, weights)
    featurizer = PSPNetFeaturizer("timm/test_resnet", weights=weights, **SIZE | {"image_size": 64}).fit(images)
    torch.save({name: value + 1 for name, value in state.items()}, weights)
    with pytest.raises(WeightsError, match=r"has sha256 .*, expected"):
        save(featurizer, path)
    assert not path.exists()


def test_module__comes_back_with_its_weights(path, images):
    featurizer = PSPNetFeaturizer(TinyNet(seed=5), **TINY).fit(images)
    save(featurizer, path)
    mine = TinyNet(seed=9)
    before = copy.deepcopy(mine.state_dict())
    loaded = load(path, modules={NAME: mine})
    np.testing.assert_array_equal(loaded.transform(images), featurizer.transform(images))
    assert isinstance(loaded.backbone, TinyNet)
    assert loaded.backbone is not mine
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    assert_same_state(loaded, featurizer)
    np.testing.assert_array_equal(clone(loaded).fit(images).transform(images), featurizer.transform(images))


def test_module_trained_since_fit__is_saved_as_it_was_at_fit(path, images):
    network = TinyNet()
    featurizer = PSPNetFeaturizer(network, **TINY).fit(images)
    expected = featurizer.transform(images)
    with torch.no_grad():
        network.convolution.weight += 1
    save(featurizer, path)
    np.testing.assert_array_equal(load(path, modules={NAME: TinyNet()}).transform(images), expected)


def test_module_with_weights_from_a_path__needs_the_path_no_more(path, tmp_path, images):
    weights = tmp_path / "weights.pth"
    torch.save(TinyNet(seed=1).state_dict(), weights)
    featurizer = PSPNetFeaturizer(TinyNet(), weights=str(weights), **TINY).fit(images)
    save(featurizer, path)
    weights.unlink()
    loaded = load(path, modules={NAME: TinyNet(seed=4)})
    np.testing.assert_array_equal(loaded.transform(images), featurizer.transform(images))


def test_module_that_is_not_given__is_named_with_the_line_to_write(path):
    save(PSPNetFeaturizer(TinyNet(), **TINY), path)
    line = r"from common\.networks import TinyNet\n +sklearn_psp\.load\(path, modules=\{'common\.networks\.TinyNet'"
    with pytest.raises(PersistenceError, match=line):
        load(path)


def test_module_of_another_shape__is_refused(path):
    save(PSPNetFeaturizer(TinyNet(), **TINY), path)
    with pytest.raises(WeightsError, match="do not fit backbone='TinyNet'"):
        load(path, modules={NAME: TinyNet(n_channels=4)})


def test_module_of_a_search__is_in_the_file_once(path, images):
    network = TinyNet(n_channels=300)
    steps = make_pipeline(PSPNetFeaturizer(network, **TINY), PCA(2), KNeighborsClassifier(1, algorithm="brute"))
    search = GridSearchCV(steps, {"pspnetfeaturizer__pooling": ["avg", "max"]}, cv=2)
    search.fit(images, LABELS)
    save(search, path)
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    assert size < path.stat().st_size < 2 * size
    loaded = load(path, modules={NAME: TinyNet(n_channels=300)})
    np.testing.assert_array_equal(loaded.predict(images), search.predict(images))


def test_pickle_and_copy__keep_the_module(images):
    featurizer = PSPNetFeaturizer(TinyNet(), **TINY).fit(images)
    for other in (pickle.loads(pickle.dumps(featurizer)), copy.deepcopy(featurizer)):
        assert isinstance(other.backbone, TinyNet)
        np.testing.assert_array_equal(other.transform(images), featurizer.transform(images))


def test_table_as_input__is_remembered(path):
    rows = np.random.default_rng(0).uniform(size=(5, 64 * 3))
    featurizer = PSPNetFeaturizer(TinyNet(), image_shape=(8, 8, 3), **TINY).fit(rows)
    save(featurizer, path)
    loaded = load(path, modules={NAME: TinyNet()})
    assert loaded.n_features_in_ == 192
    np.testing.assert_array_equal(loaded.transform(rows), featurizer.transform(rows))
