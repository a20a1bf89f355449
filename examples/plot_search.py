"""
Search photographs with distorted copies of them
================================================

A gallery of twenty photographs is searched with crops, turned, mirrored and badly compressed copies. The nearest
picture should be the one that a copy was made from.
"""

# %%
# The gallery
# -----------
#
# The photographs come with scikit-learn and scikit-image; nothing is downloaded. The retriever takes pictures itself,
# because it is given a featurizer, and a row of metadata for each. (Small pictures in one scale, and no measuring which
# precision and batch size are fastest here: the example is to run in seconds.)

import io

import matplotlib.pyplot as plt
from PIL import Image

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer
from sklearn_psp.datasets import load_photographs, make_distorted_copies

photographs = load_photographs()
featurizer = PSPNetFeaturizer(image_size=160, scales=(1.0,), precision="float32", batch_size=8)
gallery = NearestImageRetriever(n_neighbors=3, featurizer=featurizer)
gallery = gallery.fit(
    photographs.filenames,
    photographs.target_names,
    ids=photographs.target_names,
    metadata=photographs.frame[["title", "filename"]],
)

# %%
# The queries
# -----------
#
# Seven copies of each of four photographs. The results are a DataFrame, best first for each query.

chosen = ["china", "chelsea", "coins", "motorcycle"]
positions = [photographs.target_names.index(name) for name in chosen]
copies = make_distorted_copies([photographs.filenames[i] for i in positions], chosen)
results = gallery.retrieve(copies.images)
results.head(6).drop(columns="filename")

# %%
# How many were found? Once the nearest picture counts, once the whole ranking.

best = results[results["rank"] == 1]
print(f"nearest picture right: {(best['label'].to_numpy() == copies.target).mean():.0%}")
print(f"mean average precision: {gallery.score(copies.images, copies.target):.3f}")

# %%
# Queries beside what they found
# ------------------------------
#
# One copy of each kind, and its three nearest pictures. A frame is green where the picture is the right one.

n_kinds = len(set(copies.kind))
shown = [kind + n_kinds * (kind % len(chosen)) for kind in range(n_kinds)]

figure, axes = plt.subplots(len(shown), 4, figsize=(8, 1.7 * len(shown)), layout="constrained")
for row, query in zip(axes, shown, strict=True):
    row[0].imshow(Image.open(io.BytesIO(copies.images[query])).resize((150, 110)))
    row[0].set_title(copies.kind[query], fontsize=9)
    for ax, found in zip(row[1:], results[results["query"] == query].itertuples(), strict=True):
        ax.imshow(Image.open(found.filename).convert("RGB").resize((150, 110)))
        ax.set_title(f"{found.id}, {found.distance:.2f}", fontsize=9)
        for side in ax.spines.values():
            side.set(color="tab:green" if found.label == copies.target[query] else "lightgrey", linewidth=3)
    for ax in row:
        ax.set(xticks=[], yticks=[])
plt.show()
