"""
Train for searching
===================

A trained classifier also serves a search: its `featurizer_` is the trained network with its parts. Here the same
images are searched with features as they are, with projections trained on labels, and with a network whose last stage
was trained.
"""

# %%
# Small pieces of photographs
# ---------------------------
#
# Fourteen small squares of each of twenty photographs. Eight are learned from and are the gallery, six are queries.
# They share little but material and light.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from sklearn_psp import NearestImageRetriever, PSPNetClassifier
from sklearn_psp.datasets import load_photographs
from sklearn_psp.displays import RetrievalDisplay

photographs = load_photographs()
rng = np.random.default_rng(0)
pieces, labels = [], []
for name, filename in zip(photographs.target_names, photographs.filenames, strict=True):
    image = np.asarray(Image.open(filename).convert("RGB"))
    side = min(image.shape[:2]) // 6
    for _ in range(14):
        top, left = (rng.integers(length - side + 1) for length in image.shape[:2])
        pieces.append(image[top : top + side, left : left + side])
        labels.append(name)
learned = np.arange(len(pieces)) % 14 < 8
gallery_pieces = [piece for piece, is_learned in zip(pieces, learned, strict=True) if is_learned]
query_pieces = [piece for piece, is_learned in zip(pieces, learned, strict=True) if not is_learned]
gallery_labels, query_labels = np.asarray(labels)[learned], np.asarray(labels)[~learned]

# %%
# Three models
# ------------
#
# A head alone leaves the features as they are. `reduce_dim` trains a matrix for each level of the pyramid with it.
# `train="last_stage"` trains the last layers of the network for two epochs, in which the pieces are cropped and
# mirrored at random. (Small images, in one scale: the example is to run in seconds.)

small = {"image_size": 96, "scales": (1.0,), "precision": "float32", "random_state": 0}
models = {
    "as they are": PSPNetClassifier(**small),
    "projected": PSPNetClassifier(reduce_dim=128, **small),
    "last stage": PSPNetClassifier(train="last_stage", epochs=2, learning_rate=1e-3, **small),
}
rows, galleries = [], {}
for name, model in models.items():
    model.fit(gallery_pieces, gallery_labels)
    featurizer = model.featurizer_
    galleries[name] = NearestImageRetriever(n_neighbors=4).fit(featurizer.transform(gallery_pieces), gallery_labels)
    found = galleries[name].score(featurizer.transform(query_pieces), query_labels)
    rows.append((name, featurizer.n_features_out_, model.score(query_pieces, query_labels), found))
table = pd.DataFrame(rows, columns=["features", "length", "accuracy", "mean average precision"])
table.round(3)

# %%
# As classifiers the three are much alike: a head ignores what does not matter for the classes. A search with untrained
# features cannot, so it is the search that gains. The projections are the cheaper way, and make
# descriptors short as well. All three know these twenty classes; other classes may gain less.

models["last stage"].history_.round(3)

# %%
# What was found
# --------------
#
# Queries whose neighbours vote for a wrong photograph, with the features as they are:

votes = galleries["as they are"].predict(models["as they are"].featurizer_.transform(query_pieces))
worst = np.flatnonzero(votes != query_labels)[:3]


def show(name):
    """Draw these queries beside what a model's features find."""
    shown = [query_pieces[i] for i in worst]
    RetrievalDisplay.from_estimator(
        galleries[name],
        models[name].featurizer_.transform(shown),
        query_labels[worst],
        n_queries=len(worst),
        n_neighbors=4,
        query_images=shown,
        gallery_images=gallery_pieces,
    )
    plt.show()


show("as they are")

# %%
# And projected. The dark pieces are the background of the flower, which has been learned to belong to it:

show("projected")
