"""Training again: the same seed, going on, epoch by epoch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from common.colours import colours, quick
from common.networks import TinyNet

from sklearn_psp import PSPNetClassifier
from sklearn_psp.exceptions import TrainingDivergedError

TRAINS = ["head", "last_stage", "all"]
FULL = {"part_weights": "learned", "reduce_dim": 4, "dropout": 0.2}


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def live(model):
    return model


def same_model(one, other):
    assert one.history_.equals(other.history_)
    np.testing.assert_array_equal(one.coef_, other.coef_)
    np.testing.assert_array_equal(one.intercept_, other.intercept_)


@pytest.mark.parametrize("train", TRAINS)
def test_same_seed_gives_the_same_bits(training, held_out, train):
    params = FULL | {"augment": "auto"}
    models = [quick(train, **params, random_state=s).fit(*training, validation_data=held_out) for s in (3, 3, 4)]
    same_model(*models[:2])
    X = held_out[0]
    np.testing.assert_array_equal(models[0].predict_proba(X), models[1].predict_proba(X))
    assert not models[0].history_.equals(models[2].history_)


@pytest.mark.parametrize("train", TRAINS)
def test_random_states_are_left_as_they_were(training, train):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    quick(train, **FULL, augment="auto").fit(*training)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)], ids=["None", "RandomState"])
@pytest.mark.parametrize("train", ["head", "last_stage"])
def test_random_weights_are_drawn_once(training, held_out, random_state, train):
    params = {"backbone": "efficientnet_lite0", "weights": None, "image_size": 64, "random_state": random_state}
    X, y = training[0][:12], training[1][:12]
    model = quick(train, **params, epochs=2).fit(X, y, validation_data=(X, y))
    assert model.history_["val_accuracy"].iloc[model.best_epoch_ - 1] == model.score(X, y)
    best = model.history_["val_loss"].min()
    shares = model.predict_proba(X)[np.arange(12), np.searchsorted(model.classes_, y)]
    assert -np.log(shares).mean() == pytest.approx(best, abs=1e-3)
    if train == "head":
        sha256 = model.featurizer_.backbone_info_["sha256"]
        model.partial_fit(X, y)
        assert model.featurizer_.backbone_info_["sha256"] == sha256


@pytest.mark.parametrize("between", [live, pickled])
@pytest.mark.parametrize("train", TRAINS)
def test_warm_start_goes_on(training, train, between):
    model = quick(train, **FULL, warm_start=True).fit(*training)
    first, n = model.history_, model.epochs
    before = model.predict_proba(training[0])
    model = between(model)
    np.testing.assert_array_equal(model.predict_proba(training[0]), before)
    model.fit(*training)
    assert model.history_["epoch"].tolist() == list(range(1, 2 * n + 1))
    assert model.history_[:n].equals(first)
    assert model.history_["learning_rate"][n] == pytest.approx(1e-2, rel=1e-2)  # the cosine starts anew
    assert model.history_["loss"][n:].mean() < first["loss"].mean()
    model.set_params(epochs=1).fit(*training)
    assert len(model.history_) == 2 * n + 1


def test_warm_start_takes_other_parameters(training):
    model = quick(warm_start=True, schedule="constant").fit(*training)
    model.set_params(learning_rate=0.1, loss="focal", metrics=()).fit(*training)
    assert model.history_["learning_rate"].tolist() == [1e-2] * 4 + [0.1] * 4


@pytest.mark.parametrize("between", [live, pickled])
def test_a_network_may_be_trained_after_its_head(training, held_out, between):
    model = between(quick(warm_start=True).fit(*training))
    head = model.predict_proba(held_out[0])
    model.set_params(train="all", augment=False, learning_rate=1e-9, epochs=1).fit(*training)
    np.testing.assert_allclose(model.predict_proba(held_out[0]), head, atol=1e-3)
    assert len(model.history_) == 5
    model.set_params(learning_rate=1e-2, epochs=3).fit(*training)
    assert model.score(*held_out) == 1.0
    with pytest.raises(ValueError, match="train='head' does not go on from a network that was trained"):
        model.set_params(train="head", augment="auto").fit(*training)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"bin_sizes": (1, 2)}, "bin_sizes"),
        ({"aggregation": "concat", "pooling": "gem"}, "pooling, aggregation"),
        ({"reduce_dim": 3}, "reduce_dim"),
        ({"image_size": 40}, "image_size"),
        ({"part_weights": [1.0] * 14}, "part_weights"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_parts_must_stay_as_they_are(training, params, named, verb):
    model = quick(warm_start=True).fit(*training).set_params(**params)
    with pytest.raises(ValueError, match=f"since the last fit {named} changed; set that back"):
        getattr(model, verb)(*training)


def test_warm_start_knows_its_classes(training):
    X, y = training
    model = quick(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="y has labels that are no classes of the training images: 'pink'"):
        model.fit(X, np.where(y == "red", "pink", y))
    some = y != "red"
    assert model.fit(X[some], y[some]).classes_.tolist() == ["blue", "green", "red"]


def test_without_warm_start_fit_forgets(training, held_out):
    model = quick().fit(*colours(12, n_classes=2), validation_data=colours(6, n_classes=2)).fit(*training)
    same_model(model, quick().fit(*training))
    assert model.best_epoch_ is None
    assert model.classes_.tolist() == ["blue", "green", "red"]


@pytest.mark.parametrize("between", [live, pickled])
@pytest.mark.parametrize("train", TRAINS)
def test_partial_fit_goes_on_an_epoch(training, held_out, train, between):
    model = quick(train, **FULL)
    X, y = training
    for n, start in enumerate((0, 10, 20), start=1):
        model = between(model).partial_fit(X[start : start + 10], y[start : start + 10], classes=np.unique(y))
        assert model.history_["epoch"].tolist() == list(range(1, n + 1))
        assert model.classes_.tolist() == ["blue", "green", "red"]
        assert model.best_epoch_ is None
    assert (model.history_["learning_rate"] == 1e-2).all()
    before = model.coef_.copy()
    for _ in range(5):
        model.partial_fit(X, y)
    assert not np.array_equal(model.coef_, before)
    assert model.score(*held_out) > 0.9


def test_partial_fit_goes_on_after_fit_at_the_full_rate(training, held_out):
    X, y = held_out
    wrong = X, np.roll(np.unique(y), 1)[np.unique(y, return_inverse=True)[1]]
    model = quick(epochs=9, early_stopping=2).fit(*training, validation_data=wrong)
    assert len(model.history_) == 3
    assert model.best_epoch_ == 1
    model.partial_fit(*training)
    assert len(model.history_) == 4
    assert model.best_epoch_ is None
    assert model.history_["learning_rate"][3] == 1e-2


@pytest.mark.parametrize("form", [lambda X, y: (X, y), lambda X, y: ([(X, y)],)], ids=["images", "stream"])
def test_classes_of_partial_fit(training, form):
    X, y = training
    some = y != "red"
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        quick().partial_fit(*form(X, y))
    with pytest.raises(ValueError, match=r"y has labels that are no classes .*: 'red'"):
        quick().partial_fit(*form(X, y), classes=["blue", "green"])
    with pytest.raises(ValueError, match="y has 1 class"):
        quick().partial_fit(*form(X, y), classes=["red"])
    model = quick().partial_fit(*form(X[some], y[some]), classes=["red", "green", "blue"])
    assert model.predict_proba(X).shape == (30, 3)
    model.partial_fit(*form(X, y), classes=["blue", "red", "green"])
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        model.partial_fit(*form(X, y), classes=["blue", "red"])
    with pytest.raises(ValueError, match=r"labels that are no classes .*: 'pink'"):
        model.partial_fit(*form(X, np.where(some, y, "pink")))
    assert len(model.history_) == 2


@pytest.mark.parametrize("train", ["head", "all"])
def test_partial_fit_with_weights(training, train):
    X, y = training
    weights = (y != "red").astype(float)
    kept = weights > 0
    model = quick(train).partial_fit(X, y, classes=np.unique(y), sample_weight=weights)
    same_model(model, quick(train).partial_fit(X[kept], y[kept], classes=np.unique(y)))


class Overflows(torch.nn.Module):
    """A loss that is infinite from the second step on."""

    steps = 0

    def forward(self, scores, classes):
        """Return the loss of each image."""
        self.steps += self.training
        return scores.sum(dim=1) + (torch.inf if self.steps > 1 else 0)


@pytest.mark.parametrize("params", [{"loss": Overflows}, {"learning_rate": 1e30, "optimizer": "sgd", "train": "all"}])
def test_a_loss_that_is_no_number_names_the_remedy(training, params):
    params = {"train": "head", "learning_rate": 1e30} | params
    model = quick(**params | {"augment": "auto"}, epochs=5, schedule="constant")
    with pytest.raises(TrainingDivergedError, match=r"the loss is (nan|inf) in epoch \d: learning_rate=1e\+30 is too"):
        model.fit(*training)
    assert not hasattr(model, "coef_")


def test_the_module_of_the_user_stays_as_it_is(training):
    network = TinyNet().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for train in TRAINS:
        model = quick(train, backbone=network).fit(*training)
        assert model.backbone is network
        assert (train == "head") == (model.featurizer_.backbone is network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert network.training


def test_shared_weights_of_a_name_stay_as_they_are(training):
    params = {"image_size": 64, "precision": "float32", "runtime": "torch", "device": "cpu", "random_state": 0}
    X, y = training[0][:9], training[1][:9]

    def head():
        return PSPNetClassifier(epochs=2, **params).fit(X, y)

    expected = head()
    PSPNetClassifier(train="all", augment=False, epochs=1, learning_rate=0.1, **params).fit(X, y)
    same_model(head(), expected)
