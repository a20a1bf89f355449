"""
Images in a DataFrame
=====================

A table with a column of images and other columns beside it: described together by a `ColumnTransformer`, searched as
a whole, and the results merged with the table.
"""

# %%
# The table
# ---------
#
# One row a photograph: its file, its subject, and two numbers.

import matplotlib.pyplot as plt
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer, retrieve
from sklearn_psp.datasets import load_photographs

frame = load_photographs().frame.set_index("name")[["filename", "title", "credit"]]
sizes = [Image.open(filename).size for filename in frame["filename"]]
frame["megapixels"] = [width * height / 1e6 for width, height in sizes]
frame["aspect"] = [width / height for width, height in sizes]
frame.drop(columns="filename").head()

# %%
# Describe and search
# -------------------
#
# The descriptor of an image is a vector of unit length. `transformer_weights` says how much the image's proportions
# count beside it. The metadata are the columns that the results should show.

featurizer = PSPNetFeaturizer(image_size=128, precision="float32", batch_size=8)
columns = ColumnTransformer(
    [("image", featurizer, "filename"), ("shape", StandardScaler(), ["aspect"])],
    transformer_weights={"image": 1.0, "shape": 0.1},
)
search = Pipeline([("columns", columns), ("retriever", NearestImageRetriever(n_neighbors=4))])
search = search.fit(
    frame, retriever__ids=frame.index, retriever__metadata=frame[["title", "megapixels"]].reset_index(drop=True)
)

results = retrieve(search, frame.loc[["grass", "moon"]])
results.round({"distance": 2, "megapixels": 2})

# %%
# Each query finds itself first. With None in place of queries every image is searched for in turn, and is not among
# its own results:

pairs = retrieve(search, None, n_neighbors=1)
pairs.sort_values("distance").head().round({"distance": 2, "megapixels": 2})

# %%
# Results are a DataFrame
# -----------------------
#
# Columns of the table that were not given as metadata are merged by the id.

merged = pairs.merge(frame[["aspect"]], left_on="id", right_index=True).merge(
    frame[["aspect"]], left_on="query", right_index=True, suffixes=("_found", "_query")
)
same_way_up = (merged["aspect_found"] > 1) == (merged["aspect_query"] > 1)
print(f"{same_way_up.sum()} of {len(merged)} nearest images are landscape, or not, like the query")

# %%
# The nearest other image of some of them:

shown = pairs.sort_values("distance").head(4)
figure, axes = plt.subplots(2, len(shown), figsize=(9, 4), layout="constrained")
for column, pair in zip(axes.T, shown.itertuples(), strict=True):
    for ax, name in zip(column, (pair.query, pair.id), strict=True):
        ax.imshow(Image.open(frame.loc[name, "filename"]).convert("RGB"))
        ax.set_title(name, fontsize=10)
        ax.set_axis_off()
plt.show()
