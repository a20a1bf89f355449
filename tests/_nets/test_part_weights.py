"""Learned part weights against the equation in float64, and an optimiser of scipy's."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from sklearn_psp._nets import learn_part_weights

SIZES = np.array([1, 4, 4, 4, 4])


def problem(n=24, n_classes=4, n_channels=6, seed=0):
    """Five parts, of which the first tells the classes well, the second a little, and the others nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(n) % n_classes
    parts = rng.normal(size=(n, 5, n_channels))
    means = rng.normal(size=(n_classes, n_channels))
    parts[:, 0] += 4 * means[labels]
    parts[:, 1] += means[labels]
    parts /= np.linalg.norm(parts, axis=-1, keepdims=True)
    return parts.astype(np.float32), labels


def loss(weights, parts, labels, aggregation, share):
    """The equation of the docstring, image by image."""
    parts = parts.astype(np.float64)
    if aggregation == "sum":
        joined = np.einsum("npc,p->nc", parts, weights)
        joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    else:
        joined = (parts * (weights / np.sqrt(SIZES))[:, None]).reshape(len(parts), -1)
    joined = joined - share * joined.mean(axis=0)
    joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    total = 0.0
    for x in range(len(labels)):
        others = np.arange(len(labels)) != x
        positives = others & (labels == labels[x])
        if positives.any():
            scores = joined @ joined[x] / 0.2
            total -= (scores[positives] - logsumexp(scores[others])).mean()
    return total / len(labels) + (0.01 + 1 / len(labels)) * np.mean((weights - 1) ** 2)


@pytest.mark.parametrize("aggregation", ["sum", "concat"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_weights_are_as_good_as_those_of_another_optimiser(aggregation, share):
    parts, labels = problem()
    weights = learn_part_weights(parts, labels, aggregation=aggregation, level_sizes=SIZES, center_share=share)

    def of_logits(logits):
        return loss(5 * softmax(logits), parts, labels, aggregation, share)

    best = min(minimize(of_logits, start, method="BFGS").fun for start in (np.zeros(5), np.array([2.0, 0, 0, 0, 0])))
    ours = loss(weights.astype(np.float64), parts, labels, aggregation, share)
    assert ours < of_logits(np.zeros(5)) - 0.05, "better than uniform weights"
    assert ours == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("aggregation", ["sum", "concat"])
def test_the_part_that_tells_classes_apart_weighs_most(aggregation):
    parts, labels = problem()
    weights = learn_part_weights(parts, labels, aggregation=aggregation, level_sizes=SIZES, center_share=0.3)
    assert weights.argmax() == 0
    assert weights.dtype == np.float32
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(5, abs=1e-4)


def test_the_same_images_give_the_same_bits_whatever_the_seeds():
    parts, labels = problem()
    runs = [learn_part_weights(parts, labels, aggregation="sum", level_sizes=SIZES, center_share=0.3) for _ in range(2)]
    np.testing.assert_array_equal(*runs)


def test_names_of_the_labels_do_not_matter():
    parts, labels = problem()
    renamed = np.array([7, 3, 9, 0])[labels]
    runs = [
        learn_part_weights(parts, y, aggregation="sum", level_sizes=SIZES, center_share=0.3) for y in (labels, renamed)
    ]
    np.testing.assert_array_equal(*runs)


def test_labels_that_say_nothing_leave_the_weights_near_uniform():
    rng = np.random.default_rng(0)
    parts = np.repeat(rng.normal(size=(12, 1, 6)), 5, axis=1)  # all parts alike
    parts = (parts / np.linalg.norm(parts, axis=-1, keepdims=True)).astype(np.float32)
    weights = learn_part_weights(parts, np.arange(12) % 3, aggregation="sum", level_sizes=SIZES, center_share=0.2)
    np.testing.assert_allclose(weights, 1, atol=1e-2)
