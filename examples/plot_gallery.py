"""
A gallery that changes
======================

A gallery of photographs and distorted copies of them: near-duplicates are found, images removed and added, results
filtered and re-ranked, and all of it is saved to a file.
"""

# %%
# The gallery holds the photographs that scikit-learn and scikit-image bring, with metadata, under ids of our own.
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer, load, save
from sklearn_psp.datasets import load_photographs, make_distorted_copies
from sklearn_psp.displays import RetrievalDisplay

photographs = load_photographs()
names = np.asarray(photographs.target_names)
sizes = [Image.open(path).size for path in photographs.filenames]
metadata = pd.DataFrame({"width": [w for w, _ in sizes], "kind": "original"})
gallery = NearestImageRetriever(n_neighbors=5, featurizer=PSPNetFeaturizer(image_size=160))
gallery.fit(photographs.filenames, names, ids=names, metadata=metadata)
gallery.n_samples_fit_

# %%
# Images are added as they come
# -----------------------------
# Five copies of each photograph, described with the featurizer as it is: it is fitted once.
copies = make_distorted_copies(photographs.filenames, photographs.target)
keep = [i for i, kind in enumerate(copies.kind) if kind != "close-up"]
ids = [f"{names[copies.target[i]]}, {copies.kind[i]}" for i in keep]
gallery.partial_fit(
    [copies.images[i] for i in keep],
    names[copies.target[keep]],
    ids=ids,
    metadata=pd.DataFrame({"width": -1, "kind": np.asarray(copies.kind)[keep]}),
)
gallery.n_samples_fit_

# %%
# Near-duplicates
# ---------------
# Mirrored copies are nearly the same image to the network; crops and quarter turns are further away than many a
# look-alike, and no radius tells them apart. Each group has one image that all its others are within the radius of.
groups = gallery.find_duplicates(radius=0.06)
groups.head(8)

# %%
# Images that are not needed are removed by their ids, and not found from then on.
first = groups.groupby("group")["id"].first()
gallery.remove(groups.loc[~groups["id"].isin(first), "id"])
gallery.n_samples_fit_

# %%
# Filters
# -------
# Only originals, by a function of the metadata; then only three images, by their ids.
close_ups = [i for i, kind in enumerate(copies.kind) if kind == "close-up"]
queries, labels = [copies.images[i] for i in close_ups], names[copies.target[close_ups]]
query = queries[6:7]
gallery.retrieve(query, 3, where=lambda table: table["kind"] == "original")

# %%
gallery.retrieve(query, where=["chelsea", "rocket", "coffee"])

# %%
# A better order
# --------------
# A close-up is far from the whole image, but near a crop that is near it: diffusion finds this path.
shown = dict(zip([*names, *ids], [*photographs.filenames, *(copies.images[i] for i in keep)], strict=True))
plain = gallery.score(queries, labels)
RetrievalDisplay.from_estimator(gallery, queries, labels, select="worst", n_queries=3, gallery_images=shown)

# %%
gallery.set_params(reranker="diffusion")
print(f"mean average precision: {plain:.3f} plain, {gallery.score(queries, labels):.3f} with diffusion")
RetrievalDisplay.from_estimator(gallery, queries, labels, select="worst", n_queries=3, gallery_images=shown)

# %%
# A file without pickle
# ---------------------
# Vectors, ids, labels, metadata, settings; of the network its name and the hash of its weights.
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "gallery.skops")
    save(gallery, path)
    print(f"{path.stat().st_size / 2**20:.1f} MiB")
    loaded = load(path)
pd.testing.assert_frame_equal(loaded.retrieve(query), gallery.retrieve(query))
