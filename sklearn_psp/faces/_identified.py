"""The table of `FaceIdentifier.identify`: faces, boxes, names."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from sklearn_psp._retriever._inputs import own_index
from sklearn_psp.faces._aligner import FaceAligner
from sklearn_psp.faces._describing import Described, describe

__all__ = ["identified_frame"]

_BOX = ["left", "top", "right", "bottom", "confidence"]


def identified_frame(identifier, X, select):
    """Tabulate faces and who they are.

    Parameters
    ----------
    identifier : FaceIdentifier
        Fitted, with people in its gallery.
    X : collection of pictures, or array-like of shape (n_pictures, n_features)
        Pictures.
    select : {"all", "largest", "confident", "error"}
        Which faces of a picture with several.

    Returns
    -------
    DataFrame
        As `FaceIdentifier.identify` promises.
    """
    featurizer = getattr(identifier, "featurizer_", None)
    if isinstance(featurizer, Pipeline) and isinstance(featurizer[0], FaceAligner):
        aligner = clone(featurizer[0]).set_params(select=select, on_error=identifier.on_error)
        chips, faces, errors = aligner._search(X, cut=True, need_face=False)
        faces = faces.loc[faces["selected"], ["picture", *_BOX]].reset_index(drop=True)
        chips = [chip for chip in chips if chip is not None]
        # A centre of one's own, not that of these faces, is what `featurizer[1:]` has.
        described = _described(describe(featurizer[1:], chips), identifier) if chips else None
    else:
        described, errors = identifier._probes(X, as_table=True)
        faces = pd.DataFrame({"picture": np.flatnonzero(described.valid), **dict.fromkeys(_BOX, np.nan)})
        described = _described(described.rows[described.valid], identifier) if described.valid.any() else None
    without = pd.DataFrame({"picture": errors["index"].to_numpy(), **dict.fromkeys(_BOX, np.nan)})
    parts = [
        _with_names(faces, described, identifier),
        _with_names(without, None, identifier).assign(reason=pd.Series(errors["reason"], dtype=object)),
    ]
    faces = pd.concat([part for part in parts if len(part)], ignore_index=True)
    faces = faces.sort_values("picture", kind="stable", ignore_index=True)
    index = own_index(X)
    if index is not None:
        faces["picture"] = index[faces["picture"]]
    return faces


def _described(rows, identifier):
    return Described(rows, identifier.retriever_.effective_metric_)


def _with_names(faces, described, identifier):
    """Add the columns that tell who faces are."""
    n = len(faces)
    columns = {
        "name": np.full(n, None, dtype=object),
        "score": np.full(n, np.nan),
        "probability": np.full(n, np.nan),
        "source": np.full(n, None, dtype=object),
        "runner_up": np.full(n, None, dtype=object),
        "runner_up_score": np.full(n, np.nan),
        "reason": np.full(n, None, dtype=object),
    }
    if described is not None:
        valid = described.valid
        rows = described.rows[valid]
        nearest = identifier._nearest(rows)
        columns["name"][valid] = identifier._named(nearest)
        columns["score"][valid] = identifier._scores(nearest.similarity)
        columns["source"][valid] = identifier.retriever_.metadata_["source"].to_numpy()[nearest.position]
        second = nearest.runner_up >= 0
        columns["runner_up"][np.flatnonzero(valid)[second]] = identifier.people_[nearest.runner_up[second]]
        columns["runner_up_score"][valid] = identifier._scores(nearest.runner_up_similarity)
        if identifier._calibration is not None:
            probabilities = identifier._probabilities(rows)
            columns["probability"][valid] = probabilities[np.arange(len(rows)), nearest.person]
        for row in np.flatnonzero(~valid):
            columns["reason"][row] = described.reason(row)
    return faces.assign(**{name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})
