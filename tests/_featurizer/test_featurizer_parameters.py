"""Parameters that are refused, with the parameter and the remedy in the message; and those of the machine."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from common.networks import FAST, TinyNet

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp.exceptions import BackboneError, DeviceError, WeightsError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

# A network of timm that is small enough to be drawn anew again and again.
RANDOM = {"backbone": "timm/test_efficientnet", "weights": None, "center": False}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"bin_sizes": ()}, r"bin_sizes=\(\) must hold at least one level"),
        ({"bin_sizes": (1, 0)}, r"bin_sizes=\(1, 0\): 0 must be a positive int.*or \(rows, columns\)"),
        ({"bin_sizes": (1, (2, 0))}, r"\(2, 0\) must be a positive int"),
        ({"bin_sizes": (1, (2, 3, 4))}, r"\(2, 3, 4\) must be a positive int"),
        ({"bin_sizes": (1.5,)}, "1.5 must be a positive int"),
        ({"bin_sizes": 3}, "The 'bin_sizes' parameter of PSPNetFeaturizer must be"),
        ({"image_size": (32, 32, 3)}, r"image_size=\(32, 32, 3\) must be 'auto', a positive int or \(height, width\)"),
        ({"image_size": "large"}, "The 'image_size' parameter of PSPNetFeaturizer must be"),
        ({"image_size": (32, 0)}, r"image_size=\(32, 0\)"),
        ({"image_size": 0}, "The 'image_size' parameter of PSPNetFeaturizer must be"),
        ({"image_size": 32.0}, "The 'image_size' parameter"),
        ({"scales": ()}, r"scales=\(\) must hold at least one number.*\(1.0,\) is one scale"),
        ({"scales": (1.0, 0)}, r"scales=\(1.0, 0\) must hold at least one number, all of them above 0"),
        ({"scales": (float("nan"),)}, "all of them above 0"),
        ({"scales": ("1",)}, "all of them above 0"),
        ({"scales": 1.0}, "The 'scales' parameter"),
        ({"part_weights": [1.0] * 13}, r"part_weights has shape \(13,\), but bin_sizes make 14 parts"),
        ({"part_weights": [-1.0] + [1.0] * 13}, "must be finite, not negative, and not all zero"),
        ({"part_weights": [np.nan] + [1.0] * 13}, "must be finite"),
        ({"part_weights": np.zeros(14)}, "not all zero"),
        ({"projection": np.ones((2, 12, 4))}, r"projection has shape \(2, 12, 4\), but bin_sizes make 3 levels"),
        ({"projection": np.ones((3, 11, 4))}, r"backbone gives 12 channels: a matrix each, \(3, 12, n_components\)"),
        ({"projection": np.ones((12, 4))}, r"projection has shape \(12, 4\)"),
        ({"projection": np.ones((3, 12, 0))}, r"projection has shape \(3, 12, 0\)"),
        ({"projection": np.full((3, 12, 4), np.inf)}, r"must be finite in float32, but projection\[0, 0, 0\] is inf"),
        ({"projection": "learned"}, "The 'projection' parameter of PSPNetFeaturizer must be an array-like or None"),
        ({"cache": 5}, "The 'cache' parameter of PSPNetFeaturizer must be"),
        ({"cache_size": 0}, "The 'cache_size' parameter of PSPNetFeaturizer must be a float in the range"),
        ({"cache_size": None}, "The 'cache_size' parameter"),
        ({"runtime": "onnx"}, "The 'runtime' parameter of PSPNetFeaturizer must be"),
        ({"runtime": "openvino", "compile": True}, "compile=True is torch's: use it with runtime='torch'"),
        ({"compile": 1.5}, "The 'compile' parameter"),
        ({"pooling": "sum"}, "The 'pooling' parameter"),
        ({"gem_power": 0.0}, "The 'gem_power' parameter"),
        ({"part_order": "spiral"}, "The 'part_order' parameter"),
        ({"aggregation": "mean"}, "The 'aggregation' parameter"),
        ({"resize": "squash"}, "The 'resize' parameter"),
        ({"on_error": "skip"}, "The 'on_error' parameter"),
        ({"batch_size": 0}, "The 'batch_size' parameter"),
        ({"precision": "int8"}, "The 'precision' parameter"),
        ({"output_stride": 0}, "The 'output_stride' parameter"),
        ({"backbone": 5}, "The 'backbone' parameter"),
        ({"n_jobs": 1.5}, "The 'n_jobs' parameter"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused_by_name(params, message):
    featurizer = PSPNetFeaturizer(**({"backbone": TinyNet()} | FAST | params))
    for fit in (featurizer.fit, featurizer.fit_transform):
        with pytest.raises(ValueError, match=message):
            fit(IMAGES)


def test_unknown_backbone_is_refused_with_what_was_meant():
    with pytest.raises(BackboneError, match="backbone='efficientnet_lite9' is unknown: did you mean"):
        PSPNetFeaturizer("efficientnet_lite9", **FAST).fit(IMAGES)


def test_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere.pth"):
        PSPNetFeaturizer(weights=tmp_path / "nowhere.pth", **FAST).fit(IMAGES)


def test_absent_device_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="device='cuda' was asked for but is not there; here are"):
        PSPNetFeaturizer(TinyNet(), **(FAST | {"device": "cuda"})).fit(IMAGES)
    with pytest.raises(DeviceError, match="is not a torch device"):
        PSPNetFeaturizer(TinyNet(), **(FAST | {"device": "abacus"})).fit(IMAGES)


def test_a_pickle_from_a_gpu_goes_on_where_there_is_none(monkeypatch):
    fitted = PSPNetFeaturizer(TinyNet(), **(FAST | {"device": "auto"})).fit(IMAGES)
    fitted.device_, fitted.precision_ = "cuda", "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert loaded.device_ != "cuda"
    assert loaded.precision_ == "bfloat16"
    assert np.isfinite(loaded.transform(IMAGES)).all()


def test_random_weights_are_random_but_kept_by_pickle():
    params = RANDOM | FAST
    first, second = (PSPNetFeaturizer(**params).fit() for _ in range(2))
    expected = first.transform(IMAGES)
    assert not np.allclose(expected, second.transform(IMAGES), atol=1e-3)
    assert first.backbone_info_["sha256"] != second.backbone_info_["sha256"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).transform(IMAGES), expected)


def test_random_weights_of_one_seed_are_the_same():
    params = RANDOM | FAST
    first, second = (PSPNetFeaturizer(random_state=3, **params).fit().transform(IMAGES) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = PSPNetFeaturizer(random_state=4, **params).fit().transform(IMAGES)
    assert not np.allclose(first, other, atol=1e-3)


def test_parameters_with_numpy_types_are_taken():
    numbers = {
        "bin_sizes": (np.int64(2),),
        "image_size": np.int64(32),
        "scales": [np.float64(1)],
        "center": np.bool_(0),
    }
    rows = PSPNetFeaturizer(TinyNet(), **(FAST | numbers)).fit_transform(IMAGES)
    expected = PSPNetFeaturizer(TinyNet(), bin_sizes=(2,), center=False, **FAST).fit_transform(IMAGES)
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize(
    ("backbone", "expected", "n_scales"),
    [("timm/test_vit", (160, 160), 1), ("timm/test_efficientnet", (224, 224), 2)],
)
def test_auto_image_size_is_that_of_a_network_built_for_one_size(backbone, expected, n_scales):
    featurizer = PSPNetFeaturizer(backbone, weights=None, **(FAST | {"image_size": "auto", "scales": "auto"}))
    fitted = featurizer.set_params(center=False).fit()
    assert fitted.image_size_ == expected
    assert len(fitted.scales_) == n_scales
    assert fitted.image_size == "auto"


def test_given_image_size_is_taken_and_told():
    for image_size, expected in ((40, (40, 40)), ([32, 48], (32, 48))):
        params = FAST | {"image_size": image_size, "center": False}
        assert PSPNetFeaturizer(TinyNet(), **params).fit().image_size_ == expected


def test_pickles_from_before_auto_know_their_image_size():
    featurizer = PSPNetFeaturizer(TinyNet(), **FAST, center=False).fit()
    expected = featurizer.transform(IMAGES)
    del featurizer.image_size_
    again = pickle.loads(pickle.dumps(featurizer))
    assert again.image_size_ == (32, 32)
    np.testing.assert_array_equal(again.transform(IMAGES), expected)


def gem_parts(**params):
    return PSPNetFeaturizer(TinyNet(), **FAST, **params).fit(IMAGES).transform_parts(IMAGES)


def test_gem_power_1_is_the_average():
    np.testing.assert_allclose(gem_parts(pooling="gem", gem_power=1), gem_parts(pooling="avg"), atol=1e-5)


def test_high_gem_power_gives_numbers():
    parts = gem_parts(pooling="gem", gem_power=200.0)
    assert np.isfinite(parts).all()
    np.testing.assert_allclose(np.linalg.norm(parts, axis=2), 1, rtol=1e-5)
