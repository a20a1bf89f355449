"""Batches through the network: preprocessing, chunks, views, and exhausted memory."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sklearn_psp._nets import BackboneRequest, PyramidPooling, Runner, load_backbone
from sklearn_psp.exceptions import BatchSizeWarning, OutOfDeviceMemoryError

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)


class Watched(nn.Module):
    """Gives a quarter-size map, remembers what came in, and runs out of memory above a batch size."""

    def __init__(self, limit=100):
        super().__init__()
        self.limit = limit
        self.seen = []

    def forward(self, x):
        if len(x) > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        self.seen.append(x.clone())
        return F.avg_pool2d(x, 4)


def runner(module, *, sizes=((16, 16),), batch_size=4, flip=False, **pooling):
    backbone = load_backbone(BackboneRequest(module, "default", None, sizes[0]), refresh=True)
    made = Runner(
        backbone,
        PyramidPooling(**{"bin_sizes": (1,), "pooling": "avg", **pooling}),
        device=CPU,
        precision="float32",
        batch_size=batch_size,
        sizes=sizes,
        flip=flip,
    )
    watched = made.module.network
    watched.seen.clear()
    return made, watched


def pictures(n, size=16):
    return RNG.integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_pixels_are_scaled_by_mean_and_standard_deviation_of_the_backbone():
    import timm

    network = timm.create_model("tf_efficientnet_lite0")
    backbone = load_backbone(BackboneRequest(network, "default", None, (32, 32)), refresh=True)
    made = Runner(backbone, PyramidPooling((1,)), device=CPU, precision="float32", batch_size=4, sizes=[(32, 32)],
                  flip=False)  # fmt: skip
    seen = []
    made.module = lambda x: (seen.append(x), torch.ones(len(x), 2, 1, 1))[1]
    images = pictures(2, 32)
    made.global_features(images)
    expected = (images.transpose(0, 3, 1, 2) / 255.0 - 0.5) / 0.5
    np.testing.assert_allclose(seen[0].numpy(), expected, atol=1e-6)


def test_pictures_go_through_in_chunks_of_the_batch_size_in_order():
    made, watched = runner(Watched(), batch_size=4)
    images = pictures(10)
    features = made.global_features(images)
    assert [len(x) for x in watched.seen] == [4, 4, 2]
    means = images.mean(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(features, means / np.linalg.norm(means, axis=1, keepdims=True), rtol=1e-5)
    assert features.dtype == np.float32


def test_exhausted_memory_halves_the_batch_warns_once_and_loses_nothing():
    images = pictures(10)
    expected = runner(Watched())[0].global_features(images)
    made, watched = runner(Watched(limit=3), batch_size=8)
    with pytest.warns(BatchSizeWarning, match=r"batch_size=8 does not fit .* going on with 2") as caught:
        features = made.global_features(images)
    assert [len(x) for x in watched.seen] == [2] * 5
    assert len([w for w in caught if w.category is BatchSizeWarning]) == 1
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.global_features(images)


def test_one_picture_that_does_not_fit_is_an_error_with_remedies():
    made, watched = runner(Watched())
    watched.limit = 0
    with pytest.raises(OutOfDeviceMemoryError, match="use a smaller image_size"):
        made.global_features(pictures(3))


def test_other_errors_of_the_network_are_not_taken_for_exhausted_memory():
    made, _ = runner(Watched())

    def broken(x):
        raise RuntimeError("shape mismatch")

    made.module = broken
    with pytest.raises(RuntimeError, match="shape mismatch"):
        made.global_features(pictures(3))


def test_a_part_of_the_mirror_image_is_the_same_part_of_the_picture():
    images = pictures(3)
    plain, _ = runner(Watched(), bin_sizes=(2,))
    both, _ = runner(Watched(), bin_sizes=(2,), flip=True)
    # Average pooling of pixels is the same for a region and its mirror image.
    np.testing.assert_allclose(both.local_features(images), plain.local_features(images), rtol=1e-4, atol=1e-5)


def test_scales_are_averaged_part_by_part():
    images = pictures(2, 32)
    sizes = ((32, 32), (16, 16))
    both, watched = runner(Watched(), sizes=sizes, bin_sizes=(2,))
    features = both.local_features(images)
    assert [tuple(x.shape[-2:]) for x in watched.seen] == list(sizes)
    singles = [PyramidPooling((2,), pooling="avg").local_features(F.avg_pool2d(x, 4)) for x in watched.seen]
    np.testing.assert_allclose(features, F.normalize(singles[0] + singles[1], dim=-1), rtol=1e-5)


def test_float_pictures_are_on_the_scale_of_uint8():
    made, _ = runner(Watched())
    images = pictures(2)
    np.testing.assert_allclose(made.global_features(images.astype(np.float32)), made.global_features(images), rtol=1e-6)


def test_read_only_pictures_are_described_without_a_warning():
    # torch warns once per process of the first such array: only a fresh interpreter shows whether it would.
    script = """
import numpy as np
from sklearn_psp import PSPNetFeaturizer
pictures = np.zeros((3, 64, 64, 3), dtype=np.uint8)
pictures.flags.writeable = False
fast = dict(image_size=64, scales=(1.0,), precision="float32", batch_size=2, center=False, device="cpu")
assert PSPNetFeaturizer(**fast).fit().transform(pictures).shape == (3, 1280)
"""
    run = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is absent")
def test_a_gpu_gives_the_descriptors_of_the_cpu():
    images = pictures(3, 64)
    backbone = load_backbone(BackboneRequest("efficientnet_lite0", "default", None, (64, 64)))
    features = [
        Runner(backbone, PyramidPooling(), device=torch.device(device), precision="float32", batch_size=4,
               sizes=[(64, 64)], flip=False).global_features(images)
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    np.testing.assert_allclose(features[1], features[0], rtol=1e-2, atol=1e-2)
