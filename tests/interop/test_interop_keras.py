"""A real Keras model, on the torch backend, as the backbone."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from common.colours import colours, quick
from common.networks import FAST
from sklearn.base import clone

from sklearn_psp import PSPNetFeaturizer, load, save
from sklearn_psp._nets import BackboneRequest, load_backbone
from sklearn_psp.exceptions import BackboneError, WeightsError

# Of Keras itself, where it saves a model and NumPy is 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def request(model, size=(32, 32), weights="default", output_stride=None):
    return BackboneRequest(model, weights, output_stride, size)


def noise(n=2, size=(32, 32)):
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(0))


def small(keras, sides=(None, None), seed=0):
    """A model with all that is particular: statistics, dropout, a scale."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((*sides, 3)),
            layers.Rescaling(2.0, offset=-1),
            layers.Conv2D(8, 3, strides=4, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
        ]
    )
    model(np.random.default_rng(1).random((4, 32, 32, 3), dtype=np.float32), training=True)  # moves the statistics
    return model


@pytest.fixture
def model(keras):
    with torch.random.fork_rng():
        return small(keras)


@torch.inference_mode()
def direct(model, x):
    return model(x.permute(0, 2, 3, 1), training=False).permute(0, 3, 1, 2)


def test_maps_are_what_the_model_itself_gives(model):
    backbone = load_backbone(request(model))
    torch.testing.assert_close(backbone.module(noise()), direct(model, noise()), atol=1e-5, rtol=0)
    assert (backbone.n_channels, backbone.grid, backbone.fixed_size) == (8, (8, 8), False)
    assert backbone.info()["name"] == "Sequential"


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0", "ResNet50"])
def test_applications_of_keras(keras, name):
    model = getattr(keras.applications, name)(include_top=False, weights=None)
    backbone = load_backbone(request(model, (64, 64)))
    x = noise(size=(64, 64))
    torch.testing.assert_close(backbone.module(x), direct(model, x), atol=1e-5, rtol=1e-5)
    assert backbone.grid == (2, 2)


def test_channels_first(keras):
    images = keras.Input((3, None, None))
    model = keras.Model(images, keras.layers.Conv2D(5, 3, data_format="channels_first")(images))
    backbone = load_backbone(request(model))
    with torch.inference_mode():
        torch.testing.assert_close(backbone.module(noise()), model(noise()))
    assert (backbone.n_channels, backbone.grid) == (5, (30, 30))


def test_a_model_with_fixed_sides_is_for_one_size(keras):
    featurizer = PSPNetFeaturizer(small(keras, (32, 32)), **(FAST | {"scales": "auto"})).fit(IMAGES)
    assert featurizer.scales_ == (1.0,)


def test_the_model_is_copied_and_left_as_found(model):
    before = model.get_weights()
    backbone = load_backbone(request(model))
    expected = direct(model, noise())
    assert [parameter.requires_grad for parameter in model.parameters()].count(True) == 4
    model.set_weights([weights + 0.1 for weights in before])
    torch.testing.assert_close(backbone.module(noise()), expected)
    assert load_backbone(request(model)) is backbone
    assert load_backbone(request(model), refresh=True).sha256 != backbone.sha256
    model.set_weights(before)
    assert load_backbone(request(model), refresh=True).sha256 == backbone.sha256


def test_hash_does_not_depend_on_the_names_that_keras_numbers(keras):
    first, second = small(keras), small(keras)
    assert [w.path for w in first.weights] != [w.path for w in second.weights]
    assert load_backbone(request(first)).sha256 == load_backbone(request(second)).sha256
    assert load_backbone(request(small(keras, seed=1))).sha256 != load_backbone(request(first)).sha256


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("runtime", ["torch", "openvino", "auto"])
def test_descriptors_repeat_whatever_runs_the_network(model, runtime, precision):
    pytest.importorskip("openvino", reason="openvino is absent")
    options = FAST | {"runtime": runtime, "precision": precision}
    descriptors = PSPNetFeaturizer(model, **options).fit(IMAGES).transform(IMAGES)
    np.testing.assert_array_equal(PSPNetFeaturizer(model, **options).fit(IMAGES).transform(IMAGES), descriptors)
    reference = PSPNetFeaturizer(model, **FAST).fit(IMAGES).transform(IMAGES)
    np.testing.assert_allclose(descriptors, reference, atol=1e-5 if precision == "float32" else 0.05)


def test_several_threads_run_it(model):
    options = FAST | {"batch_size": 1}
    expected = PSPNetFeaturizer(model, **options).fit(IMAGES).transform(IMAGES)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = PSPNetFeaturizer(model, **options).fit(IMAGES).transform(IMAGES)
    finally:
        torch.set_num_threads(n_threads)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_clone_pickle_and_save_keep_the_descriptors(keras, model, tmp_path):
    fitted = PSPNetFeaturizer(model, **FAST).fit(IMAGES)
    expected = fitted.transform(IMAGES)
    np.testing.assert_array_equal(clone(fitted).fit(IMAGES).transform(IMAGES), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(IMAGES), expected)
    save(fitted, tmp_path / "f.psp")
    name = f"{type(model).__module__}.Sequential"
    loaded = load(tmp_path / "f.psp", modules={name: small(keras, seed=5)})
    np.testing.assert_array_equal(loaded.transform(IMAGES), expected)
    with pytest.raises(WeightsError, match="do not fit"):
        load(
            tmp_path / "f.psp", modules={name: keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3)])}
        )


def test_a_copy_can_be_trained(model):
    """Gradients reach what Keras trains, statistics move in train mode only, and the original stays."""
    backbone = load_backbone(request(model))
    expected = backbone.module(noise())
    module = copy.deepcopy(backbone.module)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    # Inside another module: all parameters may want gradients, none of them is a statistic or a state of dropout.
    outer = torch.nn.Sequential(module, torch.nn.AdaptiveAvgPool2d(1)).requires_grad_(True)
    optimizer = torch.optim.SGD(outer.parameters(), 0.1)
    statistics = [buffer.clone() for buffer in module.buffers()]
    for training in (False, True):
        outer.train(training)
        outer(noise()).square().sum().backward()
        moved = any(not torch.equal(a, b) for a, b in zip(statistics, module.buffers(), strict=True))
        assert moved == training
    assert len(list(module.parameters())) == 4
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    optimizer.step()
    module.eval()
    assert (module(noise()) - expected).abs().max() > 1e-3
    torch.testing.assert_close(backbone.module(noise()), expected)
    torch.testing.assert_close(direct(model, noise()), expected)
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(again(noise()), module(noise()))
        assert [p.requires_grad for p in again.parameters()] == [True] * 4
    twice = copy.deepcopy(backbone.module)
    twice.load_state_dict(module.state_dict())
    torch.testing.assert_close(twice(noise()), module(noise()))


def test_frozen_layers_stay_frozen(keras, model):
    model.layers[1].trainable = False
    module = load_backbone(request(model)).module.requires_grad_(True)
    assert [name.partition("_")[2] for name, _ in module.named_parameters()] == ["gamma", "beta"]


def test_moving_and_converting_takes_all_weights_along(model):
    module = copy.deepcopy(load_backbone(request(model)).module)
    expected = module(noise())
    module.to(memory_format=torch.channels_last).double().float()
    torch.testing.assert_close(module(noise()), expected)
    for name, buffer in module.named_buffers():
        assert module._variables[name].value.data_ptr() == buffer.data_ptr()


def test_a_model_with_its_head_is_told_to_leave_it_out(keras):
    whole = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(32, 32, 3))
    with pytest.raises(BackboneError, match=r"\(n, rows, columns, channels\); it gave a tensor of shape \(1, 1000\); .*"
                                            "include_top=False"):  # fmt: skip
        PSPNetFeaturizer(whole, **FAST).fit(IMAGES)


def test_a_custom_layer_that_keras_cannot_read_back_is_copied_layer_by_layer(keras):
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    images = keras.Input((None, None, 3))
    model = keras.Model(images, Doubled()(keras.layers.Conv2D(4, 3)(images)))
    torch.testing.assert_close(load_backbone(request(model)).module(noise()), direct(model, noise()))


def test_what_cannot_be_copied_or_used_is_refused(keras, model):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = keras.layers.Conv2D(4, 3)

        def call(self, x):
            return self.convolution(x)

    own = Own()
    with pytest.raises(BackboneError, match=r"is not built, and has no weights yet: give it a keras.Input"):
        load_backbone(request(own))
    own(np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(BackboneError, match="cannot be copied: decorate its classes"):
        load_backbone(request(own))
    with pytest.raises(BackboneError, match=r"cannot take images of image_size=\(2, 2\)"):
        load_backbone(request(model, (2, 2)))
    with pytest.raises(BackboneError, match="cannot take images"):
        load_backbone(request(keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(4, 3)])))
    with pytest.raises(WeightsError, match=r"weights='a.h5' with a Keras model: .*model.load_weights\(path\)"):
        load_backbone(request(model, weights="a.h5"))
    with pytest.raises(BackboneError, match="output_stride=8: a module of your own"):
        load_backbone(request(model, output_stride=8))


# torchvision first: where torch has triton, its LLVM and TensorFlow's end the process if TensorFlow's is loaded first.
_ELSEWHERE = """
import torchvision
import keras
from sklearn_psp._nets import BackboneRequest, load_backbone
from sklearn_psp.exceptions import BackboneError
model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)])
try:
    load_backbone(BackboneRequest(model, "default", None, (32, 32)))
except BackboneError as error:
    print(error)
"""


def test_another_backend_is_refused_with_the_remedy(tf):
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE], env=environment, capture_output=True, text=True, timeout=900, check=True
    )
    assert "a Keras model on the backend 'tensorflow', and needs the backend 'torch'" in done.stdout
    assert "KERAS_BACKEND=torch" in done.stdout


def test_classifier_trains_a_copy_of_the_model(model, tmp_path):
    before = [weights.copy() for weights in model.get_weights()]
    X, y = colours(24)
    classifier = quick("all", backbone=model, epochs=8).fit(X, y, validation_data=(X, y))
    assert classifier.score(X, y) == 1.0
    assert classifier.history_["val_accuracy"].max() == 1.0
    for weights, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, expected)
    trained = classifier.featurizer_.backbone
    assert any(not np.array_equal(a, b) for a, b in zip(trained.get_weights(), before, strict=True))
    expected = classifier.predict_proba(X)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(classifier)).predict_proba(X), expected, atol=1e-6)
    assert quick("all", backbone=model, epochs=8).fit(X, y, validation_data=(X, y)).history_.equals(classifier.history_)
    with pytest.raises(BackboneError, match=r"train='last_stage' needs to see the layers .*layer.trainable = False"):
        quick("last_stage", backbone=model).fit(X, y)
