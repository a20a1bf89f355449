"""
Search photographs with distorted copies of them
================================================

A gallery of twenty photographs is searched with crops, turned, mirrored and badly compressed copies. The nearest
image should be the one that a copy was made from.
"""

# %%
# The gallery
# -----------
#
# The photographs come with scikit-learn and scikit-image; nothing is downloaded. The retriever takes images itself,
# because it is given a featurizer, and a row of metadata for each. (Small images in one scale, and no measuring which
# precision and batch size are fastest here: the example is to run in seconds.)

import matplotlib.pyplot as plt
import pandas as pd

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer
from sklearn_psp.datasets import load_photographs, make_distorted_copies
from sklearn_psp.displays import RetrievalDisplay

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
# How many were found? Once the nearest image counts, once the whole ranking.

best = results[results["rank"] == 1]
print(f"nearest image right: {(best['label'].to_numpy() == copies.target).mean():.0%}")
print(f"mean average precision: {gallery.score(copies.images, copies.target):.3f}")

# %%
# Queries beside what they found
# ------------------------------
#
# One copy of each kind. The image that it was made from has a green frame and a tick. The index of the queries
# gives them their names.

n_kinds = len(set(copies.kind))
shown = [kind + n_kinds * (kind % len(chosen)) for kind in range(n_kinds)]
queries = pd.Series([copies.images[i] for i in shown], index=copies.kind[shown])
RetrievalDisplay.from_estimator(gallery, queries, copies.target[shown], n_neighbors=3, n_queries=n_kinds)
plt.show()

# %%
# The queries that found least
# ----------------------------
#
# Where does the search fail? Close-ups, a sixteenth of the image, are the hardest; here are those of all twenty
# photographs. `select="worst"` looks for the queries of the lowest average precision.

copies = make_distorted_copies(photographs.filenames, photographs.target_names)
close_ups = [i for i, kind in enumerate(copies.kind) if kind == "close-up"]
queries = pd.Series([copies.images[i] for i in close_ups], index=copies.kind[close_ups])
RetrievalDisplay.from_estimator(gallery, queries, copies.target[close_ups], n_neighbors=4, n_queries=4, select="worst")
plt.show()
