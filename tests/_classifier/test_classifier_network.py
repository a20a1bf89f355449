"""How often the network runs, and what becomes of the one that was trained."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from common.colours import batches, quick
from common.watched import TallyNet, watch_networks
from sklearn.base import clone

from sklearn_psp import NearestImageRetriever
from sklearn_psp._cache import FeatureMemo
from sklearn_psp._classifier._features import describe, frozen_featurizer
from sklearn_psp._classifier._labelled import labelled
from sklearn_psp._classifier._settings import ClassifierSettings
from sklearn_psp._extraction import _cached
from sklearn_psp._featurizer import model_of
from sklearn_psp.exceptions import MissingDependencyError

TRAINS = ["head", "last_stage", "all"]


@pytest.fixture
def seen(monkeypatch):
    """Numbers of images that went through a frozen network, pass by pass."""
    return watch_networks(monkeypatch)


@pytest.mark.parametrize("params", [{}, {"part_dropout": 0.0}, {"reduce_dim": 3}], ids=str)
def test_the_frozen_network_runs_once_a_image(training, held_out, seen, params):
    quick(epochs=5, **params).fit(*training, validation_data=held_out)
    assert sum(seen) == 48


def test_heads_start_from_local_features_of_unit_length(training):
    frozen = frozen_featurizer(ClassifierSettings.of(quick().get_params(deep=False)))
    parts = describe(frozen, labelled(*training), aggregated=False).parts.astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=2), 1, rtol=2e-3)  # kept in half precision


def test_of_a_stream_too(training, seen):
    quick(epochs=5).fit(iter(batches(*training)))
    assert sum(seen) == 30


def test_the_network_itself_is_called_once_a_image(training, tmp_path):
    quick(backbone=TallyNet(tmp_path / "tally"), epochs=5).fit(*training)
    assert (tmp_path / "tally").stat().st_size == 30


@pytest.mark.parametrize("params", [{}, {"part_dropout": 0.0}], ids=str)
def test_with_a_cache_it_does_not_run_the_second_time(training, paths, folder, seen, monkeypatch, params):
    y = training[1]
    first = quick(cache=folder, **params).fit(paths, y)
    assert sum(seen) == 30
    seen.clear()
    quick(cache=folder, epochs=2, learning_rate=0.1, **params).fit(paths, y)
    first.predict(paths)
    assert seen == []
    for memo in ("_PARTS", "_JOINED"):  # what is in memory is forgotten, what is on disk is not
        monkeypatch.setattr(_cached, memo, FeatureMemo())
    second = quick(cache=folder, **params).fit(paths, y)
    assert seen == []
    np.testing.assert_allclose(second.predict_proba(paths), first.predict_proba(paths), atol=1e-2)


def test_maps_of_a_network_before_training_are_not_taken_for_those_after(training, paths, folder):
    model = quick("all", cache=folder).fit(paths, training[1])
    expected = quick("all").fit(paths, training[1]).predict_proba(paths)
    np.testing.assert_allclose(model.predict_proba(paths), expected, atol=1e-2)
    np.testing.assert_allclose(model.predict_proba(paths), expected, atol=1e-2)


@pytest.mark.parametrize("train", TRAINS)
def test_featurizer_searches_with_what_was_trained(training, held_out, train):
    model = quick(train, part_weights="learned", reduce_dim=5).fit(*training)
    trained = model.featurizer_
    frozen = quick().fit(*training).featurizer_
    assert (trained.backbone_info_["sha256"] == frozen.backbone_info_["sha256"]) == (train == "head")
    assert trained.transform(held_out[0]).shape == (18, 5)
    assert trained.part_weights.sum() == pytest.approx(14, rel=1e-5)
    assert np.ptp(trained.part_weights) > 1e-4
    np.testing.assert_array_equal(trained.part_weights, trained.part_weights_)
    copied = clone(trained)
    assert not hasattr(copied, "center_")
    np.testing.assert_array_equal(
        copied.fit(training[0]).transform_parts(held_out[0]), trained.transform_parts(held_out[0])
    )
    gallery = NearestImageRetriever(n_neighbors=3, featurizer=trained).fit(*training)
    np.testing.assert_array_equal(gallery.predict(held_out[0]), held_out[1])
    assert gallery.featurizer_.backbone_info_["sha256"] == trained.backbone_info_["sha256"]


@pytest.mark.parametrize("train", ["last_stage", "all"])
def test_trained_weights_are_others(training, train):
    model = quick(train).fit(*training)
    before, after = model.backbone.state_dict(), model.featurizer_.backbone.state_dict()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    # Batch normalisation keeps its statistics.
    weights = {name for name, _ in model.backbone.named_parameters()}
    assert changed
    assert changed <= weights
    assert (changed == weights) == (train == "all")


@pytest.mark.parametrize("weights", [None, "default"])
def test_a_named_network_says_that_it_was_trained(training, weights):
    params = {"backbone": "efficientnet_lite0", "image_size": 64, "epochs": 1, "weights": weights}
    X, y = training[0][:8], training[1][:8]
    before = quick(**params).fit(X, y).featurizer_
    after = quick("last_stage", **params).fit(X, y).featurizer_
    assert not before.backbone_info_["source"].startswith("trained")
    assert after.backbone_info_["source"] == f"trained from {before.backbone_info_['source']}"
    changed = [
        name for name, value in batch_statistics(before).items() if not value.equal(batch_statistics(after)[name])
    ]
    # A network that starts from random weights follows the statistics of its batches.
    assert bool(changed) == (weights is None)


def batch_statistics(featurizer):
    """Return the means of the batch norms of a featurizer's network."""
    backbone = model_of(featurizer).backbone
    return {name: value for name, value in backbone.module.state_dict().items() if name.endswith("running_mean")}


@pytest.mark.parametrize("train", TRAINS)
@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_pickled_and_copied_it_predicts_the_same_bits(training, held_out, train, copied):
    model = quick(train, aggregation="concat", reduce_dim=3).fit(*training)
    other = copied(model)
    np.testing.assert_array_equal(other.predict_proba(held_out[0]), model.predict_proba(held_out[0]))
    assert other.history_.equals(model.history_)
    assert not hasattr(other, "_training")


def test_without_skorch_fit_names_the_remedy(training, monkeypatch):
    model = quick().fit(*training)
    for name in [name for name in sys.modules if name.partition(".")[0] == "skorch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "skorch", None)
    for call in (
        lambda: quick().fit(*training),
        lambda: quick().partial_fit(*training, classes=["red", "green", "blue"]),
    ):
        with pytest.raises(MissingDependencyError, match=r"skorch.*pip install 'sklearn_psp\[train\]'"):
            call()
    assert model.score(*training) > 0.5


def test_without_skorch_a_fitted_classifier_predicts(training, tmp_path):
    model = quick("all").fit(*training)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps((model, training)))
    script = (
        "import sys; sys.modules['skorch'] = None\n"
        "import pickle; model, (X, y) = pickle.load(open(sys.argv[1], 'rb')); print(model.score(X, y))"
    )
    path = ":".join(sys.path)
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model.pkl")],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == model.score(*training)


def test_importing_and_making_one_loads_no_torch():
    script = (
        "import sklearn_psp, sys\nsklearn_psp.PSPNetClassifier(train='all').get_params()\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'torch', 'torchvision', 'timm', 'skorch'})"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=900, check=True
    )
    assert run.stdout.strip() == ""
