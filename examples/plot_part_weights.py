"""
Weights of parts
================

The global feature is a weighted sum of the parts' local features. The weights are uniform, given, or learned from
labels; here they are drawn on images.
"""

# %%
# Pages with the same layout
# --------------------------
#
# The feature that tells images apart is often in the same place: a logo, a face, the figure on a page. Here 48 pages
# are made of photographs. The upper right quarter shows a piece of one of six photographs, by which the page is to be
# found again; all the rest is a piece of any other photograph.

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer
from sklearn_psp.datasets import load_photographs
from sklearn_psp.displays import PartWeightsDisplay

photographs = load_photographs()
sources = {
    name: np.asarray(Image.open(filename).convert("RGB"))
    for name, filename in zip(photographs.target_names, photographs.filenames, strict=True)
}
figures = ["astronaut", "chelsea", "china", "coffee", "flower", "rocket"]
others = [name for name in sources if name not in figures]
rng = np.random.default_rng(0)


def piece(name, side):
    """Cut a square from a photograph at a random place."""
    source = sources[name]
    size = rng.integers(min(source.shape[:2]) // 2, min(source.shape[:2]))
    top, left = (rng.integers(length - size + 1) for length in source.shape[:2])
    return np.asarray(Image.fromarray(source[top : top + size, left : left + size]).resize((side, side)))


pages, labels = [], np.repeat(figures, 8)
for label in labels:
    page = piece(rng.choice(others), 128).copy()
    page[:64, 64:] = piece(label, 64)
    pages.append(page)

figure, axes = plt.subplots(2, 6, figsize=(7.5, 2.7), layout="constrained")
for ax, page in zip(axes.T.flat, pages[::4], strict=True):
    ax.imshow(page)
    ax.set_axis_off()
plt.show()

# %%
# Learned weights
# ---------------
#
# With `part_weights="learned"`, `fit` needs the labels. Every second page is learned from. The weights are positive
# and their mean is 1, the weight that all parts have with `part_weights="uniform"`: red parts count more than that,
# blue ones less. (Small images in one scale, and no measuring which precision and batch size are fastest here: the
# example is to run in seconds.)

fast = {"image_size": 128, "scales": (1.0,), "precision": "float32", "batch_size": 8}
learned = PSPNetFeaturizer(bin_sizes=(1, 2, 4), part_weights="learned", **fast).fit(pages[::2], labels[::2])
PartWeightsDisplay.from_estimator(learned, pages[1])
plt.show()

# %%
# The upper right quarter is found, and so are those of the sixteen cells that lie in it. On pages that were not learned
# from, the learned weights find more than the uniform ones; the score is mean average precision, leave-one-out:

uniform = PSPNetFeaturizer(bin_sizes=(1, 2, 4), **fast).fit(pages[::2])
for name, featurizer in {"uniform": uniform, "learned": learned}.items():
    search = NearestImageRetriever().fit(featurizer.transform(pages[1::2]), labels[1::2])
    print(f"{name}: {search.score():.3f}")

# %%
# Weights that are given
# ----------------------
#
# A table of parts and an array of weights are enough for a display, and a grid needs no image. `parts_` helps to
# write weights down: here the middle of an image counts, its margin does not.

parts = PSPNetFeaturizer(bin_sizes=((6, 1), (4, 4)), center=False, **fast).fit().parts_
middle = (parts["top"] > 0) & (parts["bottom"] < 1) & ((parts["n_columns"] == 1) | parts["column"].between(1, 2))
PartWeightsDisplay(parts, middle / middle.mean()).plot()
plt.show()

# %%
# The weights go to a featurizer in the same order: `part_weights=middle` (a featurizer takes them as they are; with
# unit descriptors only their ratios matter).

PSPNetFeaturizer(bin_sizes=((6, 1), (4, 4)), part_weights=middle.to_numpy(float), center=False, **fast).fit()
