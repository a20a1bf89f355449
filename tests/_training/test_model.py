"""The model computes what its docstring says, and learns what it is told to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common.networks import FAST, TinyNet
from common.photographs import crops
from torch import nn

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._featurizer import set_fitted
from sklearn_psp._nets import PyramidPooling, Views
from sklearn_psp._training import ImageBackbone, PartModel, trainable_copy

BINS = (1, (2, 1))
LEVELS = np.array([0, 1, 1])
N_PARTS, N_CHANNELS, N_CLASSES, DIM = 3, 6, 4, 5
RANDOM = np.random.default_rng(0)
MATRICES = RANDOM.normal(size=(2, N_CHANNELS, DIM))
PART_WEIGHTS = np.array([0.5, 1.0, 2.0])


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


PARTS = unit(RANDOM.normal(size=(7, N_PARTS, N_CHANNELS)))


def filled(aggregation="sum", projection=True, **options):
    """Return a model whose every parameter is random, and these parameters in float64."""
    random = np.random.default_rng(1)
    pooling = PyramidPooling(
        BINS, projection=MATRICES if projection else None, part_weights=PART_WEIGHTS, aggregation=aggregation
    )
    n_features = (DIM if projection else N_CHANNELS) * (N_PARTS if aggregation == "concat" else 1)
    found = {
        "center": 0.2 * random.normal(size=n_features),
        "W": random.normal(size=(N_CLASSES, n_features)),
        "b": random.normal(size=N_CLASSES),
        "log_weights": random.normal(size=N_PARTS),
    }
    model = PartModel(pooling, torch.from_numpy(found["center"]).float(), N_CLASSES, **options).eval()
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(found["W"]))
        if not model.cosine:
            model.head.bias.copy_(torch.from_numpy(found["b"]))
        if model.log_weights is not None:
            model.log_weights.copy_(torch.from_numpy(found["log_weights"]))
    return model, found


def embedding(parts, found, *, aggregation, projection, learned):
    """The equation of `PartModel`, in float64."""
    weights = PART_WEIGHTS.copy()
    if learned:
        weights *= N_PARTS * np.exp(found["log_weights"]) / np.exp(found["log_weights"]).sum()
    if aggregation == "concat":
        weights /= np.sqrt([1, 2, 2])
    products = [parts[:, i] @ MATRICES[LEVELS[i]] if projection else parts[:, i] for i in range(N_PARTS)]
    weighted = [weight * unit(product) for weight, product in zip(weights, products, strict=True)]
    joined = np.concatenate(weighted, axis=1) if aggregation == "concat" else sum(weighted)
    return unit(unit(joined) - found["center"])


@pytest.mark.parametrize("cosine", [False, True], ids=["linear", "cosine"])
@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
@pytest.mark.parametrize("projection", [False, True], ids=["as they are", "projected"])
@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_scores_by_hand(aggregation, projection, learned, cosine):
    model, found = filled(aggregation, projection, learn_weights=learned, cosine=cosine)
    features = embedding(PARTS, found, aggregation=aggregation, projection=projection, learned=learned)
    parts = torch.from_numpy(PARTS).float()
    with torch.no_grad():
        np.testing.assert_allclose(model.embed(parts), features, atol=1e-6)
        if cosine:
            expected = features @ unit(found["W"]).T
        else:
            expected = features @ found["W"].T * np.sqrt(features.shape[1]) + found["b"]
        np.testing.assert_allclose(model(parts), expected, atol=2e-5)
        coef, intercept = model.linear_head(8.0)
    scale = 8.0 if cosine else 1.0
    np.testing.assert_allclose(features @ coef.numpy().T + intercept.detach().numpy(), scale * expected, atol=1e-4)


def test_learned_weights_are_positive_and_their_sum_is_the_number_of_parts():
    model, found = filled(learn_weights=True)
    share = np.exp(found["log_weights"])
    np.testing.assert_allclose(model.learned_weights().detach(), 3 * share / share.sum(), rtol=1e-6)
    assert filled()[0].learned_weights() is None
    fresh = PartModel(PyramidPooling(BINS), torch.zeros(N_CHANNELS), N_CLASSES, learn_weights=True)
    np.testing.assert_allclose(fresh.learned_weights().detach(), np.ones(3), rtol=1e-6)
    assert not fresh(torch.from_numpy(PARTS).float()).any()  # every class has the same score


@pytest.mark.parametrize("flip", [False, True], ids=["one view", "mirrored"])
@pytest.mark.parametrize("pooling", ["max", "avg", "gem"])
@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_it_is_the_featurizer_with_a_linear_head(aggregation, pooling, flip):
    """ImageBackbone, parts and head on real images: scikit-learn's way to the same scores."""
    images = crops(1, side=32)[0]
    projection = np.random.default_rng(0).normal(size=(3, 12, 5))
    weights = np.linspace(0.2, 2, 14)
    params = {"pooling": pooling, "aggregation": aggregation, "part_weights": weights, "projection": projection}
    network = TinyNet()
    center = 0.1 * np.random.default_rng(1).normal(size=5 * (14 if aggregation == "concat" else 1))
    featurizer = set_fitted(PSPNetFeaturizer(network, flip=flip, **FAST, **params), center=center)
    backbone = ImageBackbone(network.eval(), (0, 0, 0), (1, 1, 1), Views([(32, 32)], flip))
    model = PartModel(
        PyramidPooling(**params),
        torch.from_numpy(center).float(),
        N_CLASSES,
        backbone=backbone,
        learn_weights=True,
        learn_projection=True,
    ).eval()
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.head.bias.fill_(0.5)
        scores = model(torch.from_numpy(images).permute(0, 3, 1, 2))
        coef, intercept = model.linear_head()
    expected = featurizer.transform(images) @ coef.numpy().T + intercept.detach().numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(expected) > 1


def test_the_backbone_brings_pixels_to_what_the_network_was_trained_with():
    backbone = ImageBackbone(nn.Identity(), (0.1, 0.2, 0.3), (0.5, 1.0, 2.0), Views([(4, 4)]))
    image = torch.full((1, 3, 4, 4), 51, dtype=torch.uint8)
    (maps,) = backbone(image)
    expected = [(0.2 - 0.1) / 0.5, 0.0, (0.2 - 0.3) / 2]
    np.testing.assert_allclose(maps[0, :, 0, 0], expected, atol=1e-6)
    torch.testing.assert_close(backbone(image.float())[0], maps)


@pytest.mark.parametrize("follows", [False, True])
def test_statistics_of_batches_are_kept_unless_they_are_followed(follows):
    network = TinyNet()
    backbone = ImageBackbone(network, (0, 0, 0), (1, 1, 1), Views([(32, 32)]), follows_batches=follows)
    model = PartModel(PyramidPooling(BINS), torch.zeros(12), N_CLASSES, backbone=backbone).train()
    before = network.norm.running_mean.clone()
    with torch.no_grad():
        model(torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))
    assert model.training
    assert network.norm.training == follows
    assert torch.equal(network.norm.running_mean, before) != follows
    assert not model.eval().backbone.module.training


def test_part_dropout_leaves_out_its_share_and_never_all():
    model, _ = filled(part_dropout=0.6)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kept = model._weights(20_000) != 0
    assert kept.any(dim=1).all()
    # Each is kept with probability 0.4, and where none is, with 0.6 ** 3, all are.
    np.testing.assert_allclose(kept.float().mean(dim=0), 0.4 + 0.6**3, atol=0.015)
    np.testing.assert_allclose(kept.all(dim=1).float().mean(), 0.4**3 + 0.6**3, atol=0.015)


def test_dropped_parts_do_not_count():
    model, found = filled("concat", projection=False, part_dropout=0.5)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = model.embed(torch.from_numpy(PARTS).float())
        torch.manual_seed(0)
        kept = model._weights(len(PARTS)).numpy() != 0
    assert not kept.all()
    weights = kept * PART_WEIGHTS / np.sqrt([1, 2, 2])
    expected = unit(unit((PARTS * weights[..., None]).reshape(7, -1)) - found["center"])
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_nothing_is_left_out_in_evaluation():
    model, _ = filled(part_dropout=0.5, dropout=0.9)
    plain, _ = filled()
    parts = torch.from_numpy(PARTS).float()
    assert torch.equal(model(parts), plain(parts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(model.train()(parts), plain(parts))


@pytest.mark.parametrize("cosine", [False, True], ids=["linear", "cosine"])
def test_gradients_reach_all_that_is_learned_and_nothing_else(cosine):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = trainable_copy(TinyNet(), (32, 32), "last_stage")
        backbone = ImageBackbone(module, (0, 0, 0), (1, 1, 1), Views([(32, 32)]))
        pooling = PyramidPooling(BINS, projection=np.random.default_rng(0).normal(size=(2, 12, DIM)))
        model = PartModel(
            pooling,
            torch.zeros(DIM),
            N_CLASSES,
            backbone=backbone,
            learn_weights=True,
            learn_projection=True,
            cosine=cosine,
        ).train()
        nn.init.normal_(model.head.weight)
    images = torch.from_numpy(crops(1, side=32)[0]).permute(0, 3, 1, 2)
    nn.functional.cross_entropy(model(images), torch.arange(6) % N_CLASSES).backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    expected = {"log_weights", "pooling.projection", "head.weight"} | (
        {"head.bias"} - ({"head.bias"} if cosine else set())
    )
    assert reached == expected | {"backbone.module.norm.weight", "backbone.module.norm.bias"}
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters() if parameter.grad is not None)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == reached


@pytest.mark.parametrize("cosine", [False, True], ids=["linear", "cosine"])
def test_a_linear_head_can_be_put_back(cosine):
    model, _ = filled(cosine=cosine)
    other = PartModel(model.pooling, model.center, N_CLASSES, cosine=cosine).eval()
    other.set_linear_head(*model.linear_head(30.0))
    parts = torch.from_numpy(PARTS).float()
    torch.testing.assert_close(other(parts), model(parts), atol=1e-5, rtol=1e-5)
    for one, two in zip(other.linear_head(30.0), model.linear_head(30.0), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_the_head_stays_float32_under_autocast():
    model, _ = filled()
    parts = torch.from_numpy(PARTS).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(parts)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, model(parts))
