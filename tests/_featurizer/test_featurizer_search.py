"""The featurizer among scikit-learn's tools, on real images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from common.photographs import PHOTOGRAPHS, SHARED_DATA, crops
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer, retrieve

FEATURIZER = PSPNetFeaturizer(image_size=96, scales=(1.0,), precision="float32", batch_size=8, device="cpu")
SHUFFLED = StratifiedKFold(2, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A table of files: crops of photographs, with their names and sizes."""
    folder = tmp_path_factory.mktemp("photographs")
    rows = []
    for i, (image, name) in enumerate(zip(*crops(n_crops=5), strict=True)):
        path = folder / f"{name}_{i}.png"
        Image.fromarray(image).save(path)
        rows.append({"path": str(path), "name": name, "bytes": path.stat().st_size})
    return pd.DataFrame(rows, index=[f"image {i}" for i in range(len(rows))])


def test_grid_search_over_featurizer_projection_and_retriever(photographs):
    search = GridSearchCV(
        make_pipeline(
            clone(FEATURIZER),
            LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3),
            NearestImageRetriever(n_neighbors=4),
        ),
        {"pspnetfeaturizer__pooling": ["avg", "max"]},
        cv=SHUFFLED,
    )
    search.fit(photographs["path"], photographs["name"])
    # Mean average precision; at random it would be about a sixth.
    assert (search.cv_results_["mean_test_score"] > 0.9).all()
    assert search.score(photographs["path"], photographs["name"]) > 0.9
    results = retrieve(search, [str(path) for path in PHOTOGRAPHS], 3)
    assert results.query("rank == 1")["label"].tolist() == [path.stem for path in PHOTOGRAPHS]
    assert len(results) == 3 * len(PHOTOGRAPHS)


def test_column_transformer_with_a_path_column(photographs):
    columns = ColumnTransformer(
        [("image", clone(FEATURIZER), ["path"]), ("size", StandardScaler(), ["bytes"])],
        verbose_feature_names_out=True,
    )
    scores = cross_val_score(make_pipeline(columns, RidgeClassifier()), photographs, photographs["name"], cv=SHUFFLED)
    assert scores.min() > 0.8
    rows = columns.fit_transform(photographs)
    assert rows.shape == (len(photographs), 1281)
    np.testing.assert_allclose(rows[:, :1280], clone(FEATURIZER).fit_transform(photographs["path"]), atol=1e-5)


@pytest.mark.parametrize("column", ["path", ["path"]], ids=["Series", "DataFrame"])
def test_column_transformer_gives_a_named_table(photographs, column):
    columns = ColumnTransformer([("image", clone(FEATURIZER), column)]).set_output(transform="pandas")
    frame = columns.fit_transform(photographs)
    assert frame.columns[:2].tolist() == ["image__psp0", "image__psp1"]
    assert frame.index.equals(photographs.index)
    assert (frame.dtypes == np.float32).all()


def test_grid_search_on_a_column_of_photographs():
    folder = SHARED_DATA / "flowers12"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent")
    paths = [path for kind in sorted(folder.glob("train/*"))[:4] for path in sorted(kind.glob("*.jpg"))[:8]]
    assert len(paths) == 32
    table = pd.DataFrame({"path": paths, "label": [path.parent.name for path in paths]})
    search = GridSearchCV(
        make_pipeline(
            ColumnTransformer([("image", clone(FEATURIZER), ["path"])]),
            LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3),
            NearestImageRetriever(),
        ),
        {"columntransformer__image__aggregation": ["sum"]},
        cv=SHUFFLED,
    )
    search.fit(table, table["label"])
    assert search.best_score_ > 0.7  # at random a quarter
