"""Losses give a number for each image: that of their equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_psp._training import is_margin_loss, make_loss
from sklearn_psp._training._objectives import LOSSES, AdditiveAngularMargin, FocalLoss

from .runs import make_training, part_batches

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.normal(scale=3, size=(20, 6))
COSINES = RANDOM.uniform(-1, 1, size=(20, 6))
CLASSES = RANDOM.integers(6, size=20)
OWN = np.arange(20), CLASSES


def log_softmax(scores):
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def value(loss, scores, classes=CLASSES):
    found = loss(torch.from_numpy(scores).float(), torch.from_numpy(np.asarray(classes)))
    assert found.shape == (len(scores),)
    return found.detach().numpy()


def arcface(cosines, scale, margin):
    """Equation 3 of Deng et al. 2019, for angles that stay below pi."""
    own = np.exp(scale * np.cos(np.arccos(cosines[OWN]) + margin))
    others = np.exp(scale * cosines)
    others[OWN] = 0
    return -np.log(own / (own + others.sum(axis=1)))


def test_cross_entropy():
    np.testing.assert_allclose(
        value(make_loss("categorical_crossentropy"), SCORES), -log_softmax(SCORES)[OWN], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("params", "share"), [(None, 0.1), ({"label_smoothing": 0.3}, 0.3)])
def test_label_smoothing(params, share):
    wanted = np.full((20, 6), share / 6)
    wanted[OWN] += 1 - share
    expected = -(wanted * log_softmax(SCORES)).sum(axis=1)
    np.testing.assert_allclose(value(make_loss("label_smoothing", params), SCORES), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1, 2, 5])
def test_focal_loss(gamma):
    share = np.exp(log_softmax(SCORES)[OWN])
    expected = -((1 - share) ** gamma) * np.log(share)
    np.testing.assert_allclose(value(make_loss("focal", {"gamma": gamma}), SCORES), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_has_gradients_where_nothing_is_left(gamma):
    scores = torch.tensor([[60.0, 0.0], [0.0, 60.0]], requires_grad=True)
    FocalLoss(gamma)(scores, torch.tensor([0, 0])).sum().backward()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0].abs().max() < 1e-6
    assert scores.grad[1, 0] < -0.9


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.3), (8.0, 0.5), (4.0, 0.0)])
def test_arcface_is_equation_3(scale, margin):
    cosines = COSINES.copy()
    cosines[OWN] = np.cos(np.random.default_rng(1).uniform(0.01, np.pi - margin - 0.01, 20))
    loss = make_loss("arcface", {"scale": scale, "margin": margin})
    np.testing.assert_allclose(value(loss, cosines), arcface(cosines, scale, margin), rtol=1e-3, atol=1e-5)


def test_arcface_has_no_margin_in_evaluation():
    loss = make_loss("arcface", {"scale": 8.0}).eval()
    np.testing.assert_allclose(value(loss, COSINES), -log_softmax(8 * COSINES)[OWN], rtol=1e-4, atol=1e-5)


def test_arcface_smooths_labels():
    loss = make_loss("arcface", {"scale": 8.0, "margin": 0.0, "label_smoothing": 0.2})
    wanted = np.full((20, 6), 0.2 / 6)
    wanted[OWN] += 0.8
    expected = -(wanted * log_softmax(8 * COSINES)).sum(axis=1)
    np.testing.assert_allclose(value(loss, COSINES), expected, rtol=1e-4, atol=1e-5)


def test_beyond_pi_arcface_goes_on_falling_with_the_cosine():
    margin, scale = 0.5, 10.0
    own = np.cos(np.linspace(0.05, np.pi - 0.01, 200))
    cosines = np.stack([own, np.zeros_like(own)], axis=1)
    losses = value(make_loss("arcface", {"scale": scale, "margin": margin}), cosines, np.zeros(200, dtype=int))
    assert (np.diff(losses) > 0).all()
    # The authors' line: cos(theta) - m sin(pi - m).
    beyond = np.linspace(0.05, np.pi - 0.01, 200) > np.pi - margin
    scores = scale * (own[beyond] - margin * np.sin(np.pi - margin))
    np.testing.assert_allclose(losses[beyond], np.log1p(np.exp(-scores)), rtol=1e-5)


def test_arcface_has_gradients_at_the_ends():
    cosines = torch.tensor([[1.0, 0.2], [-1.0, 0.2], [0.5, 1.0], [0.5, -1.0]], requires_grad=True)
    loss = make_loss("arcface")(cosines, torch.zeros(4, dtype=torch.int64))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(cosines.grad).all()
    assert cosines.grad[2, 0] < 0


@pytest.mark.parametrize("loss", [nn.MultiMarginLoss, nn.MultiMarginLoss()], ids=["class", "instance"])
def test_a_loss_of_torch(loss):
    margins = np.maximum(0, 1 - SCORES[OWN][:, None] + SCORES)
    margins[OWN] = 0
    np.testing.assert_allclose(value(make_loss(loss), SCORES), margins.sum(axis=1) / 6, rtol=1e-5, atol=1e-6)


def test_a_class_takes_parameters():
    weight = torch.arange(1.0, 7.0)
    expected = -log_softmax(SCORES)[OWN] * (CLASSES + 1)
    np.testing.assert_allclose(value(make_loss(nn.CrossEntropyLoss, {"weight": weight}), SCORES), expected, rtol=1e-5)


def test_the_instance_of_the_user_stays_as_it_is():
    own = nn.CrossEntropyLoss(weight=torch.ones(6))
    made = make_loss(own)
    assert (own.reduction, made.reduction) == ("mean", "none")
    made.weight.zero_()
    assert own.weight.sum() == 6


class Total(nn.Module):
    """Knows no reduction."""

    def forward(self, scores, classes):
        """Return one number."""
        return nn.functional.cross_entropy(scores, classes)


@pytest.mark.parametrize(("loss", "params"), [(Total, None), (nn.CrossEntropyLoss, {"reduction": "sum"})])
def test_a_loss_without_a_number_for_each_image_is_refused_in_training(loss, params):
    training = make_training(loss=loss, loss_params=params)
    with pytest.raises(ValueError, match=rf"loss={loss.__name__} gave shape \(\) for 8 images.*reduction='none'"):
        training.run(part_batches(32), epochs=1)


def test_unknown_names_get_a_hint():
    with pytest.raises(ValueError, match=r"loss='arcfaces' is unknown: did you mean 'arcface'\?") as caught:
        make_loss("arcfaces")
    assert all(name in str(caught.value) for name in LOSSES)
    with pytest.raises(ValueError, match="loss='qqqqq' is unknown: It is one of"):
        make_loss("qqqqq")


def test_parameters_with_an_instance_are_refused():
    with pytest.raises(ValueError, match=r"loss_params=\{'margin': 2\} are those of a name or a class"):
        make_loss(nn.MultiMarginLoss(), {"margin": 2})
    assert make_loss(nn.MultiMarginLoss(margin=2), {}).margin == 2


def test_margin_losses_are_told_apart():
    assert all(map(is_margin_loss, ["arcface", AdditiveAngularMargin, AdditiveAngularMargin()]))
    assert not any(map(is_margin_loss, ["focal", nn.CrossEntropyLoss, nn.CrossEntropyLoss()]))
