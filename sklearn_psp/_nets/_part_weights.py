"""Part weights learned from labels: a few numbers, by a smooth objective on local features."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["learn_part_weights"]

# benchmarks/part_weights.py: .1 to .2 are alike; smaller ones look at the nearest images only.
_TEMPERATURE = 0.2
# Pull of the weights towards 1, in units of the loss, and what the loss of one image adds to it: the fewer images
# there are, the less they are believed.
_PULL, _PULL_OF_ONE = 0.01, 1.0
_MOST_ITERATIONS = 60


def learn_part_weights(
    parts: np.ndarray, labels: np.ndarray, *, aggregation: str, level_sizes: np.ndarray, center_share: float
) -> np.ndarray:
    r"""Learn the weights w_i of :math:`F(x) = \sum_i w_i f_i(x)` from labelled images.

    Minimised is the supervised contrastive loss of the descriptors' cosine similarities s,

    .. math::
        -\frac{1}{n} \sum_x \frac{1}{|P(x)|} \sum_{y \in P(x)} \log
        \frac{\exp(s(x, y) / \tau)}{\sum_{z \ne x} \exp(s(x, z) / \tau)} + (0.01 + 1 / n) \, \overline{(w - 1)^2},

    with P(x) the other images of the class of x and :math:`\tau = 0.2`, over weights that are not negative and whose
    sum is the number of parts, by L-BFGS from uniform weights. There is no randomness.

    Parameters
    ----------
    parts : ndarray of shape (n, n_parts, n_channels), float32
        Local features, of unit length.
    labels : ndarray of shape (n,), integer
        Classes; images without another of their class only serve as others.
    aggregation : {"sum", "concat"}
        Sum of the parts, or their concatenation.
    level_sizes : ndarray of shape (n_parts,)
        Number of parts in the level of each part, by whose root a concatenation divides.
    center_share : float in [0, 1]
        Share of the mean descriptor that is subtracted.

    Returns
    -------
    ndarray of shape (n_parts,), float32
        The weights.

    References
    ----------
    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2; Goldberger et al., "Neighbourhood
    Components Analysis", NIPS 2004, for learning a metric by soft neighbours.
    """
    features, classes = torch.from_numpy(parts), torch.from_numpy(labels)
    same = (classes[:, None] == classes[None]).fill_diagonal_(False)
    n_same = same.sum(dim=1)
    similarities = (_Sum if aggregation == "sum" else _Concatenation)(features, level_sizes, center_share)
    pull = _PULL + _PULL_OF_ONE / len(parts)
    logits = torch.zeros(parts.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=_MOST_ITERATIONS, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        weights = _weights(logits)
        scores = (similarities(weights) / _TEMPERATURE).fill_diagonal_(-torch.inf)
        log_shares = scores.log_softmax(dim=1).masked_fill(~same, 0)
        value = -(log_shares.sum(dim=1) / n_same.clamp_min(1)).mean() + pull * (weights - 1).square().mean()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return _weights(logits).detach().numpy()


def _weights(logits):
    return torch.softmax(logits, dim=0) * len(logits)


class _Sum:
    """Cosine similarities of all pairs of weighted sums, by weights."""

    def __init__(self, features, level_sizes, center_share):
        self.features = features
        self.center_share = center_share

    def __call__(self, weights):
        sums = F.normalize(torch.einsum("npc,p->nc", self.features, weights), dim=1)
        sums = F.normalize(sums - self.center_share * sums.mean(dim=0), dim=1)
        return sums @ sums.T


class _Concatenation:
    """The same of concatenations: a sum over parts of products that do not depend on the weights."""

    def __init__(self, features, level_sizes, center_share):
        centred = features - center_share * features.mean(dim=0)
        self.products = torch.stack([part @ part.T for part in centred.unbind(1)])
        self.level_sizes = torch.tensor(level_sizes.tolist(), dtype=torch.float32)

    def __call__(self, weights):
        products = torch.einsum("pxy,p->xy", self.products, weights.square() / self.level_sizes)
        lengths = products.diagonal().clamp_min(1e-12).sqrt()
        return products / lengths[:, None] / lengths
