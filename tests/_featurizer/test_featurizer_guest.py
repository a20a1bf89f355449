"""The featurizer as a guest: settings of the process are left as found, and nothing is printed unasked."""

from __future__ import annotations

import random
import threading
import warnings

import numpy as np
import pytest
import torch
from common.networks import FAST, TinyNet

from sklearn_psp import PSPNetFeaturizer

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 40, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """Fit once: it imports torch and timm, and these sympy, whose import alone changes warnings and random states."""
    PSPNetFeaturizer(**FAST).fit(IMAGES)


def settings():
    return {
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "torch's random state": torch.get_rng_state().tolist(),
        "NumPy's random state": repr(np.random.get_state()),  # noqa: NPY002 - the global state is what is looked at
        "Python's random state": random.getstate(),
        "NumPy's errors": np.geterr(),
        "warnings": list(warnings.filters),
    }


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"precision": "bfloat16"},
        {"precision": "auto", "batch_size": "auto"},
        {"precision": "auto", "batch_size": "auto", "runtime": "auto"},
        {"weights": None, "random_state": 0},
        {"backbone": TinyNet()},
    ],
    ids=["float32", "bfloat16", "measured", "all measured", "random weights", "own module"],
)
def test_settings_of_the_process_are_left_as_found(params):
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)  # neither the default nor the number of cores
        before = settings()
        featurizer = PSPNetFeaturizer(**(FAST | params)).fit(IMAGES)
        assert settings() == before
        featurizer.transform(IMAGES)
        featurizer.transform_parts(list(IMAGES))
        assert settings() == before
    finally:
        torch.set_num_threads(n_threads)


def test_settings_are_left_as_found_after_an_error():
    before = settings()
    with pytest.raises(ValueError, match="could not be decoded"):
        PSPNetFeaturizer(TinyNet(), **FAST).fit([*IMAGES, b"not images"])
    assert settings() == before


class FailsOnBatches(TinyNet):
    """Takes what it is probed and measured with, one image or black ones, and no more."""

    def forward(self, x):
        if len(x) > 1 and x.any():
            raise RuntimeError("the network is broken")
        return super().forward(x)


def test_a_network_that_fails_leaves_no_threads_behind():
    before = settings()
    # The traceback is held on to: garbage collection has no part in it.
    with pytest.raises(RuntimeError, match="the network is broken") as held:
        PSPNetFeaturizer(FailsOnBatches(), **FAST).fit(list(IMAGES) * 10)
    assert held.tb is not None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sklearn_psp")]
    assert settings() == before


def test_no_progress_bar_unasked(capfd):
    PSPNetFeaturizer(TinyNet(), **FAST).fit(IMAGES).transform(IMAGES)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_progress_bar_goes_to_standard_error_and_counts_images(capfd):
    featurizer = PSPNetFeaturizer(TinyNet(), verbose=1, **FAST).fit(IMAGES)
    out, err = capfd.readouterr()
    assert out == ""
    assert "describing images: 100%" in err
    assert "6/6" in err
    featurizer.transform(IMAGES[i : i + 2] for i in range(0, 6, 2))
    out, err = capfd.readouterr()
    assert out == ""
    assert "6 image" in err
