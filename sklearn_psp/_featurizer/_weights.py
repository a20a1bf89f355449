"""Part weights learned from some of the images of `fit`."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from sklearn_psp._featurizer._center import center_share
from sklearn_psp.utils._validation import check_labels, sample_by_class

__all__ = ["learned_weights"]

# Part weights are few: more images than this change them little, and cost their square.
_MOST_LEARNED_FROM = 1000


def learned_weights(featurizer, X, y):
    """Learn the weights of the parts.

    Parameters
    ----------
    featurizer : PSPNetFeaturizer
        With all that `fit` makes but the weights and the centre.
    X : collection of images or None
        As in `fit`.
    y : array-like of shape (n_images,) or None
        As in `fit`.

    Returns
    -------
    ndarray of shape (n_parts,), float32
        The weights.

    Raises
    ------
    ValueError
        If there is nothing to learn from: no labels, no label that two images have, or images that come once; or
        if local features have lengths of their own, with `normalize=False`.
    """
    from sklearn_psp._images import SomeImages, as_images
    from sklearn_psp._nets import learn_part_weights

    if not featurizer.normalize:
        raise ValueError(
            "part_weights='learned' compares local features of unit length, and normalize=False leaves them as they "
            "are: use normalize=True, or give the weights"
        )
    if X is None or y is None:
        raise ValueError("part_weights='learned' needs images and their labels: fit(X, y)")
    images = as_images(X, image_shape=featurizer.image_shape)
    if images.n_images is None:
        raise ValueError(
            "part_weights='learned' reads images twice, and an iterable of batches is read once: pass a list"
        )
    codes = check_labels(y, images.n_images)
    rows = sample_by_class(codes, _MOST_LEARNED_FROM, check_random_state(featurizer.random_state))
    parts, _ = featurizer._compute(SomeImages(images, rows), "projected_features")
    read = ~np.isnan(parts[:, 0, 0])
    codes = codes[rows][read]
    if np.bincount(codes, minlength=1).max() < 2:
        raise ValueError("part_weights='learned' needs a label that two readable images have, and y has none")
    share = center_share(len(codes)) if featurizer.center else 0.0
    sizes = (featurizer.parts_["n_rows"] * featurizer.parts_["n_columns"]).to_numpy()
    return learn_part_weights(
        parts[read], codes, aggregation=featurizer.aggregation, level_sizes=sizes, center_share=share
    )
