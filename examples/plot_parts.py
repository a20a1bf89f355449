"""
The sequence of parts
=====================

The meaning of `bin_sizes` and `part_order`, drawn on an image; and the descriptors of the parts, compared one by one.
"""

# %%
# Levels and order
# ----------------
#
# `parts_` lists the parts of the pyramid in order, with the box of each as shares of the image. A featurizer that
# does not centre needs no images to be fitted.

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp.datasets import load_photographs

# Not centred, and without first measuring which precision and batch size are fastest here.
Featurizer = partial(PSPNetFeaturizer, center=False, precision="float32", batch_size=2)

photographs = load_photographs()
image = Image.open(photographs.filenames[photographs.target_names.index("chelsea")])


def draw(ax, parts, title):
    """Draw the boxes of some parts, and their places in the sequence."""
    ax.imshow(image)
    for i, part in parts.iterrows():
        left, top = part["left"] * image.width, part["top"] * image.height
        right, bottom = part["right"] * image.width, part["bottom"] * image.height
        ax.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, color="white", linewidth=1.5))
        label = {"color": "white", "weight": "bold", "bbox": {"facecolor": "black", "alpha": 0.5, "pad": 2}}
        ax.text((left + right) / 2, (top + bottom) / 2, i, ha="center", va="center", **label)
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()


figure, axes = plt.subplots(2, 3, figsize=(9, 4.4), layout="constrained")
raster = Featurizer().fit().parts_
for level, ax in enumerate(axes[0]):
    draw(ax, raster[raster["level"] == level], f"level {level} of bin_sizes=(1, 2, 3)")
snake = Featurizer(bin_sizes=(3,), part_order="snake").fit().parts_
draw(axes[1, 0], snake, 'bin_sizes=(3,), part_order="snake"')
draw(axes[1, 1], Featurizer(bin_sizes=((6, 1),)).fit().parts_, "bin_sizes=((6, 1),): stripes")
draw(axes[1, 2], Featurizer(bin_sizes=((2, 4),)).fit().parts_, "bin_sizes=((2, 4),)")
plt.show()

# %%
# Parts compared
# --------------
#
# `transform_parts` gives a descriptor of unit length for each part. Here each ninth of the image is compared with
# each ninth of its mirror image: left and right have changed places, and so have the parts.

ninths = Featurizer(bin_sizes=(3,)).fit()
parts = ninths.transform_parts([image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
similarity = parts[0] @ parts[1].T

figure, ax = plt.subplots(figsize=(4.8, 4), layout="constrained")
image = ax.imshow(similarity, cmap="viridis")
ax.plot(similarity.argmax(axis=1), np.arange(9), "wo", markerfacecolor="none", markersize=12, label="nearest part")
ax.set(xlabel="part of the mirror image", ylabel="part of the image", xticks=range(9), yticks=range(9))
ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), frameon=False)
figure.colorbar(image, label="cosine similarity")
plt.show()

# %%
# Part 0, the upper left ninth, should be nearest to part 2, the upper right one, and so on.

print(similarity.argmax(axis=1).reshape(3, 3))

# %%
# The sum forgets the order of the parts, the concatenation keeps it. An image and its mirror image are therefore
# closer by their sums:

for aggregation in ("sum", "concat"):
    whole = Featurizer(bin_sizes=(3,), aggregation=aggregation).fit()
    a, b = whole.transform([image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    print(f"{aggregation}: cosine similarity {a @ b:.2f}")
