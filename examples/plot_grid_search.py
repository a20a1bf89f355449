"""
Choose parameters by cross-validation
=====================================

`GridSearchCV` over a `Pipeline` of featurizer and retriever: which pooling, and which pyramid of parts, finds most of
the images that belong together?
"""

# %%
# A small labelled set
# --------------------
#
# Six crops of each of eight photographs, at random places. Crops of one photograph are a class. They share little but
# material and light, so this is harder than finding copies.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer, retrieve
from sklearn_psp.datasets import load_photographs

photographs = load_photographs()
rng = np.random.default_rng(0)
images, labels = [], []
for name in ["astronaut", "brick", "chelsea", "coffee", "flower", "grass", "gravel", "tissue"]:
    image = np.asarray(Image.open(photographs.filenames[photographs.target_names.index(name)]).convert("RGB"))
    for _ in range(6):
        top, left = (rng.integers(side - 100) for side in image.shape[:2])
        images.append(image[top : top + 100, left : left + 100])
        labels.append(name)

# %%
# The search
# ----------
#
# `StratifiedKFold(shuffle=True)` puts images of every class into the gallery and among the queries of each fold. The
# score is the retriever's own: mean average precision of the full ranking.

search = Pipeline(
    [
        ("psp", PSPNetFeaturizer(image_size=96, scales=(1.0,), precision="float32", batch_size=8)),
        ("retriever", NearestImageRetriever(n_neighbors=5)),
    ]
)
grid = GridSearchCV(
    search,
    {"psp__pooling": ["avg", "gem", "max"], "psp__bin_sizes": [(1,), (1, 2), (1, 2, 3)]},
    cv=StratifiedKFold(3, shuffle=True, random_state=0),
)
grid = grid.fit(images, labels)
print(grid.best_params_)

# %%
# The results
# -----------
#
# The spread over folds says which differences to take seriously; with so few images, not the small ones.

table = pd.DataFrame(grid.cv_results_)
table["bins"] = table["param_psp__bin_sizes"].astype(str)
table = table.pivot(index="param_psp__pooling", columns="bins", values=["mean_test_score", "std_test_score"])
bins = ["(1,)", "(1, 2)", "(1, 2, 3)"]
means, spreads = table["mean_test_score"][bins], table["std_test_score"][bins]

figure, ax = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
ax.imshow(means, cmap="Blues", vmax=means.to_numpy().max() + 0.02)
ax.set(
    xticks=range(means.shape[1]),
    xticklabels=means.columns,
    yticks=range(means.shape[0]),
    yticklabels=means.index,
    xlabel="bin_sizes",
    ylabel="pooling",
    title="mean average precision, ± over folds",
)
for i, j in np.ndindex(means.shape):
    ax.text(j, i, f"{means.iloc[i, j]:.3f}\n± {spreads.iloc[i, j]:.3f}", ha="center", va="center")
plt.show()

# %%
# `grid` is a fitted search with the best parameters on all images, and searches like any other.

retrieve(grid, [images[0], images[6]], n_neighbors=4)
