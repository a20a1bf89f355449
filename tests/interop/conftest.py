"""The real TensorFlow and Keras, where they are installed: pip install 'sklearn_psp[tensorflow]'."""

from __future__ import annotations

import os
import warnings

import pytest

# Before TensorFlow: where torch has triton, its LLVM and TensorFlow's end the process if TensorFlow's is loaded first.
import torchvision  # noqa: F401
from common.threads import one_thread

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def _imported(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what these libraries say of their own dependencies
        return pytest.importorskip(name, reason=f"{name} is absent")


@pytest.fixture(scope="session")
def tf():
    """TensorFlow."""
    return _imported("tensorflow")


@pytest.fixture(scope="session")
def keras():
    """Keras 3 on the torch backend."""
    keras = _imported("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another backend than torch")
    return keras


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield
